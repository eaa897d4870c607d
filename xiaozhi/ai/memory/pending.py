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
    """The early end of an answer.

    :ivar played_ms: our estimate of how much of its sound was played, in ms.
    :ivar otherwise: text to record if nothing was heard; empty: none.
    """

    script: PlaybackMap
    played_ms: float
    otherwise: str


@dataclass(frozen=True, slots=True)
class _Line:
    """One entry of the answer.

    :ivar sentences: its sentences, as they were sent to speech output.
    :ivar complete: whether all of it was produced.
    """

    said: Utterance
    sentences: tuple[str, ...] = ()
    complete: bool = True

    def joined(self, other: _Line) -> _Line:
        """Return this line with another one appended."""
        words = joined([each.said.text for each in (self, other) if each.said.text])
        said = Utterance(self.said.role, words)
        return _Line(said, self.sentences + other.sentences, self.complete and other.complete)


@dataclass(slots=True, repr=False)
class PendingAnswer:
    """An answer that is running, or whose heard part is not known yet.

    :ivar turn: number of its turn.
    :ivar question: the question it answers.
    :ivar language: BCP 47, of the answer.
    :ivar entry: the history's entry of the question; None: it is not written yet, or an
        earlier entry has it.
    :ivar played_ms: played sound as the edge reported it; None: no report yet.
    :ivar cut: set if the answer ended early.
    :ivar timer: limits the wait for the edge's report.
    :ivar settled: whether the answer is final.
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
        """Add a sentence that goes to speech output."""
        self._sentences.append(sentence)

    def said(self, words: str, calls: tuple[ToolCall, ...] = (), *, complete: bool = True) -> None:
        """Add a reply of the model, unless it has neither words nor calls."""
        if words or calls:
            said = Utterance(Role.ASSISTANT, words, calls)
            self._lines.append(_Line(said, tuple(self._sentences), complete))
        self._sentences.clear()

    def asked(self, words: str) -> None:
        """Add a question of our own. A reply before it becomes one entry with it: many models
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
        """The entries after the question; final once the answer is settled."""
        return [line.said for line in self._lines]

    def settle(self, heard: Played | None, otherwise: str = "") -> None:
        """Make the answer final.

        :param heard: the part that was heard; None: all of it.
        :param otherwise: the text of the answer if nothing was heard; empty: no entry.
        """
        self.settled = True
        if self.timer is not None and self.timer.active():
            self.timer.cancel()
        if heard is not None:
            self._cut_down(heard, otherwise)
        elif self._lines and self._lines[-1].said.role is Role.TOOL:
            # Many models reject a question right after a tool's result.
            self._lines.append(_Line(Utterance(Role.ASSISTANT, "…")))

    def _cut_down(self, heard: Played, otherwise: str) -> None:
        """Cut the entries down to their heard part.

        Calls and results stay: models reject one without the other, and the actions have
        happened. A marker replaces unheard words: the model must not continue them, and many
        models reject a dialogue with two questions in a row.
        """
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
    """Join sentences, with a space unless the script has none."""
    found = ""
    for sentence in sentences:
        wide = bool(found) and unicodedata.east_asian_width(found[-1]) in ("W", "F")
        found += ("" if wide or not found else " ") + sentence
    return found
