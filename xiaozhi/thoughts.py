"""What a model thinks aloud before it answers: not for the person's ears."""

from __future__ import annotations

import re

_NAMES = ("think", "thinking", "thought", "reasoning")
_MARK = re.compile(f"<(/?)(?:{'|'.join(_NAMES)})>", re.I)
_MARKS = tuple(f"<{slash}{name}>" for name in _NAMES for slash in ("", "/"))
_LONGEST = max(map(len, _MARKS))


class ThoughtFilter:
    """Drops ``<think>…</think>`` and its like, however the text is cut into pieces.

    One that is never closed reaches to the end; a closing mark alone is dropped.

    :param begun: it begins with a thought whose first mark is not in the text.
    """

    def __init__(self, *, begun: bool = False) -> None:
        self._held = ""
        self._depth = int(begun)
        self._begun = begun  # and if the mark comes after all, it is that of this thought
        self._trim = False

    def feed(self, text: str) -> str:
        """:return: what may be said already."""
        text = self._held + text
        said: list[str] = []
        at = 0
        for mark in _MARK.finditer(text):
            self._say(text[at : mark.start()], said)
            at = mark.end()
            if mark[1]:
                self._depth = max(0, self._depth - 1)
                # The blank lines after a thought belong to it.
                self._trim = not self._depth
            elif not self._begun:
                self._depth += 1
            self._begun = False
        end = _end_of_plain(text, at)
        self._held = text[end:]
        self._say(text[at:end], said)
        return "".join(said)

    def finish(self) -> str:
        """The text ended: what looked like the start of a mark was none."""
        said: list[str] = []
        self._say(self._held, said)
        self._held = ""
        return "".join(said)

    def _say(self, text: str, said: list[str]) -> None:
        self._begun = self._begun and not text.strip()
        if self._depth:
            return
        if self._trim:
            text = text.lstrip()
            self._trim = not text
        if text:
            said.append(text)


def _end_of_plain(text: str, at: int) -> int:
    """Where the last characters begin that may be the beginning of a mark."""
    begun = text.rfind("<", max(at, len(text) - _LONGEST + 1))
    if begun >= 0 and any(mark.startswith(text[begun:].lower()) for mark in _MARKS):
        return begun
    return len(text)
