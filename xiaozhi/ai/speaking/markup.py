"""Markup out of a model's text: what is left reads well aloud.

Models are asked for plain words and write Markdown all the same. Marks go and their
text stays: of headings, lists, tables, emphasis, inline code, links and pictures. Code
blocks and tags go altogether, an address leaves its host, moods and stage directions
their emoji.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from xiaozhi.ai.speaking.directions import acted, in_brackets, mood

_FENCE = "```"


class CodeFilter:
    """Drops blocks of code, however the text is cut into pieces. One that is never
    closed reaches to the end."""

    def __init__(self) -> None:
        self._held = ""
        self._within = False

    def feed(self, text: str) -> str:
        """:return: what may be said already."""
        parts = (self._held + text).split(_FENCE)
        # The last characters may be the beginning of a fence.
        last = parts[-1]
        kept = len(last) - len(last.rstrip("`"))
        self._held = "`" * kept
        parts[-1] = last[: len(last) - kept]
        said = []
        for number, part in enumerate(parts):
            if number:
                self._within = not self._within
            if not self._within:
                # A block ends the sentence before it.
                said.append(f"\n{part}" if number else part)
        return "".join(said)

    def finish(self) -> str:
        """The text is over. :return: the rest."""
        rest, self._held = self._held, ""
        return "" if self._within else rest


def plain(sentence: str) -> str:
    """A sentence without markup; maybe nothing of it is left.

    :param sentence: one that :class:`~xiaozhi.ai.speaking.sentences.SentenceSplitter` has cut, so
        a mark may be here and its counterpart in another one.
    """
    for pattern, made in _RULES:
        sentence = pattern.sub(made, sentence)
    return sentence.strip()


def _tag(found: re.Match[str]) -> str:
    return mood(found[1]) or ""


def _mood(found: re.Match[str]) -> str:
    shown = mood(found[1])
    return found[0] if shown is None else shown


def _cells(found: re.Match[str]) -> str:
    cells = (cell.strip() for cell in found[0].split("|"))
    return ", ".join(cell for cell in cells if cell.strip(":-"))


def _starred(found: re.Match[str]) -> str:
    """``*laughs*`` is acted, ``*really*`` is stressed."""
    shown = acted(found[1], words_at_most=6)
    return found[1] if shown is None else shown


def _bracketed(found: re.Match[str]) -> str:
    """Only what is a mood or acted goes; anything else in brackets is said."""
    begins = found[0][0] in "[【" or not found.string[: found.start()].strip()
    shown = in_brackets(found[1], tag=begins)
    return found[0] if shown is None else shown


_URL = (
    r"https?://(?:www\.)?((?:[\w-]+\.)*[\w-]+)(?:[:/?#][^\s<>\"'）】」》，。！？；、]*[\w/=&#-])?/?"
)
_Made = str | Callable[[re.Match[str]], str]

# In this order: each sees what those before it have left.
_RULES: list[tuple[re.Pattern[str], _Made]] = [
    (re.compile(pattern, re.I), made)
    for pattern, made in (
        (r"<!--.*?-->", ""),
        (r"!?\[([^\[\]]*)\]\([^()]*\)", r"\1"),
        (r"\[([^\[\]]+)\]\[[^\[\]]*\]", r"\1"),
        (r"\[\^[^\[\]]+\]:?", ""),
        # Halves of a link whose text holds the end of a sentence.
        (r"\]\([^()\s]*\)|\[(?![^\[\]]*\])", ""),
        (r"^([^\[\]]*)\]", r"\1"),
        (rf"<({_URL})>", r"\1"),
        (r"</?([a-z\u4e00-\u9fff][\w:-]*)(?:\s[^<>]*)?/?>", _tag),
        (r"\{\s*\"(?:emotion|mood)\"\s*:\s*\"([^\"]+)\"\s*\}", _mood),
        (
            r"^\s*(?:emotion|mood|情绪|表情|心情)\s*[:：=]\s*[\"'\[]?(\w+)[\"'\]]?\s*[,，;；。.|]?",
            _mood,
        ),
        (_URL, r"\1"),
        # A rule, the underline of a heading, the ruler of a table.
        (r"^\s*(?:[-*_=]\s*){3,}$", ""),
        (r"^\s*\|.*|.*\|\s*$", _cells),
        (r"^(?:\s*(?:#{1,6}|>+|[*+•·-])\s+)+", ""),
        (r"(?<!\d)\*{2,}(?=\S)|(?<=\S)\*{2,}(?!\d)", ""),
        (r"(?<![\w*])\*(?!\s)([^*]{1,80})\*(?![\w*])", _starred),
        # One whose counterpart is in another sentence.
        (r"^\*(?![\s*])([^*]{1,80})$", _starred),
        (r"(?<!\S)\*(?=\S)|(?<=[^\s\d])\*(?!\S)", ""),
        (r"~~|`|\\[()\[\]]|\$\$", ""),
        (r"(?<!\w)__(?=\S)|(?<=\S)__(?!\w)", ""),
        (r"(?<!\w)_(?!\s)([^_]+)_(?!\w)", r"\1"),
        (r"(?<![\w$])\$([^\s$\d][^$]*)\$(?!\w)", r"\1"),
        (r"[(（\[【]([^()（）\[\]【】]{1,40})[)）\]】]", _bracketed),
        # Faces made of signs.
        (r"(?<![\w(（])(?:[:;]-?[)(DP|]|\^[_.o-]?\^|T_T|>_<|-_-|<3)(?!\w)", ""),
        (r"[ \t]{2,}", " "),
    )
]
