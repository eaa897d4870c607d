"""Where a pacer's decisions go."""

from __future__ import annotations

from typing import Protocol

from xiaozhi.wire.messages import Audio, Playback, Tts


class PacerOutput(Protocol):
    """Where a pacer's decisions go."""

    def tell(self, message: Tts) -> None:
        """To the device, now."""

    def play(self, audio: Audio) -> None:
        """To the device, now."""

    def report(self, playback: Playback) -> None:
        """To the AI: what the device got to play."""

    def hold(self) -> None:
        """Enough waits here: ask the AI to hold audio back."""

    def release(self) -> None:
        """The AI may go on."""

    def rested(self) -> None:
        """Nothing is open and nothing waits any more."""


class _NoOutput:
    """The output of a closed pacer."""

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


NO_OUTPUT: PacerOutput = _NoOutput()
