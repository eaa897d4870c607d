"""Record of a finished turn: the fields of its log line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields


@dataclass(frozen=True, slots=True)
class ToolUse:
    """One call of a tool.

    :ivar result: ``done`` or the error's code.
    """

    name: str
    seconds: float
    result: str

    def __str__(self) -> str:
        return f"{self.name} {self.seconds:g} {self.result}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRecord:
    """Times and counts of a finished turn. It contains no transcript and no answer.

    Times are seconds after the event that began the turn, such as the end of an utterance.
    None: the step did not happen.

    :ivar begun: ``spoken``, ``typed`` or ``recited``.
    :ivar result: ``answered``, ``empty``, ``interrupted`` or ``failed``.
    :ivar seconds: duration of the whole turn.
    :ivar recognised: the transcript was complete.
    :ivar first_token: the first output of the model's first reply.
    :ivar first_sentence: the first complete sentence.
    :ivar first_audio: the first bytes from the synthesiser.
    :ivar first_frame: the first packet was sent to the edge.
    :ivar first_played: the edge reported the start of playback.
    :ivar last_played: the edge reported that playback had finished or was cut off.
    :ivar interrupted: the turn was interrupted.
    :ivar played_ms: sound that the device has played; an estimate without the edge's report.
    :ivar providers: by kind, the provider that served the turn last; in a failover group, its
        member.
    :ivar models: by kind, the vendor's name of the model, if known.
    :ivar tokens_in: tokens of the model's input in all rounds; ``tokens_out``: of its output.
    :ivar tokens_estimated: whether some were estimated because the vendor reported none.
    :ivar heard: characters of the person's words; ``said``: of the model's replies;
        ``spoken``: of the sentences whose sound was begun.
    :ivar mood: mood of the person's voice, one of :data:`xiaozhi.ai.llm.mood.MOODS`; empty:
        unknown or neutral.
    :ivar rounds: number of replies with tool calls.
    :ivar frames: packets sent.
    """

    session_id: str
    turn: int
    begun: str
    result: str
    seconds: float
    recognised: float | None = None
    first_token: float | None = None
    first_sentence: float | None = None
    first_audio: float | None = None
    first_frame: float | None = None
    first_played: float | None = None
    last_played: float | None = None
    interrupted: float | None = None
    played_ms: int = 0
    providers: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_estimated: bool = False
    heard: int = 0
    mood: str = ""
    said: int = 0
    spoken: int = 0
    rounds: int = 0
    tools: tuple[ToolUse, ...] = ()
    frames: int = 0

    def logged(self) -> dict[str, str | int | float | bool]:
        """Return the fields of the log line, without steps that did not happen."""
        line: dict[str, str | int | float | bool] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name == "tools":
                value = ", ".join(map(str, value))
            elif isinstance(value, Mapping):
                continue
            if value is not None and value != "":
                line[each.name] = value
        line |= self.providers
        line |= {f"{kind}_model": model for kind, model in self.models.items() if model}
        return line
