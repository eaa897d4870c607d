"""Takes the place of a link that is over, where its parts call it back.

So the parts of a link do not refer to it any more, nor to each other in circles, and all
are gone with the socket: nothing waits for the garbage collector, which comes seldom.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xiaozhi.wire.messages import Audio, Device, Listen, Playback, Tts


class _NoOutput:
    """A ``PacerOutput`` to nowhere."""

    def tell(self, message: Tts) -> None:
        pass

    def play(self, audio: Audio) -> None:
        pass

    def report(self, playback: Playback) -> None:
        pass

    def hold(self) -> None:
        pass

    def release(self) -> None:
        pass

    def rested(self) -> None:
        pass


class _NoLink:
    """A ``Departing`` that has departed."""

    device = Device("", "", "")

    def depart(self, code: str) -> None:
        pass

    def forsaken(self) -> None:
        pass

    def microphone(self) -> Listen | None:
        return None

    def retract(self, unwanted: Callable[[Any], bool]) -> None:
        pass


NO_OUTPUT = _NoOutput()
NO_LINK = _NoLink()


def nothing(*args: Any) -> None:
    """In place of any callback."""
