"""The output of a pacer."""

from __future__ import annotations

from typing import Protocol

from xiaozhi.wire.messages import Audio, Playback, Tts


class PacerOutput(Protocol):
    """Carries out a pacer's decisions."""

    def send(self, message: Tts) -> None:
        """Send a message to the device now."""

    def play(self, audio: Audio) -> None:
        """Send a packet to the device now."""

    def report(self, playback: Playback) -> None:
        """Report to the AI how far the device has played."""

    def hold(self) -> None:
        """Ask the AI to pause audio: the queue is long."""

    def release(self) -> None:
        """Let the AI resume audio."""

    def rested(self) -> None:
        """Handle rest: no turn is open, and the queue is empty."""


class _NoOutput:
    """The output of a closed pacer."""

    def send(self, message: Tts) -> None:
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
