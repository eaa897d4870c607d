"""Acoustic echo: a device whose microphone hears its own loudspeaker."""

from __future__ import annotations

from array import array
from collections.abc import Callable

from xiaozhi.audio import OpusDecoder
from xiaozhi.device import events as e
from xiaozhi.testing.house import House, Visitor

_RATE = 16000

# Sound of an alert, as the firmware plays it: 0.8 s at full volume.
_ALERT = array("h", (30000 if at // 20 % 2 else -30000 for at in range(_RATE * 8 // 10)))


class Leak:
    """Feeds the device's loudspeaker into its microphone, attenuated and delayed.

    :param level: amplitude at the microphone relative to the loudspeaker, e.g. 0.02.
    :param delay: seconds, including the network.
    """

    def __init__(self, house: House, visitor: Visitor, level: float, delay: float = 0.1) -> None:
        self._house = house
        self._visitor = visitor
        self._level = level
        self._delay = delay
        self._decoder = OpusDecoder(_RATE)
        self._seen = 0

    def run(self, seconds: float) -> None:
        """Advance time in steps of 20 ms."""
        for _ in range(round(seconds / 0.02)):
            self._house.run(0.02)
            events = self._visitor.events[self._seen :]
            self._seen = len(self._visitor.events)
            for _, event in events:
                if isinstance(event, e.PacketPlayed):
                    self._later(self._decoder.decode(event.payload))
                elif isinstance(event, e.Alerted):
                    self._later(_ALERT.tobytes())

    def _later(self, pcm: bytes) -> None:
        quiet = array("h", (round(sample * self._level) for sample in array("h", pcm)))
        say: Callable[[bytes], object] = self._visitor.device.microphone.say
        self._house.clock.callLater(self._delay, say, quiet.tobytes())
