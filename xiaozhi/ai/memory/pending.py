"""Pending answer: the assistant's part of a turn until its playback is known."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

from twisted.internet.interfaces import IDelayedCall

from xiaozhi.ai.speech.playback import PlaybackMap, Played
from xiaozhi.base.values import DialogueEntry, Role, ToolCall, Utterance
from xiaozhi.languages.texts import text


@dataclass(frozen=True, slots=True)
class Cut:
    """How an answer ended early.

    :ivar played_ms: of its sound, by our own clock.
    :ivar otherwise: what is noted if nothing was heard; empty: nothing.
    """

    script: PlaybackMap
    played_ms: float
    otherwise: str


@dataclass(frozen=True, slots=True)
class _Line:
    """:ivar sentences: of it, as they were given to be spoken.
    :ivar complete: it did not break off.
    """

    said: Utterance
    sentences: tuple[str, ...] = ()
    complete: bool = True

    def joined(self, other: _Line) -> _Line:
        """Return this line with another one behind it."""
        words = joined([each.said.text for each in (self, other) if each.said.text])
        said = Utterance(self.said.role, words)
        return _Line(said, self.sentences + other.sentences, self.complete and other.complete)


@dataclass(slots=True, repr=False)
class PendingAnswer:
    """
    :ivar turn: its number.
    :ivar question: what it answers.
    :ivar language: BCP 47, of the answer.
    :ivar entry: of the question; None: it is not noted yet, or was before.
    :ivar played_ms: of its sound, by the edge's clock; None: it has not said.
    :ivar cut: None: it has not ended early.
    :ivar timer: ends the wait for the edge.
    :ivar settled: what is noted of it is known, and nothing more comes.
    """

    turn: int
    question: Utterance
    language: str
    entry: DialogueEntry | None = None
    played_ms: float | None = None
    cut: Cut | None = None
    timer: IDelayedCall | None = None
    settled: bool = False
    # Bound: `turn.tool_rounds` replies, the results of their calls, one more, and sentences.
    _lines: list[_Line] = field(default_factory=list)
    _sentences: list[str] = field(default_factory=list)

    def spoke(self, sentence: str) -> None:
        """Note a sentence that is to be spoken."""
        self._sentences.append(sentence)

    def said(self, words: str, calls: tuple[ToolCall, ...] = (), *, complete: bool = True) -> None:
        """Add a reply of the model, unless it has neither words nor calls."""
        if words or calls:
            said = Utterance(Role.ASSISTANT, words, calls)
            self._lines.append(_Line(said, tuple(self._sentences), complete))
        self._sentences.clear()

    def asked(self, words: str) -> None:
        """Add a question of our own. It is one entry with a reply before it: many models
        reject a dialogue with two answers in a row."""
        last = self._lines[-1] if self._lines else None
        self.spoke(words)
        self.said(words)
        if last is not None and last.said.role is Role.ASSISTANT and not last.said.calls:
            self._lines[-2:] = [last.joined(self._lines[-1])]

    def tool_said(self, call: ToolCall, result: str) -> None:
        """Add the result of a tool."""
        self._lines.append(_Line(Utterance(Role.TOOL, result, call_id=call.call_id)))

    @property
    def answer(self) -> list[Utterance]:
        """The entries behind the question: those so far, and finally those to be noted."""
        return [line.said for line in self._lines]

    def settle(self, heard: Played | None, otherwise: str = "") -> None:
        """End the answer.

        :param heard: None: all of it was.
        :param otherwise: what stands where nothing was.
        """
        self.settled = True
        if self.timer is not None and self.timer.active():
            self.timer.cancel()
        if heard is not None:
            self._cut_down(heard, otherwise)
        elif self._lines and self._lines[-1].said.role is Role.TOOL:
            # It said nothing more; many models refuse a question right after a result.
            self._lines.append(_Line(Utterance(Role.ASSISTANT, "…")))

    def _cut_down(self, heard: Played, otherwise: str) -> None:
        """Cut the entries down to their heard part.

        Calls and results stay: models reject one without the other, and the actions have
        happened. A marker replaces missing words: the model must not continue unheard words,
        and many models reject a dialogue with two questions in a row."""
        left, over, marked, words = heard.whole, False, False, False
        sign = text("interrupted", self.language)
        lines: list[_Line] = []
        for line in self._lines:
            said = line.said
            if said.role is Role.TOOL:
                marked = False
            elif not over and line.complete and left >= len(line.sentences):
                left -= len(line.sentences)
                words = words or bool(said.text)
            else:
                known = [] if over else [*line.sentences[:left], heard.part]
                shown = joined([each for each in known if each])
                over = True
                if shown:
                    words = marked = True
                    shown = f"{shown} … {sign}"
                elif not said.calls:
                    continue
                line = _Line(Utterance(said.role, shown, said.calls))
            lines.append(line)
        dangling = bool(lines) and lines[-1].said.role is Role.TOOL
        last = (sign if (over or dangling) and not marked else "") if words else otherwise
        if last:
            lines.append(_Line(Utterance(Role.ASSISTANT, last)))
        self._lines = lines


def joined(sentences: Sequence[str]) -> str:
    """Join sentences, with spaces where the script has them."""
    found = ""
    for sentence in sentences:
        wide = bool(found) and unicodedata.east_asian_width(found[-1]) in ("W", "F")
        found += ("" if wide or not found else " ") + sentence
    return found
