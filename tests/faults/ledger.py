"""A record of everything that the devices of a test sent and received."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from tests.faults.account import Account, Entry, Kind, Rules, usual_lengths

STRICT = Rules()


class Ledger:
    """The lines of all devices.

    :param clock: seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._opened = clock()
        self.devices: defaultdict[int, list[Entry]] = defaultdict(list)

    @property
    def now(self) -> float:
        """Seconds since the ledger was opened."""
        return self._clock() - self._opened

    def note(
        self, device: int, kind: Kind, number: int = 0, amount: int = 0, words: str = ""
    ) -> None:
        """Write a line."""
        self.devices[device].append(Entry(self.now, kind, number, amount, words))

    def count(self, kind: Kind) -> int:
        """Return the number of lines of this kind, of all devices."""
        return sum(entry.kind is kind for lines in self.devices.values() for entry in lines)

    def numbers(self, kind: Kind) -> list[tuple[int, int]]:
        """Return device and number of each line of this kind."""
        return [
            (device, entry.number)
            for device, lines in self.devices.items()
            for entry in lines
            if entry.kind is kind
        ]

    def faults(self, rules: Rules = STRICT, devices: Sequence[int] = ()) -> list[str]:
        """Return all faults, one line each; empty: none.

        :param devices: check only these.
        """
        accounts = {
            device: Account(device, self.devices[device])
            for device in devices or sorted(self.devices)
        }
        usual = usual_lengths(accounts.values())
        return [fault for account in accounts.values() for fault in account.faults(rules, usual)]
