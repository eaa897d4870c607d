"""Parts of an AI session for unit tests; only their providers are doubles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Any, TypeVar

import msgspec
from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock

from xiaozhi.agents.roles import Roles
from xiaozhi.agents.settings import HistorySettings, SessionSettings, SpeechSettings, TurnSettings
from xiaozhi.ai.listening.echo import EchoGuard
from xiaozhi.ai.llm.context import TurnContext
from xiaozhi.ai.memory.dialogue import Dialogue
from xiaozhi.ai.memory.history import History
from xiaozhi.ai.memory.window import WindowMemory
from xiaozhi.ai.speech.output import SpeechOutput
from xiaozhi.ai.speech.phrases import Phrases, PhraseStore
from xiaozhi.interfaces import ILanguageModel, ISynthesizer, ITool, IToolSourceMaker, Offload
from xiaozhi.interfaces.toolsource import ToolSession
from xiaozhi.providers.doubles.activity import EnergyDetector
from xiaozhi.providers.doubles.model import ScriptedModel
from xiaozhi.providers.doubles.recognizer import ScriptedRecognizer
from xiaozhi.providers.doubles.synthesizer import ToneSynthesizer
from xiaozhi.providers.doubles.vision import ScriptedVision
from xiaozhi.providers.kit.failover.asr import FailoverRecognizer
from xiaozhi.providers.kit.failover.group import FailoverGroup
from xiaozhi.providers.kit.failover.kinds import FailoverModel, FailoverSynthesizer, FailoverVision
from xiaozhi.providers.kit.failover.settings import FailoverSettings
from xiaozhi.providers.kit.registry import ProviderSet
from xiaozhi.runtime.cancelling import Gate
from xiaozhi.runtime.clocks import wall_time
from xiaozhi.storage import dialogues_from_url, tool_values_from_url
from xiaozhi.testing.files import MemoryFiles
from xiaozhi.tools.builtin.time import functions
from xiaozhi.tools.functions import FunctionModule
from xiaozhi.tools.runtime import ToolFacilities
from xiaozhi.tools.sources import ToolSources, choose_sources
from xiaozhi.tools.toolbox import Toolbox
from xiaozhi.wire.messages import AudioParams, Device, Downlink

T = TypeVar("T")


def inline_offload(function: Callable[..., T], /, *args: Any) -> Deferred[T]:
    """Run a function at once; an :class:`~xiaozhi.interfaces.Offload`."""
    return execute(function, *args)


def inline_timed_offload(seconds: float, function: Callable[..., T], /, *args: Any) -> Deferred[T]:
    """Run a function at once; a :class:`~xiaozhi.interfaces.TimedOffload`."""
    return execute(function, *args)


@dataclass(frozen=True)
class Runtime:
    """The runtime of provider doubles."""

    reactor: Any
    offload: Offload


Doubles = dict[str, Any] | list[dict[str, Any]]


def scripted(clock: Clock, **settings: Doubles) -> ProviderSet:
    """Make provider doubles.

    :param settings: by kind; a list of settings makes a failover group of as many doubles,
        named ``a``, ``b``, …
    """
    groups: list[FailoverGroup] = []

    def make(double: Any, own: dict[str, Any]) -> Any:
        return double.make(msgspec.convert(own, double.Settings), Runtime(clock, inline_offload))

    def one(kind: str, double: Any, failover: Any = None) -> Any:
        own = settings.get(kind, {})
        if isinstance(own, dict):
            return make(double, own)
        several = [(ascii_lowercase[at], make(double, each)) for at, each in enumerate(own)]
        groups.append(FailoverGroup.of(kind, several, FailoverSettings(), clock))
        return failover(groups[-1])

    return ProviderSet(
        asr=one("asr", ScriptedRecognizer, FailoverRecognizer),
        llm=one("llm", ScriptedModel, FailoverModel),
        tts=one("tts", ToneSynthesizer, FailoverSynthesizer),
        vlllm=one("vlllm", ScriptedVision, FailoverVision),
        vad=one("vad", EnergyDetector),
        groups=tuple(groups),
        voice="voice",
        # The first of several synthesisers.
        speaker="a",
    )


def tool_sources(
    clock: Clock, sections: dict[str, Any] | None = None, *makers: IToolSourceMaker
) -> ToolSources:
    """Make and start tool sources, with values in memory and without an inbox.

    :param sections: settings by source.
    :param makers: in addition to the standard sources.
    """
    store = tool_values_from_url("memory:", clock)
    facilities = ToolFacilities.of(clock, wall_time(clock), store)

    def read(value: Any, kind: type[Any], key: str) -> Any:
        return msgspec.convert(value, kind)

    sources = choose_sources(sections or {}, facilities, read, [functions, *makers])
    sources.start()
    return sources


def function_tools(
    module: FunctionModule[Any], clock: Clock, session: ToolSession | None = None, **settings: Any
) -> list[ITool]:
    """The tools of one module for a session.

    :param clock: also the wall clock.
    :param settings: of the module.
    """
    store = tool_values_from_url("memory:", clock)
    runtime = ToolFacilities.of(clock, clock.seconds, store).runtime(module.name)
    source = module.make(msgspec.convert(settings, module.settings()), runtime)
    source.start()
    device = Device("aa:bb:cc:dd:ee:ff", "c", "u")
    return list(source.tools(session or ToolSession(device)))


def memory_history(clock: Clock, seconds: Callable[[], float]) -> History:
    """Make and start a history that is kept in memory."""
    history = History(dialogues_from_url("memory:", clock), clock, seconds, HistorySettings())
    Deferred.fromCoroutine(history.start())
    return history


def make_dialogue(
    history: History,
    clock: Clock,
    seconds: Callable[[], float],
    session: SessionSettings | None = None,
    device_id: str = "d",
) -> Dialogue:
    """Make a device's dialogue with a window memory; nothing is recalled yet."""
    session = session or SessionSettings()
    settings = session.dialogue
    roles = Roles(session, Device(device_id, "client", "somebody"), seconds)
    memory = WindowMemory(settings)
    return Dialogue(device_id, memory, roles, history, clock, settings)


def speech_output(
    clock: Clock, synthesizer: ISynthesizer, send: Callable[[Downlink], None], **parts: Any
) -> SpeechOutput:
    """Make the speech output of a session with default settings.

    :param parts: arguments that replace the defaults.
    """
    usual = {
        "gate": Gate(is_open=True),
        "downlink": AudioParams(sample_rate=24000),
        "offload": inline_timed_offload,
        "settings": SpeechSettings(),
        "limits": TurnSettings(),
        "phrases": Phrases(PhraseStore(MemoryFiles()), "voice"),
    }
    return SpeechOutput(synthesizer=synthesizer, send=send, clock=clock, **{**usual, **parts})


def turn_context(
    clock: Clock, model: ILanguageModel, dialogue: Dialogue, *tools: ITool
) -> TurnContext:
    """Make the turn context of a session with default settings and known tools."""
    return TurnContext(
        session_id="s",
        model=model,
        dialogue=dialogue,
        toolbox=Toolbox(tools),
        tools_ready=Gate(is_open=True),
        tools_wait=0,
        recall_wait=0,
        language="en",
        clock=clock,
        limits=TurnSettings(),
        echo=EchoGuard(clock, TurnSettings().echo),
    )


def turn_parts(
    clock: Clock, send: Callable[[Downlink], None], *tools: ITool, **settings: Doubles
) -> tuple[TurnContext, SpeechOutput]:
    """Make the turn context and speech output of a new session with provider doubles.

    :param settings: see :func:`scripted`.
    """
    providers = scripted(clock, **settings)
    # A clock of its own: the test advances no timers of the history.
    dialogue = make_dialogue(memory_history(Clock(), clock.seconds), clock, clock.seconds)
    Deferred.fromCoroutine(dialogue.recall())
    return (
        turn_context(clock, providers.llm, dialogue, *tools),
        speech_output(clock, providers.tts, send),
    )
