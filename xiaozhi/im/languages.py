"""The language each device's last talk was in."""

from __future__ import annotations

from collections import OrderedDict

# Devices that are remembered; beyond, the one not heard of for longest is forgotten.
_MOST = 65_536
# Characters of a language tag; longer ones are no BCP 47 that anybody uses.
_LONGEST = 35


class Languages:
    """Remembers what the AI service has told, beyond a device's connection.

    :param default: BCP 47, of devices nothing is known about.
    """

    def __init__(self, default: str) -> None:
        self._default = default
        self._known: OrderedDict[str, str] = OrderedDict()

    def of(self, device_id: str) -> str:
        """The language of a device's last talk, or the default."""
        return self._known.get(device_id, self._default)

    def learn(self, device_id: str, language: str) -> None:
        """A device's talk is in this language from now on."""
        self._known.pop(device_id, None)
        self._known[device_id] = language[:_LONGEST]
        if len(self._known) > _MOST:
            self._known.popitem(last=False)
