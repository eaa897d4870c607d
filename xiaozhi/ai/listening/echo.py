"""Echo guard: keeps the assistant from answering its own voice."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

#: Time since our last sound for an utterance by button: it is never an echo.
NEVER = float("inf")

# Consecutive failures that still double the time; about 90 s with the default gap.
_MOST = 5


class EchoGuard:
    """Detects utterances that may be our own voice or the sound of an alert.

    The microphone hears the loudspeaker, so our sound can become an utterance. If recognition
    of it fails, a spoken apology would become the next one, in an endless loop. After one
    apology, a failed utterance is therefore not answered aloud if it began within ``gap``
    seconds of our own sound. Each further failure doubles that time; recognised words reset it.

    :param gap: seconds after our sound in which an utterance may be its echo.
    """

    def __init__(self, clock: IReactorTime, gap: float) -> None:
        self._clock = clock
        self._gap = gap
        self._failures = 0
        self._sounded = -NEVER
        self._said = ""

    def sounded(self) -> None:
        """Note that the device has played sound up to now."""
        self._sounded = self._clock.seconds()

    def said(self, words: str) -> None:
        """Note words that the service says by itself, for comparison with an echo."""
        self._said = _bare(words)

    def after(self, began: float) -> float:
        """Return the seconds from the device's last sound to the beginning of an utterance;
        negative if the sound ended after it.

        :param began: beginning of the utterance on the clock.
        """
        return began - self._sounded

    def failed(self, after: float) -> bool:
        """Note that recognition of an utterance failed.

        :param after: see :meth:`after`.
        :return: whether to apologise aloud.
        """
        close = self._failures and after < self._gap * 2 ** (self._failures - 1)
        self._failures = min(self._failures + 1, _MOST)
        return not close

    def understood(self, words: str, after: float) -> bool:
        """Note recognised words.

        :param after: see :meth:`after`.
        :return: False if they are an echo of our own words.
        """
        bare = _bare(words)
        if after < self._gap and bare and bare in self._said:
            return False
        self._failures = 0
        return True


def _bare(words: str) -> str:
    return "".join(char for char in words.casefold() if char.isalnum())
