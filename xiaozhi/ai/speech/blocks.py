"""Removal of text that is not prose: code blocks, HTML blocks, raw data.

They are removed before the text is cut into sentences, because they span sentences.
"""

from __future__ import annotations

import html
import re

# HTML elements that end a line.
_BREAKS = (
    "br|p|div|li|ul|ol|dl|dt|dd|tr|table|thead|tbody|hr|h[1-6]|summary|details|blockquote"
    "|section|article|header|footer|center|figure|figcaption|option|select|form"
)
_DROPPED = "script|style|pre|svg|iframe|textarea"
_TAG = re.compile(rf"<(/?)({_BREAKS}|({_DROPPED}))(?:\s[^<>]{{0,200}})?/?>", re.I)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")
_PART_OF_ENTITY = re.compile(r"&(?:#(?:[xX][0-9A-Fa-f]{0,6}|\d{0,7})|[A-Za-z][A-Za-z0-9]{0,30})?")
_MARK = re.compile(r"[`~<&]")
_NAMES = sorted({*_BREAKS.replace("h[1-6]", "h1|h2|h3|h4|h5|h6").split("|"), *_DROPPED.split("|")})
_PARTIAL = re.compile(r"</?([A-Za-z][A-Za-z0-9]*)?(\s[^<>]{0,200})?/?")
_COMMENT, _END = "<!--", "-->"
# A run without spaces. If it has more than letters and is long, it is an address or data.
_RUN = re.compile(r"[!#-'*+,\-./0-9:;=?@A-Z\\^_a-z|~]+")
_LONGEST = 120


class BlockFilter:
    """Drops code blocks (``` ``` ``` and ``~~~``), comments and scripts from streamed text.

    HTML blocks become lines, entities become characters. Only the beginning of a very long
    address or of data remains. A block that is never closed extends to the end of the text.
    The output does not depend on how the text is split into pieces.
    """

    def __init__(self) -> None:
        self._held = ""
        self._within = ""
        self._blank = True  # the current line so far
        self._run = 0
        self._mixed = False  # the run has more than letters

    def feed(self, text: str) -> str:
        """Add text.

        :return: filtered text that is final.
        """
        return self._filtered(text, over=False)

    def finish(self) -> str:
        """End the text.

        :return: the rest of the filtered text.
        """
        return self._filtered("", over=True)

    def _filtered(self, text: str, *, over: bool) -> str:
        text, self._held = self._held + text, ""
        said: list[str] = []
        at = 0
        while at < len(text):
            found = (_MARK.search if self._within != _COMMENT else _DASH.search)(text, at)
            start = found.start() if found else len(text)
            self._plain(text[at:start], said)
            at = start
            if at == len(text):
                break
            if not over and self._may_become(text[at:]):
                self._held = text[at:]
                break
            at += self._mark(text, at, said)
        return "".join(said)

    def _plain(self, text: str, said: list[str]) -> None:
        if not text:
            return
        line = text.rfind("\n")
        self._blank = not text[line + 1 :].strip() and (self._blank or line >= 0)
        if not self._within:
            said.append(self._shortened(text))

    def _shortened(self, text: str) -> str:
        """Cut addresses and data to their first ``_LONGEST`` characters."""
        kept: list[str] = []
        at = 0
        for run in _RUN.finditer(text):
            if run.start() > at:
                self._run, self._mixed = 0, False
            kept.append(text[at : run.start()])
            at = run.end()
            for char in run[0]:
                self._run += 1
                self._mixed = self._mixed or not char.isalpha()
                if self._run <= _LONGEST or not self._mixed:
                    kept.append(char)
        if at < len(text):
            kept.append(text[at:])
            self._run, self._mixed = 0, False
        return "".join(kept)

    def _may_become(self, tail: str) -> bool:
        """Return whether the text may be the beginning of a mark."""
        if self._within == _COMMENT:
            return _END.startswith(tail)
        if tail[0] in "`~":
            return tail in ("`", "``", "~", "~~") or (tail[0] == "~" and not tail.strip("~"))
        if tail[0] == "&":
            return _PART_OF_ENTITY.fullmatch(tail) is not None
        if _COMMENT.startswith(tail):
            return True
        found = _PARTIAL.fullmatch(tail)
        if found is None:
            return False
        name = (found[1] or "").lower()
        return name in _NAMES if found[2] else any(each.startswith(name) for each in _NAMES)

    def _mark(self, text: str, at: int, said: list[str]) -> int:
        """Process the mark at an index.

        :return: its length.
        """
        if self._within == _COMMENT:
            if text.startswith(_END, at):
                self._within = ""
                return len(_END)
            return 1
        if text[at] == "&" and (entity := _ENTITY.match(text, at)):
            self._plain(html.unescape(entity[0]).replace("\xa0", " "), said)
            return len(entity[0])
        if text[at] == "<":
            return self._angle(text, at, said)
        fence = text[at] * 3
        # "~~~" is a fence only at the start of a line; elsewhere it may be strikethrough.
        if text.startswith(fence, at) and (fence == "```" or self._blank):
            if self._within in ("", fence):
                self._within = "" if self._within else fence
                # A block ends the sentence before it.
                said.append("\n")
                self._blank = False
            length = 3
            while fence == "~~~" and text.startswith("~", at + length):
                length += 1
            return length
        self._plain(text[at], said)
        return 1

    def _angle(self, text: str, at: int, said: list[str]) -> int:
        if not self._within and text.startswith(_COMMENT, at):
            self._within = _COMMENT
            return len(_COMMENT)
        found = _TAG.match(text, at)
        if found is None or self._within[:1] in ("`", "~"):
            self._plain(text[at], said)
            return 1
        if found[3]:
            name = found[3].lower()
            if found[1]:
                self._within = "" if self._within == name else self._within
            elif not self._within and not found[0].endswith("/>"):
                self._within = name
        if not self._within:
            said.append("\n")
            self._blank = True
        return len(found[0])


_DASH = re.compile("-")
