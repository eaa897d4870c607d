"""Echo guard: keeps the assistant from answering its own voice."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

#: Of what a person says by a button: it is no echo.
NEVER = float("inf")

# Failures in a row after which the wait does not get longer: some 90 s with the defaults.
_MOST = 5


class EchoGuard:
    """Tells whether an utterance may be our own voice, or the sound of an alert.

    A microphone hears the loudspeaker, and what it hears becomes an utterance. If that
    cannot be recognised, an apology would be heard again, and so on without end. So after
    one apology, an utterance that follows our own sound closely and fails, too, is not
    answered aloud; each time that it fails, the time counted as close doubles, until words
    have been understood.

    :param gap: seconds from our sound to an utterance that may be its echo.
    """

    def __init__(self, clock: IReactorTime, gap: float) -> None:
        self._clock = clock
        self._gap = gap
        self._failures = 0
        self._sounded = -NEVER
        self._said = ""

    def sounded(self) -> None:
        """Note that the device has made a sound until now."""
        self._sounded = self._clock.seconds()

    def said(self, words: str) -> None:
        """Note words that the server says by itself."""
        self._said = _bare(words)

    def after(self, began: float) -> float:
        """Seconds from the device's last sound to an utterance; below 0: it went on
        beyond its beginning.

        :param began: when it began, on the clock.
        """
        return began - self._sounded

    def failed(self, after: float) -> bool:
        """Note an utterance that was not recognised.

        :param after: see :meth:`after`.
        :return: whether to say so aloud.
        """
        close = self._failures and after < self._gap * 2 ** (self._failures - 1)
        self._failures = min(self._failures + 1, _MOST)
        return not close

    def understood(self, words: str, after: float) -> bool:
        """Words were recognised.

        :return: whether a person may have said them.
        """
        bare = _bare(words)
        if after < self._gap and bare and bare in self._said:
            return False
        self._failures = 0
        return True


def _bare(words: str) -> str:
    return "".join(char for char in words.casefold() if char.isalnum())
