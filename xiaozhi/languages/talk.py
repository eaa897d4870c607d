"""The language a session's talk is in."""

from __future__ import annotations

from collections.abc import Callable


class TalkLanguage:
    """Kept from turn to turn, for what is said and shown without words of the person.

    :param default: BCP 47, before anything is known.
    :param tell: called with the language when it is known, and when it changes.
    :ivar current: BCP 47.
    """

    def __init__(self, default: str, tell: Callable[[str], None] = lambda _: None) -> None:
        self.current = default
        self._known = False
        self._tell = tell

    def adopt(self, language: str) -> None:
        """The talk goes on in this language."""
        if language and (language != self.current or not self._known):
            self.current, self._known = language, True
            self._tell(language)

    def assume(self, language: str) -> None:
        """An earlier talk was in this language; what is known of this one wins."""
        if not self._known:
            self.current = language
