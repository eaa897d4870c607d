"""Where a dialogue stands: read out of it anew each time, nothing is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xiaozhi.base.errors import ProviderError
from xiaozhi.base.values import Role, Utterance
from xiaozhi.providers.offline.intents.findings import failed, read_result, reason_in, words_in

_REASON_LIMIT = 120


@dataclass(frozen=True, slots=True)
class ToolAnswer:
    """The result of a tool.

    :ivar value: the JSON it is, or the text itself.
    :ivar asked: what the person said.
    """

    name: str
    value: Any
    asked: str = ""

    @property
    def failed(self) -> bool:
        """Whether it says so; tools do in several ways."""
        return failed(self.value)

    @property
    def reason(self) -> str:
        """Why it failed, short enough to be spoken; may be empty."""
        reason = reason_in(self.value)
        return reason if len(reason) <= _REASON_LIMIT else ""

    @property
    def words(self) -> str:
        """Return the words in it for a person; may be empty."""
        return words_in(self.value, self.asked)

    def field(self, path: str) -> Any:
        """:param path: ``a.b``, or ``.`` for its words. None if it is not there."""
        if path == ".":
            return self.words or None
        value = self.value
        for key in path.split("."):
            if not isinstance(value, Mapping):
                return None
            value = value.get(key)
        # Never is JSON said.
        return None if isinstance(value, Mapping | list) else value


@dataclass(frozen=True, slots=True)
class Course:
    """The person's last words and the tool results since then.

    :ivar last_answer: what the assistant said before that.
    :ivar answering: the dialogue ends with a tool's result.
    """

    utterance: str
    last_answer: str
    results: tuple[ToolAnswer, ...]
    answering: bool

    def result(self, wanted: Callable[[str], bool]) -> ToolAnswer | None:
        """The newest result of a tool whose name is wanted."""
        return next((r for r in reversed(self.results) if wanted(r.name)), None)


def read_course(dialogue: Sequence[Utterance]) -> Course:
    """:raises ProviderError: there is nothing to reply to."""
    spoken = [i for i, entry in enumerate(dialogue) if entry.role is Role.USER]
    if not spoken or dialogue[-1].role not in (Role.USER, Role.TOOL):
        raise ProviderError(
            "bad_dialogue", "the dialogue does not end with the person or a tool", retryable=False
        )
    at = spoken[-1]
    names = {call.call_id: call.name for entry in dialogue[at:] for call in entry.calls}
    results = tuple(
        ToolAnswer(names.get(entry.call_id, ""), read_result(entry.text), dialogue[at].text)
        for entry in dialogue[at:]
        if entry.role is Role.TOOL
    )
    answers = (e.text for e in reversed(dialogue[:at]) if e.role is Role.ASSISTANT and e.text)
    return Course(dialogue[at].text, next(answers, ""), results, bool(results))
