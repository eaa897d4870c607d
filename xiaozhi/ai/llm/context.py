"""What answering needs of a session."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from twisted.internet.interfaces import IReactorTime

from xiaozhi.agents.settings import TurnSettings
from xiaozhi.ai.listening.echo import EchoGuard
from xiaozhi.ai.memory.dialogue import Dialogue
from xiaozhi.ai.timeline.counts import AiCounts
from xiaozhi.interfaces import ILanguageModel
from xiaozhi.languages.talk import TalkLanguage
from xiaozhi.runtime.cancelling import Gate
from xiaozhi.tools.toolbox import Toolbox


@dataclass(frozen=True, slots=True)
class TurnContext:
    """The same for all turns of a session.

    :ivar session_id: for the log.
    :ivar tools_ready: open once the device has said what it can do.
    :ivar tools_wait: seconds a turn waits for that.
    :ivar recall_wait: seconds a turn waits for what was said in earlier sessions.
    :ivar language: BCP 47, as configured.
    :ivar talk: the language the talk is in.
    :ivar echo: tells what a person says from what we have said.
    :ivar counts: of all sessions together.
    :ivar describe: has the vision model answer a question about an encoded picture; None:
        there is no vision model.
    """

    session_id: str
    model: ILanguageModel
    dialogue: Dialogue
    toolbox: Toolbox
    tools_ready: Gate
    tools_wait: float
    recall_wait: float
    language: str
    clock: IReactorTime
    limits: TurnSettings
    counts: AiCounts = field(default_factory=AiCounts)
    talk: TalkLanguage = field(default_factory=lambda: TalkLanguage("en"))
    describe: Callable[[bytes, str], Awaitable[str]] | None = None
    echo: EchoGuard = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "echo", EchoGuard(self.clock, self.limits.echo))
