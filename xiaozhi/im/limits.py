"""How much a device may send."""

from __future__ import annotations

from xiaozhi.im.settings import LimitSettings


class Allowance:
    """Two token buckets, messages and bytes, filled by the clock; and patience
    with malformed messages.

    :ivar malformed: all there were.
    :ivar malformed_in_a_row: to be set to 0 by a good one.
    """

    __slots__ = (
        "_at",
        "_bytes",
        "_messages",
        "_settings",
        "malformed",
        "malformed_in_a_row",
    )

    def __init__(self, settings: LimitSettings, now: float) -> None:
        self._settings = settings
        self._messages = float(settings.message_burst)
        self._bytes = float(settings.byte_burst)
        self._at = now
        self.malformed = 0
        self.malformed_in_a_row = 0

    def forgive(self) -> bool:
        """A malformed message came. False: it is one too many in a row."""
        self.malformed += 1
        self.malformed_in_a_row += 1
        return self.malformed_in_a_row <= self._settings.malformed_in_a_row

    def admit(self, now: float, size: int) -> bool:
        """Take one message of ``size`` bytes out; False: it is too much."""
        settings = self._settings
        passed = now - self._at
        # A clock set back gives nothing and costs nothing.
        passed = passed if passed > 0.0 else 0.0
        self._at = now
        messages = self._messages + passed * settings.messages_per_second
        if messages > settings.message_burst:
            messages = settings.message_burst
        octets = self._bytes + passed * settings.bytes_per_second
        if octets > settings.byte_burst:
            octets = settings.byte_burst
        self._messages = messages - 1.0
        self._bytes = octets - size
        return messages >= 1.0 and octets >= size
