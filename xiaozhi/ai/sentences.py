"""A model's tokens → sentences to be spoken one at a time.

The first clause goes out early, so that the device begins to speak; after it
whole sentences, which sound better.
"""

from __future__ import annotations

import re

# Ends a sentence wherever it stands.
_WIDE = "。！？；…\n"
# Ends one only before a space or the end: "3.5", "example.org", "e.g.".
_NARROW = ".!?"
_CLAUSE = "，、,;:：—"
_CLOSING = "\"'”’）)】」』》"
_OPENING = "“‘（(【「『《"
_ABBREVIATION = re.compile(
    r"(?:\b(?:[A-Za-z]|Mr|Mrs|Ms|Dr|Prof|St|Nr|No|vs|etc|bzw|ca|usw|approx)|\b\d+)$", re.I
)


class SentenceSplitter:
    """Cuts a stream of text.

    :param first_clause: characters after which the first cut may fall on a comma.
    :param longest: characters after which a cut falls on any space.
    """

    def __init__(self, first_clause: int = 12, longest: int = 200) -> None:
        self._buffer = ""
        self._first_clause = first_clause
        self._longest = longest
        self._first = True

    def feed(self, text: str) -> list[str]:
        """:return: the sentences that are complete now."""
        self._buffer += text
        sentences = []
        while (end := self._cut()) is not None:
            sentence = self._buffer[:end].strip()
            self._buffer = self._buffer[end:]
            if sentence:
                sentences.append(sentence)
                self._first = False
        return sentences

    def flush(self) -> list[str]:
        """The text is over. :return: what was left, if anything."""
        rest, self._buffer = self._buffer.strip(), ""
        self._first = True
        return [rest] if rest else []

    def _cut(self) -> int | None:
        buffer = self._buffer
        # No further than a cut may fall: a model can send all of a long text at once.
        for at, char in enumerate(buffer[: self._longest]):
            if (char in _WIDE and not self._may_close(at)) or (
                char in _NARROW and self._ends_sentence(at)
            ):
                return self._past_closing(at + 1)
            if self._first and char in _CLAUSE and self._ends_clause(at):
                return at + 1
        if len(buffer) > self._longest:
            space = buffer.rfind(" ", 0, self._longest)
            return space + 1 if space > 0 else self._longest
        return None

    def _ends_clause(self, at: int) -> bool:
        buffer = self._buffer
        # Ideographs say more per character.
        wide = at > 0 and buffer[at - 1] >= "\u2e80"
        if at < (self._first_clause // 2 if wide else self._first_clause):
            return False
        # "1,000" and "12:30" are no clauses, and the next character may tell.
        return at + 1 < len(buffer) and not buffer[at + 1].isdigit()

    def _may_close(self, at: int) -> bool:
        """Whether the next character, not here yet, may close an open quote."""
        sentence = self._buffer[: at + 1]
        opened = sum(map(sentence.count, _OPENING))
        return at + 1 == len(self._buffer) and opened > sum(map(sentence.count, _CLOSING[2:]))

    def _ends_sentence(self, at: int) -> bool:
        buffer = self._buffer
        if at + 1 >= len(buffer) or buffer[at + 1] not in _CLOSING + " \n":
            return False
        return buffer[at] != "." or not _ABBREVIATION.search(buffer[:at])

    def _past_closing(self, end: int) -> int:
        while end < len(self._buffer) and self._buffer[end] in _CLOSING + " " + _WIDE:
            end += 1
        return end
