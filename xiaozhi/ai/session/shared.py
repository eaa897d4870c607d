"""What all sessions of the process share, and the table of those that are open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from twisted.internet.interfaces import IReactorTime

from xiaozhi.agents.settings import SessionSettings
from xiaozhi.ai.memory.history import Forgetful, History
from xiaozhi.ai.session.scheduler import Scheduler
from xiaozhi.ai.speech.phrases import Phrases
from xiaozhi.ai.timeline.counts import AiCounts
from xiaozhi.interfaces import (
    ILanguageModel,
    IRecognizer,
    ISynthesizer,
    IVisionModel,
    IVoiceActivityDetector,
    TimedOffload,
)
from xiaozhi.tools.sources import ToolSources
from xiaozhi.wire.messages import AudioParams, Device


class Providers(Protocol):
    """One provider of each kind, as configured."""

    @property
    def asr(self) -> IRecognizer: ...
    @property
    def llm(self) -> ILanguageModel: ...
    @property
    def tts(self) -> ISynthesizer: ...
    @property
    def vlllm(self) -> IVisionModel: ...
    @property
    def vad(self) -> IVoiceActivityDetector: ...


@dataclass(frozen=True, slots=True)
class SharedServices:
    """What a session is given.

    :ivar tools: the tool sources of the process.
    :ivar seconds: wall clock: seconds since the epoch.
    :ivar desk: where sessions' messages wait for their turn.
    :ivar phrases: what the server says by itself, once it has been spoken.
    :ivar rehearse: has them spoken in the form of a device's sound.
    :ivar history: what was said in earlier sessions.
    :ivar vision: from a device and the host by which it knows us: where it
        uploads photos, and its token for that; an empty URL means it cannot.
    :ivar counts: of all sessions together.
    """

    providers: Providers
    tools: ToolSources
    settings: SessionSettings
    clock: IReactorTime
    seconds: Callable[[], float]
    offload: TimedOffload
    history: History | Forgetful
    desk: Scheduler
    phrases: Phrases
    rehearse: Callable[[AudioParams], None]
    vision: Callable[[Device, str], tuple[str, str]]
    counts: AiCounts = field(default_factory=AiCounts)
