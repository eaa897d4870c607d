"""The state of a dialogue, derived from it for each reply; nothing is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xiaozhi.base.errors import ProviderError
from xiaozhi.base.toolresult import UNCONFIRMED_CALL
from xiaozhi.base.values import Role, Utterance
from xiaozhi.providers.offline.intents.findings import failed, read_result, reason_in, words_in

_REASON_LIMIT = 120


@dataclass(frozen=True, slots=True)
class ToolAnswer:
    """The result of a tool.

    :ivar value: its JSON, or the text itself.
    :ivar asked: the person's question.
    """

    name: str
    value: Any
    asked: str = ""

    @property
    def failed(self) -> bool:
        """Whether the result reports a failure, in one of the forms that tools use."""
        return failed(self.value)

    @property
    def reason(self) -> str:
        """The reason of the failure, short enough to be spoken; may be empty."""
        reason = reason_in(self.value)
        return reason if len(reason) <= _REASON_LIMIT else ""

    @property
    def words(self) -> str:
        """Return the words in the result for a person; may be empty."""
        return words_in(self.value, self.asked)

    def field(self, path: str) -> Any:
        """Return a field; None: it is absent.

        :param path: ``a.b``, or ``.`` for the words.
        """
        if path == ".":
            return self.words or None
        value = self.value
        for key in path.split("."):
            if not isinstance(value, Mapping):
                return None
            value = value.get(key)
        # JSON is never spoken.
        return None if isinstance(value, Mapping | list) else value


@dataclass(frozen=True, slots=True)
class Course:
    """The person's last words and the tool results since then.

    :ivar last_answer: the assistant's answer before them.
    :ivar answering: the dialogue ends with a tool's result.
    """

    utterance: str
    last_answer: str
    results: tuple[ToolAnswer, ...]
    answering: bool

    def result(self, wanted: Callable[[str], bool]) -> ToolAnswer | None:
        """Return the newest result of a tool with a matching name."""
        return next((r for r in reversed(self.results) if wanted(r.name)), None)


def read_course(dialogue: Sequence[Utterance]) -> Course:
    """Derive the state of a dialogue.

    :raises ProviderError: there is nothing to reply to.
    """
    spoken = [i for i, entry in enumerate(dialogue) if entry.role is Role.USER]
    if not spoken or dialogue[-1].role not in (Role.USER, Role.TOOL):
        raise ProviderError(
            "bad_dialogue",
            "the dialogue ends neither with the person nor with a tool",
            retryable=False,
        )
    at = _asked_at(dialogue, spoken)
    names = {call.call_id: call.name for entry in dialogue[at:] for call in entry.calls}
    results = tuple(
        ToolAnswer(names.get(entry.call_id, ""), read_result(entry.text), dialogue[at].text)
        for entry in dialogue[at:]
        if entry.role is Role.TOOL
    )
    answers = (e.text for e in reversed(dialogue[:at]) if e.role is Role.ASSISTANT and e.text)
    return Course(dialogue[at].text, next(answers, ""), results, bool(results))


def _asked_at(dialogue: Sequence[Utterance], spoken: Sequence[int]) -> int:
    """Find the question that is being answered.

    If the person's last words were the yes that a call waited for, the call stands right
    behind them once more, and the question is the one before.

    :param spoken: where the person's words are.
    """
    at, before = spoken[-1], [*spoken[:-1]]
    while before and _waiting(dialogue[before[-1] : at]) & _called(dialogue[at + 1 : at + 2]):
        at = before.pop()
    return at


def _called(entries: Sequence[Utterance]) -> set[tuple[str, str]]:
    return {(call.name, call.arguments) for entry in entries for call in entry.calls}


def _waiting(entries: Sequence[Utterance]) -> set[tuple[str, str]]:
    """Find the calls that waited for a yes."""
    ids = {entry.call_id for entry in entries if entry.text.startswith(UNCONFIRMED_CALL)}
    return {
        (call.name, call.arguments)
        for entry in entries
        for call in entry.calls
        if call.call_id in ids
    }
