"""Filter for the sound of an alert in the device's microphone."""

from __future__ import annotations

from xiaozhi.wire.opus import packet_ms

# Seconds after an alert in which its sound may begin to arrive: the network both ways, and
# the sound that the device plays first.
_LATE = 1.0

# Length in ms of a packet that does not contain its own.
_PACKET = 60.0


class AlertSound:
    """Keeps the sound of an alert away from the recogniser.

    Firmware plays a loud sound of about 0.8 s for every ``alert`` (§4.2), often just when its
    microphone opens. The first packets after an alert are dropped, counted in seconds of
    sound, but not packets that arrive long after it.

    :param seconds: seconds of sound to drop after an alert; 0: keep all.
    :ivar expected: whether the sound of an alert may still arrive.
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
        """Return whether a packet may contain that sound and must be dropped."""
        if now >= self._until:
            self.expected = False
            return False
        self._left -= packet_ms(packet) or _PACKET
        self.expected = self._left > 0
        return True

    def pressed(self) -> None:
        """Keep all sound from now on: a person has pressed the button."""
        self.expected = False
