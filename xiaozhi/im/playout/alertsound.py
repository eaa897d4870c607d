"""The sound that a device makes for an alert, picked up by its own microphone."""

from __future__ import annotations

from xiaozhi.wire.opus import packet_ms

# Seconds by which the sound may reach us later than the alert left: the network, both
# ways, and what the device plays before it.
_LATE = 1.0

# Length of a packet that does not tell it, in ms.
_PACKET = 60.0


class AlertSound:
    """Keeps the sound of an alert away from the recogniser.

    Firmware plays a loud sound of some 0.8 s for every ``alert`` (§4.2), often just when
    its microphone opens. The first packets that come after an alert are dropped, counted
    in sound; those that come much later than the alert are not.

    :param seconds: of sound to drop after an alert; 0: keep all.
    :ivar expected: the sound of an alert may still come.
    """

    __slots__ = ("_left", "_seconds", "_until", "expected")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._left = self._until = 0.0
        self.expected = False

    def begins(self, now: float) -> None:
        """Note that an alert was sent."""
        if self._seconds:
            self._left = self._seconds * 1000
            self._until = now + self._seconds + _LATE
            self.expected = True

    def covers(self, packet: bytes, now: float) -> bool:
        """Whether a packet from the microphone may hold that sound: then drop it."""
        if now >= self._until:
            self.expected = False
            return False
        self._left -= packet_ms(packet) or _PACKET
        self.expected = self._left > 0
        return True

    def pressed(self) -> None:
        """Keep all sound from now on: a person holds the button."""
        self.expected = False
