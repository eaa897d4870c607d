"""Turn context: the objects and settings that the turns of a session share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from twisted.internet.interfaces import IReactorTime

from xiaozhi.agents.settings import TurnSettings
from xiaozhi.ai.listening.echo import EchoGuard
from xiaozhi.ai.llm.confirmation import Confirmation
from xiaozhi.ai.memory.dialogue import Dialogue
from xiaozhi.ai.timeline.counts import AiCounts
from xiaozhi.base.call import CallContext
from xiaozhi.interfaces import ILanguageModel
from xiaozhi.languages.talk import TalkLanguage
from xiaozhi.runtime.cancelling import Gate
from xiaozhi.tools.toolbox import Toolbox


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnContext:
    """Shared by all turns of a session that one agent serves.

    :ivar session_id: for log lines.
    :ivar dialogue: the dialogue with the device.
    :ivar tools_ready: open once the device's tools are known.
    :ivar tools_wait: maximum wait for ``tools_ready``, in seconds.
    :ivar recall_wait: maximum wait for the dialogue of earlier sessions, in seconds.
    :ivar language: BCP 47, as configured.
    :ivar echo: distinguishes a person's speech from our own voice.
    :ivar counts: counters of all sessions.
    :ivar talk: the language of the conversation.
    :ivar describe: answers a question about an encoded picture with the vision model; None:
        there is no vision model.
    :ivar call: returns the context for a call of a provider.
    :ivar confirms: returns whether the named tool needs a spoken confirmation.
    :ivar confirmation: the call that waits for one.
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
    echo: EchoGuard
    counts: AiCounts = field(default_factory=AiCounts)
    talk: TalkLanguage = field(default_factory=lambda: TalkLanguage("en"))
    describe: Callable[[bytes, str], Awaitable[str]] | None = None
    call: Callable[[], CallContext] = CallContext
    confirms: Callable[[str], bool] = lambda _: False
    confirmation: Confirmation = field(default_factory=Confirmation)
