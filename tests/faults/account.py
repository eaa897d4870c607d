"""One device's ledger lines, grouped into questions and turns, and their faults.

A device asks numbered questions, sends numbered notes that are returned unchanged, and runs a tool
on request. This module knows no protocol: the author of a line assigns it to a question.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum


class Kind(Enum):
    """Kinds of events. From the device: GREETED to RETURNED; to the device: the others."""

    GREETED = "greeted"
    LOST = "connection lost"
    ASKED = "asked"
    NOTED = "noted"
    RETURNED = "tool returned"
    HEARD = "heard"
    STARTED = "tts start"
    SENTENCE = "sentence"
    LAST = "last sentence"
    OTHER = "sentence that answers nothing"
    PACKET = "packet"
    STOPPED = "tts stop"
    TOLD = "told of trouble"
    ECHOED = "echo"
    CALLED = "tool called"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line.

    :ivar time: seconds since the ledger was opened.
    :ivar number: of the question, the note or the call; 0: none.
    :ivar amount: ms of sound asked (ASKED) or heard (HEARD), 0 if it was typed.
    :ivar words: details for people.
    """

    time: float
    kind: Kind
    number: int = 0
    amount: int = 0
    words: str = ""

    def __str__(self) -> str:
        number = f" {self.number}" if self.number else ""
        words = f" ({self.words})" if self.words else ""
        return f"{self.time:.2f} {self.kind.value}{number}{words}"


@dataclass(frozen=True, slots=True)
class Rules:
    """Permitted effects of a fault on a conversation. By default: no visible effect.

    :ivar told: a device may be notified that a question will not be answered.
    :ivar dropped: sound may be missing, but never be doubled. A device whose speech was lost is
        notified.
    :ivar died: times at which AI processes died, on the ledger's clock. Another process may repeat
        the work in progress, and the last notes may not be returned.
    :ivar sent_away: the edge closes connections. A question without any answer then counts as
        refused; of the answer to an understood question, one sentence is heard, and its ``tts
        stop``.
    :ivar cut_off: connections break at any moment.
    """

    told: bool = False
    dropped: bool = False
    died: tuple[float, ...] = ()
    sent_away: bool = False
    cut_off: bool = False


@dataclass
class Turn:
    """From ``tts start`` to ``tts stop``.

    :ivar number: the question it answers, 0: none.
    :ivar whole: the answer's last sentence was announced.
    :ivar ended: time of the stop; 0: not stopped.
    """

    number: int = 0
    whole: bool = False
    ended: float = 0.0
    packets: int = 0


@dataclass
class Question:
    """The events of one question."""

    asked: Entry
    heard: list[Entry] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    calls: list[Entry] = field(default_factory=list)
    told: bool = False
    lost: bool = False

    @property
    def answers(self) -> list[Turn]:
        """Answers that were played to their end."""
        return [turn for turn in self.turns if turn.whole and turn.ended]


class Account:
    """One device's lines, grouped into questions and turns."""

    def __init__(self, device: int, lines: Sequence[Entry]) -> None:
        self.device = device
        self.lines = lines
        self.questions: dict[int, Question] = {}
        self._broken: list[str] = []
        self._turn: Turn | None = None
        self._latest: Question | None = None
        for at, entry in enumerate(lines):
            self._read(at, entry)
        if self._turn is not None:
            self._complain("a turn was never stopped", len(lines) - 1)

    def faults(self, rules: Rules, usual: dict[str, int]) -> Iterator[str]:
        """Yield the faults of this device.

        :param usual: packets of a whole answer.
        """
        yield from self._broken
        for question in self.questions.values():
            for fault in self._about(question, rules, usual):
                yield self._report(f"{self._name(question)}{fault}", self._where(question.asked))
        yield from self._in_order(Kind.HEARD, "question {} was understood after question {}")
        yield from self._notes(rules)

    # --- reading ------------------------------------------------------------------

    def _read(self, at: int, entry: Entry) -> None:
        turn, question = self._turn, self.questions.get(entry.number)
        match entry.kind:
            case Kind.ASKED:
                self._latest = self.questions[entry.number] = Question(entry)
            case Kind.HEARD if question is not None:
                question.heard.append(entry)
            case Kind.CALLED if question is not None:
                question.calls.append(entry)
            case Kind.TOLD:
                self._refused()
            case Kind.LOST:
                self._turn = None
                for each in self.questions.values():
                    each.lost |= not each.answers and not each.told
            case Kind.STARTED:
                if turn is not None:
                    self._complain("tts start came within a turn", at)
                self._turn = Turn()
            case Kind.STOPPED | Kind.PACKET | Kind.SENTENCE | Kind.LAST | Kind.OTHER:
                if turn is None:
                    self._complain(f"{entry.kind.value} came outside a turn", at)
                else:
                    self._of_turn(turn, entry, question)

    def _of_turn(self, turn: Turn, entry: Entry, question: Question | None) -> None:
        match entry.kind:
            case Kind.PACKET:
                turn.packets += 1
            case Kind.STOPPED:
                turn.ended = entry.time
                self._turn = None
            case Kind.OTHER:
                # A spoken apology.
                self._refused()
            case _:
                turn.whole |= entry.kind is Kind.LAST
                turn.number = entry.number
                if question is not None and turn not in question.turns:
                    question.turns.append(turn)

    def _refused(self) -> None:
        if self._latest is not None:
            self._latest.told = True

    # --- judging ------------------------------------------------------------------

    def _about(self, question: Question, rules: Rules, usual: dict[str, int]) -> Iterator[str]:
        answers = question.answers
        over = answers[0].ended if answers else float("inf")
        reopened = any(question.asked.time <= died <= over for died in rules.died)
        if not answers:
            yield from self._unanswered(question, rules)
        if len(answers) > 1:
            yield f" was answered {len(answers)} times to the end"
        elif len(question.turns) > 1 and not reopened and not rules.cut_off:
            yield f" was answered in {len(question.turns)} turns"
        if len(question.heard) > 1 and not reopened:
            yield f" was understood {len(question.heard)} times"
        if len(question.calls) > 1 and not reopened:
            yield f" had its tool called {len(question.calls)} times"
        if answers and question.asked.words == "tool" and not question.calls:
            yield " was answered without its tool"
        unheard = rules.dropped and question.asked.amount > 0
        if question.told and not rules.told and not unheard:
            yield " was refused, for which there was no reason"
        if answers:
            yield from self._sound(question, rules, usual)

    def _unanswered(self, question: Question, rules: Rules) -> Iterator[str]:
        if question.told:
            return
        begun = any(turn.ended for turn in question.turns)
        unheard = rules.sent_away and (begun or not question.heard)
        if question.lost and (rules.cut_off or unheard):
            return
        closed = ": the connection was closed before its answer ended" if question.lost else ""
        yield closed or " was neither answered nor refused"

    def _sound(self, question: Question, rules: Rules, usual: dict[str, int]) -> Iterator[str]:
        asked = question.asked
        for heard in question.heard:
            if heard.amount > asked.amount or (heard.amount < asked.amount and not rules.dropped):
                yield f" was {asked.amount} ms long, but {heard.amount} ms of it were understood"
        for turn in question.answers:
            whole = usual[asked.words]
            if turn.packets > whole or (turn.packets < whole and not rules.dropped):
                yield f" was answered with {turn.packets} packets instead of {whole}"

    def _notes(self, rules: Rules) -> Iterator[str]:
        noted = [entry for entry in self.lines if entry.kind is Kind.NOTED]
        echoes = [entry for entry in self.lines if entry.kind is Kind.ECHOED]
        came = Counter(entry.number for entry in echoes)
        ends = list(rules.died)
        if rules.cut_off or rules.sent_away:
            ends += [entry.time for entry in self.lines if entry.kind is Kind.LOST]
        for note in noted:
            number = note.number
            # Lost with a process that died: no later note was returned before.
            excused = any(
                note.time <= end
                and not any(echo.number > number and echo.time < end for echo in echoes)
                for end in ends
            )
            if not came[number] and not excused:
                yield self._report(f"note {number} did not come back", self._where(note))
            if came[number] > 1:
                yield self._report(
                    f"note {number} came back {came[number]} times", self._where(note)
                )
        yield from self._in_order(Kind.ECHOED, "note {} came back after note {}")

    def _in_order(self, kind: Kind, told: str) -> Iterator[str]:
        latest = 0
        for at, entry in enumerate(self.lines):
            if entry.kind is kind:
                if entry.number < latest:
                    yield self._report(told.format(entry.number, latest), at)
                latest = max(latest, entry.number)

    # --- reporting  ------------------------------------------------------------------

    def _name(self, question: Question) -> str:
        return f"question {question.asked.number} ({question.asked.words})"

    def _where(self, entry: Entry) -> int:
        return next(at for at, each in enumerate(self.lines) if each is entry)

    def _complain(self, what: str, at: int) -> None:
        self._broken.append(self._report(what, at))

    def _report(self, what: str, at: int) -> str:
        """Return a fault with the surrounding events, without packets."""
        seen = [str(entry) for entry in self.lines[max(0, at - 6) : at + 60]]
        around = [line for line in seen if f" {Kind.PACKET.value}" not in line][:16]
        return f"device {self.device}: {what}\n      " + "\n      ".join(around)


def usual_lengths(accounts: Iterable[Account]) -> dict[str, int]:
    """Return the packets of a whole answer by kind of question: the most frequent number."""
    lengths: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for account in accounts:
        for question in account.questions.values():
            for turn in question.answers:
                lengths[question.asked.words][turn.packets] += 1
    return {words: counted.most_common(1)[0][0] for words, counted in lengths.items()}
