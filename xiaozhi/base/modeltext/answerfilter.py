"""Separation of a model's text into its answer and the tool calls written into it.

Everything else is dropped: reasoning, other roles' messages, tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from xiaozhi.base.modeltext.markers import (
    Marker,
    MarkerKind,
    cut_off,
    mark_at,
    may_become,
    next_start,
)

# Maximum characters of a call, and of text held back because it may become one.
_CALL_LIMIT = 32_768
_HELD_LIMIT = 4_000
# Harmony whose tokens were lost on the way: "analysisWe need to…assistantfinalHello."
_SQUASHED, _FINAL = "analysis", "assistantfinal"


@dataclass(frozen=True, slots=True)
class WrittenCall:
    """One or more tool calls, as the model wrote them.

    :ivar body: without the marks around it; empty if it was too long.
    :ivar tool: the tool named outside the body; else empty.
    :ivar raw: as it was written.
    :ivar closed: it had an end mark; otherwise an answer may follow in the body.
    :ivar marked: it is certainly a call; otherwise ``raw`` is spoken if it is none.
    """

    body: str
    tool: str = ""
    raw: str = ""
    closed: bool = True
    marked: bool = True


@dataclass(slots=True)
class _Region:
    """The kind of section that an opening mark begins."""

    mark: Marker
    tool: str = ""
    depth: int = 1
    size: int = 0
    raw: list[str] = field(default_factory=list)
    body: list[str] = field(default_factory=list)
    balance: _Balance | None = None

    def take(self, text: str) -> None:
        """Keep what is needed of the region's text."""
        if self.mark.kind in (MarkerKind.THOUGHT, MarkerKind.FOREIGN):
            return
        self.size += len(text)
        if self.size <= _CALL_LIMIT:
            self.raw.append(text)
            self.body.append(text)

    @property
    def words(self) -> str:
        """Return its text; empty if it is too long for a call."""
        return "".join(self.body) if self.size <= _CALL_LIMIT else ""


class _Balance:
    """Finds the end of a JSON value, or of a list of Python calls."""

    def __init__(self) -> None:
        self.closed = False
        self._depth = 0
        self._quote = ""
        self._escaped = False

    def end(self, text: str) -> int:
        """Return the index after the value; 0: it continues."""
        for at, char in enumerate(text):
            if self._escaped:
                self._escaped = False
            elif self._quote:
                if char == "\\":
                    self._escaped = True
                elif char == self._quote:
                    self._quote = ""
            elif char == '"':
                self._quote = char
            elif char in "{[":
                self._depth += 1
            elif char in "}]":
                self._depth -= 1
                if self._depth <= 0:
                    self.closed = True
                    return at + 1
        return 0


class AnswerFilter:
    """Separates a text that arrives in arbitrary pieces.

    An unclosed section reaches to the end; a closing mark without an opening one is
    dropped. Words are not joined where text between them was dropped.

    :param begun: the text begins within reasoning whose opening mark is missing.
    :param squashed: harmony tokens may be missing; an initial "a" is held back then.
    """

    def __init__(self, *, begun: bool = False, squashed: bool = True) -> None:
        self._held = ""
        thought = Marker(MarkerKind.THOUGHT, "think", "<", "")
        self._region: _Region | None = _Region(thought) if begun else None
        self._fresh = squashed and not begun  # no text yet
        self._begun = begun  # a later opening mark belongs to this reasoning
        self._trim = False  # blank lines after reasoning belong to it
        self._gap = False  # something was dropped here
        self._last = " "
        self._blank = True  # the line, so far
        self._parts: list[str | WrittenCall] = []

    def feed(self, text: str) -> list[str | WrittenCall]:
        """Add text.

        :return: the text that is safe to speak, and the calls, in order.
        """
        return self._taken_apart(text, over=False)

    def finish(self) -> list[str | WrittenCall]:
        """End the text: a possible start of a mark is plain text. Return the rest."""
        self._taken_apart("", over=True)
        region, self._region = self._region, None
        if region is not None:
            if region.mark.kind is MarkerKind.CALL:
                self._call(region, closed=False)
            elif region.mark.kind in (MarkerKind.FENCE, MarkerKind.BARE):
                self._maybe(region, closed=False)
        parts, self._parts = self._parts, []
        return parts

    def _taken_apart(self, text: str, *, over: bool) -> list[str | WrittenCall]:
        text, self._held = self._held + text, ""
        at = 0
        if self._fresh and (at := self._begins(text, over)) < 0:
            self._held = text
            return []
        while at < len(text):
            region = self._region
            if region is not None and region.mark.name == _SQUASHED:
                end = text.find(_FINAL, at)
                if end < 0:
                    self._held = text[max(at, len(text) - len(_FINAL) + 1) :]
                    break
                self._leave()
                self._begin_line()
                at = end + len(_FINAL)
                continue
            if region is not None and region.balance is not None:
                at = self._balanced(region, region.balance, text, at)
                continue
            start = next_start(text, at)
            if region is not None and region.mark.kind is MarkerKind.HEADER:
                # "<|im_start|>assistant": its line is the header.
                line = text.find("\n", at, start if start >= 0 else len(text))
                if line >= 0:
                    self._text(text[at : line + 1])
                    self._headed(region)
                    at = line + 1
                    continue
            self._text(text[at : start if start >= 0 else len(text)])
            if start < 0:
                break
            plain, begins = region is None, self._blank
            if may_become(text[start:], plain=plain, line_begins=begins):
                if not over:
                    self._held = text[start:]
                    break
                if cut_off(text[start:]):
                    break
            mark = mark_at(text, start, plain=plain, line_begins=begins)
            if mark is None:
                self._text(text[start])
                at = start + 1
            else:
                self._mark(mark)
                at = start + len(mark.text)
                if mark.kind is MarkerKind.BARE:
                    at = start
        if over:
            return []
        parts, self._parts = self._parts, []
        return parts

    def _begins(self, text: str, over: bool) -> int:
        """Process the beginning of the text. Return where to continue; -1: more text is needed."""
        bare = text.lstrip()
        if _SQUASHED.startswith(bare) and not over:
            return -1
        self._fresh = False
        follows = bare[len(_SQUASHED) : len(_SQUASHED) + 1]
        if not bare.startswith(_SQUASHED) or not (follows.isupper() or follows >= "\u2e80"):
            return 0
        self._region = _Region(Marker(MarkerKind.THOUGHT, _SQUASHED, "", ""))
        return len(text) - len(bare) + len(_SQUASHED)

    # --- text ---------------------------------------------------------------------

    def _text(self, text: str) -> None:
        if not text:
            return
        region = self._region
        if region is None:
            self._say(text)
            return
        self._begun = self._begun and not text.strip()
        region.take(text)

    def _say(self, text: str) -> None:
        self._blank = _blank(text, self._blank)
        if self._trim:
            text = text.lstrip()
            self._trim = not text
        if not text:
            return
        if self._gap:
            self._gap = False
            wide = self._last >= "\u2e80" and text[0] >= "\u2e80"
            if text[0].isalnum() and not self._last.isspace() and not wide:
                text = f" {text}"
        self._last = text[-1]
        self._parts.append(text)

    # --- marks --------------------------------------------------------------------

    def _mark(self, mark: Marker) -> None:
        region = self._region
        if region is None:
            self._open(mark)
            return
        kind = region.mark.kind
        if kind is MarkerKind.THOUGHT:
            self._in_thought(region, mark)
        elif kind is MarkerKind.CALL:
            self._in_call(region, mark)
        elif kind is MarkerKind.HEADER:
            self._in_header(region, mark)
        elif kind is MarkerKind.FENCE:
            region.raw.append(mark.text)
            if mark.form == "`":
                self._region = None
                self._maybe(region, closed=True)
            else:
                region.body.append(mark.text)
        elif self._ends_foreign(region, mark):
            self._leave()
            self._open(mark)
        elif mark.kind is MarkerKind.TURN and mark.form == "|" and region.mark.form == "|":
            # The end of that message; the assistant's text may follow, with a header or without.
            self._leave()

    def _ends_foreign(self, region: _Region, mark: Marker) -> bool:
        if mark.kind is MarkerKind.FOREIGN:
            return mark.closing and mark.form == region.mark.form
        ours = mark.kind in (MarkerKind.OURS, MarkerKind.HEADER)
        return ours or (mark.form == "✿" and mark.kind is MarkerKind.CALL)

    def _open(self, mark: Marker) -> None:
        """Process an opening mark in plain text."""
        kind = mark.kind
        if kind is MarkerKind.TURN and mark.form == "`":
            self._say(mark.text)
            return
        if kind in (MarkerKind.BARE, MarkerKind.FENCE):
            self._region = _Region(mark, raw=[mark.text] if kind is MarkerKind.FENCE else [])
            if kind is MarkerKind.BARE:
                self._region.balance = _Balance()
            return
        self._gap = True
        if kind is MarkerKind.OURS or (kind is MarkerKind.THOUGHT and mark.closing):
            self._begin_line()
        if (
            mark.closing
            or mark.empty
            or kind in (MarkerKind.TURN, MarkerKind.OURS, MarkerKind.BODY)
        ):
            self._begun = False
            return
        self._region = region = _Region(mark, raw=[mark.text])
        if (
            kind is MarkerKind.CALL
            and mark.form == "<"
            and (mark.name == "function" or "=" in mark.text)
        ):
            # "<function=name>": the name is in the mark.
            region.body.append(mark.text)

    def _leave(self) -> None:
        self._region = None
        self._gap = True

    def _begin_line(self) -> None:
        self._trim = self._blank = True

    def _in_thought(self, region: _Region, mark: Marker) -> None:
        if region.mark.form == "|" and region.mark.name == "harmony":
            if mark.form == "|" and mark.kind in (
                MarkerKind.HEADER,
                MarkerKind.TURN,
                MarkerKind.CALL,
            ):
                self._leave()
                self._begin_line()
                if mark.kind is MarkerKind.HEADER:
                    self._open(mark)
            return
        if mark.kind is not MarkerKind.THOUGHT or mark.empty:
            return
        if mark.closing:
            region.depth -= 1
            if not region.depth:
                self._leave()
                self._begin_line()
        elif not self._begun:
            region.depth += 1
        self._begun = False

    def _in_call(self, region: _Region, mark: Marker) -> None:
        opened = region.mark
        ends = mark.kind is MarkerKind.TURN and _ends_turn(mark)
        again = mark.kind is MarkerKind.CALL and not mark.closing and _same(mark, opened)
        if opened.form == "✿":
            again = mark.name == "function"
            ends = ends or (mark.form == "✿" and mark.kind is not MarkerKind.CALL)
        elif opened.name == "harmony":
            ends = mark.form == "|" and mark.kind in (
                MarkerKind.HEADER,
                MarkerKind.TURN,
                MarkerKind.CALL,
            )
        elif mark.kind is MarkerKind.CALL and mark.closing:
            written = region.words.lstrip()[:1]
            ends = _same(mark, opened) or (mark.form == "<" and written in ("{", "["))
        ends = ends or (mark.kind in (MarkerKind.FOREIGN, MarkerKind.HEADER) and not mark.closing)
        if not (ends or again):
            region.take(mark.text)
            return
        if mark.kind in (MarkerKind.CALL, MarkerKind.TURN):
            region.raw.append("" if again else mark.text)
        else:
            # That mark begins something else; a second read must see an end here.
            region.raw.append("<|im_end|>")
        self._region = None
        self._call(region, closed=not again or opened.form != "<")
        if again or mark.kind in (MarkerKind.HEADER, MarkerKind.FOREIGN, MarkerKind.OURS):
            self._open(mark)

    def _in_header(self, region: _Region, mark: Marker) -> None:
        if mark.kind is MarkerKind.BODY:
            self._headed(region)
        elif (
            mark.kind is MarkerKind.TURN and mark.form == "|" and mark.name in ("constrain", "sep")
        ):
            region.take(" ")
        elif mark.kind is MarkerKind.HEADER:
            region.raw.append(mark.text)
            region.take(" ")
        else:
            self._leave()
            self._open(mark)

    def _headed(self, region: _Region) -> None:
        """Process a complete header: role and channel of the message."""
        words = region.words.lower().split()
        self._leave()
        to = next((word[3:] for word in words if word.startswith("to=")), "")
        raw = "".join(region.raw)
        if to and to not in ("all", "user", "assistant"):
            tool = next(w[3:] for w in region.words.split() if w.lower().startswith("to="))
            opened = Marker(MarkerKind.CALL, "harmony", "|", raw)
            self._region = _Region(opened, tool=tool, raw=[raw, "<|message|>"])
        elif words and words[0] in ("user", "system", "tool", "developer", "human", "ipython"):
            self._region = _Region(Marker(MarkerKind.FOREIGN, "message", "|", raw))
        elif "analysis" in words or "commentary" in words:
            self._region = _Region(Marker(MarkerKind.THOUGHT, "harmony", "|", raw))
        else:
            self._begin_line()

    # --- calls --------------------------------------------------------------------

    def _balanced(self, region: _Region, balance: _Balance, text: str, at: int) -> int:
        text = text[at : at + _HELD_LIMIT + 1 - region.size]
        end = balance.end(text) or len(text)
        region.take(text[:end])
        if balance.closed or region.size > _HELD_LIMIT:
            self._region = None
            self._maybe(region, closed=True)
        return at + end

    def _call(self, region: _Region, *, closed: bool) -> None:
        self._end_sentence()
        body = region.words
        if body or region.size:
            raw = "".join(region.raw)
            self._parts.append(WrittenCall(body, region.tool, raw, closed=closed))

    def _maybe(self, region: _Region, *, closed: bool) -> None:
        """Emit a possible call as a call; the caller speaks it if it is not one."""
        raw = "".join(region.raw)
        tool_block = region.mark.kind is MarkerKind.FENCE and region.mark.name != "json"
        if tool_block or region.size <= _HELD_LIMIT:
            self._parts.append(WrittenCall(region.words, raw=raw, closed=closed, marked=tool_block))
            self._last, self._gap = raw[-1:] or " ", True
            self._blank = _blank(raw, self._blank)
        else:
            self._say(raw)

    def _end_sentence(self) -> None:
        """End the sentence before a call."""
        self._gap = True
        if not self._last.isspace():
            self._say("\n")


def _blank(text: str, before: bool) -> bool:
    line = text.rfind("\n")
    return not text[line + 1 :].strip() and (before or line >= 0)


def _same(mark: Marker, opened: Marker) -> bool:
    if mark.form != opened.form:
        return False
    return mark.name == opened.name or {mark.name, opened.name} == {"action", "plugin"}


def _ends_turn(mark: Marker) -> bool:
    """Whether no part of a call can follow."""
    name = mark.text.strip("<>|｜/[]").lower()
    return mark.form == "<" or name.startswith(("im_", "eo", "end", "return")) or mark.form == "["
