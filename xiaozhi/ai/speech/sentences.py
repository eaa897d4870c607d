"""Split a model's streamed text into sentences, to be spoken one at a time.

The first clause is emitted early, so that the device starts to speak soon; after it come
whole sentences, which sound better. The cuts depend on the characters alone, not on how the
text is split into pieces: if the next character decides, the splitter waits for it.
"""

from __future__ import annotations

import re
from bisect import bisect_left

from xiaozhi.ai.speech.abbreviations import LEADING, UNDECIDED, ends
from xiaozhi.languages.graphemes import extends, is_boundary

# Always end a sentence.
_WIDE = "。！？；｡．‼⁇⁈⁉؟۔।॥"
# End a sentence only before a new word, unlike in "3.5", "example.org", "e.g.".
_NARROW = ".!?"
_ELLIPSIS = "…"
_CLAUSE = "，、､,;:：—–"
# 「行こう。」と言った: after a quotation, these continue the sentence.
_CONTINUES = "とっをがのなで"
_CLOSING = "\"'”’»)）]】」』》〉›“"
_OPENING = "“‘„«(（[【「『《〈‹{"
# “ closes a German quotation opened by „; elsewhere it opens one.
_CLOSED_BY = {"”": "“", "’": "‘", "»": "«", ")": "(", "）": "（", "]": "[", "】": "【"}
_CLOSED_BY |= {"」": "「", "』": "『", "》": "《", "〉": "〈", "›": "‹", "}": "{"}

_LAST_WORD = re.compile(r"[^\s(\[\"'“„«/—–\u2e80-\uffff]*$")
# Maximum length of the word before a full stop, and of a run of signs and spaces.
_WORD, _RUN = 40, 64
# Emphasis; it may close after the end of a sentence.
_MARKS = "*_"
_DEPTH = 8


class SentenceSplitter:
    """Splits a stream of text into sentences.

    An ideograph counts as two characters, as it takes about as long to say.

    :param first_clause: minimum length of the first cut at a comma.
    :param longest: length after which the text is cut at any space, or anywhere.
    """

    def __init__(self, first_clause: int = 12, longest: int = 200) -> None:
        self._first_clause = first_clause
        self._longest = longest
        self._buffer = ""
        self._first = True
        # Open brackets and quotes, across sentences. Bound: _DEPTH.
        self._open: list[str] = []
        self._begin()

    def feed(self, text: str) -> list[str]:
        """Add text.

        :return: the sentences that are complete now.
        """
        self._buffer += text
        return self._sentences(over=False)

    def flush(self) -> list[str]:
        """End the text.

        :return: the remaining sentences.
        """
        sentences = self._sentences(over=True)
        rest, self._buffer = self._buffer.strip(), ""
        self._begin()
        self._open.clear()
        self._first = True
        return [*sentences, rest] if rest else sentences

    def _begin(self) -> None:
        # Scan state of the sentence: the position, the length at each position, and the end
        # of a run of signs that end no sentence.
        self._at = 0
        self._lengths: list[int] = []
        self._passed = 0
        self._stars = 0

    def _sentences(self, *, over: bool) -> list[str]:
        sentences = []
        start = 0
        # The buffer is cut once, after the loop.
        buffer = self._buffer
        while (end := self._cut(start, over)) is not None:
            sentence = buffer[start:end].strip()
            start = end
            self._begin()
            if sentence:
                sentences.append(sentence)
                self._first = False
        self._buffer = buffer[start:]
        return sentences

    def _cut(self, start: int, over: bool) -> int | None:
        """Return the end of the sentence that begins at ``start``; None: not known yet."""
        buffer = self._buffer
        while start + self._at < len(buffer):
            at = start + self._at
            char = buffer[at]
            length = (self._lengths[-1] if self._lengths else 0) + (2 if char >= "\u2e80" else 1)
            if length > self._longest:
                return self._forced(start, at, over)
            end = self._end(start, at, length, over) if self._at >= self._passed else None
            if end is not None:
                # -1: the next characters decide.
                if end >= 0:
                    for closed in buffer[at:end]:
                        self._note(closed)
                return end if end >= 0 else None
            self._lengths.append(length)
            self._note(char)
            self._stars += char == "*"
            self._at += 1
        return None

    def _note(self, char: str) -> None:
        if char in _CLOSED_BY:
            if self._open and self._open[-1] == _CLOSED_BY[char]:
                self._open.pop()
        elif char == "“" and self._open and self._open[-1] == "„":
            self._open.pop()
        elif char == "\n":
            self._open.clear()
        elif char in _OPENING and len(self._open) < _DEPTH:
            self._open.append(char)

    def _end(self, start: int, at: int, length: int, over: bool) -> int | None:
        """Return the end of the sentence or clause whose last sign is at ``at``; None if none
        ends there, -1 if the next characters decide."""
        buffer = self._buffer
        char = buffer[at]
        if char == "\n":
            return at + 1
        if char in _WIDE or char in _NARROW or char == _ELLIPSIS:
            signs = self._past(at, over)
            end = -1 if signs < 0 else self._sentence_end(start, at, signs, over)
            if end is None:
                self._passed = signs - start
            return end
        # Text in brackets or between stars may be a stage direction: keep it whole.
        whole = not self._open and self._stars % 2 == 0
        if self._first and whole and char in _CLAUSE and length >= self._first_clause:
            return self._clause_end(start, at, over)
        return None

    def _clause_end(self, start: int, at: int, over: bool) -> int | None:
        """As :meth:`_end`, for a clause."""
        buffer = self._buffer
        char, follows = buffer[at], buffer[at + 1 : at + 2]
        if not follows:
            return None if over else -1
        if follows.isspace():
            # Not in "June 12, 2024", "1、" and "B、".
            if not (char in "，,、､" and buffer[at - 1].isdigit()):
                return at + 1
            behind = self._behind(at + 1)
            if behind == len(buffer):
                return None if over else -1
            return None if buffer[behind].isdigit() or char in "、､" else at + 1
        # Not in "1,000", "12:30", "https://" and "Monday–Friday".
        if char in ",;:–":
            return at + 1 if follows >= "\u2e80" and char != "–" else None
        if follows.isdigit() or follows in _CLAUSE or (char in "、､" and self._item(start, at)):
            return None
        return at + 1

    def _item(self, start: int, at: int) -> bool:
        """Return whether the number or letter of a list item precedes this index."""
        word = self._word(start, at)
        return len(word) == 1 or word.isdigit()

    def _behind(self, at: int) -> int:
        """Return the index of the first character from here on that is not a space."""
        buffer, begin = self._buffer, at
        while at < len(buffer) and buffer[at] == " " and at - begin < _RUN:
            at += 1
        return at

    def _past(self, at: int, over: bool) -> int:
        """Return the index after a run of signs that end a sentence and of closing quotes
        after them; -1: the run may continue."""
        buffer = self._buffer
        first = at
        opened = list(self._open)
        while at < len(buffer):
            char = buffer[at]
            if char in _CLOSING and char not in "\"'":
                # An opening quote begins the next sentence.
                pair = _CLOSED_BY.get(char, "„")
                if pair not in opened:
                    return at
                opened.remove(pair)
            elif char in _MARKS:
                # "**Bold.** More", but not "好。**粗**".
                behind = at
                while behind < len(buffer) and buffer[behind] in _MARKS and behind - at < _RUN:
                    behind += 1
                if behind == len(buffer) and not over:
                    return -1
                return behind if not buffer[behind : behind + 1].strip() else at
            elif not (
                char in _WIDE
                or char in _NARROW
                or char == _ELLIPSIS
                or char in "\"'~～"
                or extends(char)
            ):
                return at
            at += 1
            if at - first > _RUN:
                return at
        return at if over else -1

    def _sentence_end(self, start: int, at: int, signs: int, over: bool) -> int | None:
        buffer = self._buffer
        run = buffer[at:signs]
        if any(char in _WIDE for char in run):
            closing = run[-1] in _CLOSING
            if closing and signs == len(buffer):
                return signs if over else -1
            # “走吧！”，他说。
            continues = _CLAUSE + (_CONTINUES if run[-1] in "」』" else "")
            return None if closing and buffer[signs] in continues else signs
        follows = self._behind(signs)
        if follows < len(buffer):
            return signs if self._ends(start, at, run, buffer[signs], buffer[follows]) else None
        if over:
            return signs
        # A space suffices, unless a lower-case letter after it would decide otherwise.
        decided = signs < len(buffer) and not self._depends(start, at, run)
        if not decided:
            return -1
        return signs if self._ends(start, at, run, " ", "A") else None

    def _depends(self, start: int, at: int, run: str) -> bool:
        if _is_pause(run) or run[-1] in _CLOSING:
            return True
        return run[0] == "." and self._word(start, at).casefold() in UNDECIDED

    def _ends(self, start: int, at: int, run: str, behind: str, first: str) -> bool:
        """Return whether a run of narrow signs ends a sentence.

        :param behind: the character after the run.
        :param first: the first character after it that is not a space.
        """
        if not behind.isspace():
            # Also without a space in "OK.好的" and "Hi!How".
            if run[0] in "!?":
                return first >= "\u2e80" or (first.isupper() and not self._addressed(start, at))
            if first < "\u2e80":
                return False
            # But not in "3.5", "A.苹果", "U.S.的" and "Mr.王".
            word = self._word(start, at)
            whole = len(word) == 1 or "." in word or word.casefold() in LEADING
            return _is_pause(run) or not (whole or word[-1:].isdigit())
        # "Really?" he asked. Hm... well.
        if _is_pause(run) or run[-1] in _CLOSING:
            return not first.islower()
        return run[0] != "." or ends(self._word(start, at), first)

    def _word(self, start: int, at: int) -> str:
        found = _LAST_WORD.search(self._buffer, max(start, at - _WORD), at)
        return found[0] if found else ""

    def _addressed(self, start: int, at: int) -> bool:
        """Return whether the index is within a URL such as "https://a.example/?Q=1"."""
        begin = max(start, self._buffer.rfind(" ", start, at))
        return self._buffer.find("://", begin, at) >= 0

    def _forced(self, start: int, at: int, over: bool) -> int | None:
        """Return a cut in a sentence that is too long: at a clause, a space, or between two
        characters."""
        buffer = self._buffer
        half = start + bisect_left(self._lengths, self._longest // 2)
        for place in range(at - 1, half, -1):
            if buffer[place] in _CLAUSE and (
                buffer[place] >= "\u2e80" or buffer[place + 1].isspace()
            ):
                return place + 1
        space = buffer.rfind(" ", start, at + 1)
        if space > start:
            return space + 1
        end = at
        while end > start + 1 and not is_boundary(buffer, end):
            end -= 1
        return end if is_boundary(buffer, end) else at


def _is_pause(run: str) -> bool:
    return run[0] == _ELLIPSIS or run.startswith("..")
