"""Record of a finished turn: one line of the log, and its measurements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields


@dataclass(frozen=True, slots=True)
class ToolUse:
    """One call of a tool.

    :ivar result: ``done`` or an error's code.
    """

    name: str
    seconds: float
    result: str

    def __str__(self) -> str:
        return f"{self.name} {self.seconds:g} {self.result}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRecord:
    """Times are seconds after what began the turn: the end of an utterance, a text. None:
    it did not happen. Nothing here is what anybody said.

    :ivar begun: ``spoken``, ``typed`` or ``recited``.
    :ivar result: ``answered``, ``empty``, ``interrupted`` or ``failed``.
    :ivar seconds: the whole turn.
    :ivar recognised: the text was there.
    :ivar first_token: the first output of the model, when it was asked first.
    :ivar first_sentence: the first sentence that was whole.
    :ivar first_audio: the first bytes of the synthesiser.
    :ivar first_frame: the first packet that left for the edge.
    :ivar first_played: the edge said that the device has the first one.
    :ivar last_played: the edge said that the device has played the last one, or dropped it.
    :ivar interrupted: it was stopped.
    :ivar played_ms: sound that the device has played; if it was stopped, perhaps by the clock.
    :ivar providers: by kind, those who worked for it last; of a list the one that answered.
    :ivar models: by kind, the vendor's name of what answered, if there is one.
    :ivar tokens_in: what the model was given, in all its rounds; ``tokens_out``: what it gave.
    :ivar tokens_estimated: some were estimated, as the vendor does not report them.
    :ivar heard: characters of what the person said; ``said``: of what the model said;
        ``spoken``: of the sentences whose turn to be heard came.
    :ivar mood: of the person's voice, one of :data:`xiaozhi.ai.llm.mood.MOODS`; empty:
        unknown or neutral.
    :ivar rounds: times that the model wanted tools.
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
        """Return the fields of a log line, without steps that did not happen."""
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
