"""The language of a session's conversation."""

from __future__ import annotations

from collections.abc import Callable


class TalkLanguage:
    """Language kept between turns, for texts that do not answer words of the person.

    :param default: BCP 47, until the language is known.
    :param tell: called with the language when it becomes known and when it changes.
    :ivar current: BCP 47.
    """

    def __init__(self, default: str, tell: Callable[[str], None] = lambda _: None) -> None:
        self.current = default
        self._known = False
        self._tell = tell

    def adopt(self, language: str) -> None:
        """Continue the conversation in this language."""
        if language and (language != self.current or not self._known):
            self.current, self._known = language, True
            self._tell(language)

    def assume(self, language: str) -> None:
        """Use the language of an earlier conversation, unless that of this one is known."""
        if not self._known:
            self.current = language
