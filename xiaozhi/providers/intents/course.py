"""Where a dialogue stands: read out of it anew each time, nothing is kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xiaozhi.errors import ProviderError
from xiaozhi.values import Role, Utterance

_REASON_LIMIT = 120


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool answered.

    :ivar value: the JSON it is, or the text itself.
    """

    name: str
    text: str
    value: Any

    @property
    def failed(self) -> bool:
        """Tools say so in several ways; plain text counts if it begins with "error"."""
        if isinstance(self.value, Mapping):
            if self.value.get("isError") is True or self.value.get("success") is False:
                return True
            return bool(self.value.get("error"))
        if isinstance(self.value, str):
            return self.value.lower().startswith(("error", "failed"))
        return self.value is False

    @property
    def reason(self) -> str:
        """Why it failed, short enough to be spoken; may be empty."""
        text = self.value
        if isinstance(text, Mapping):
            text = text.get("message") or text.get("error") or ""
            text = text.get("message", "") if isinstance(text, Mapping) else text
        if not isinstance(text, str):
            return ""
        first = text.removeprefix("error:").removeprefix("Error:").strip()
        return first if len(first) <= _REASON_LIMIT else ""

    def field(self, path: str) -> Any:
        """:param path: ``a.b``, or ``.`` for all of it as text. None if it is not there."""
        if path == ".":
            return self.text
        value = self.value
        for key in path.split("."):
            if not isinstance(value, Mapping):
                return None
            value = value.get(key)
        return value


@dataclass(frozen=True, slots=True)
class Course:
    """What the person last said and what tools have answered since.

    :ivar last_answer: what the assistant said before that.
    :ivar answering: the dialogue ends with a tool's result.
    """

    utterance: str
    last_answer: str
    results: tuple[ToolResult, ...]
    answering: bool

    def result(self, names: Sequence[str]) -> ToolResult | None:
        """The newest result of one of these tools."""
        return next((r for r in reversed(self.results) if r.name in names), None)


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
        ToolResult(names.get(entry.call_id, ""), entry.text, _value(entry.text))
        for entry in dialogue[at:]
        if entry.role is Role.TOOL
    )
    answers = (e.text for e in reversed(dialogue[:at]) if e.role is Role.ASSISTANT and e.text)
    return Course(dialogue[at].text, next(answers, ""), results, bool(results))


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text.strip()
