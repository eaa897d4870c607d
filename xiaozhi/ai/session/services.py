"""Services of one agent: its providers, phrases and prewarming, shared by its sessions."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from msgspec.structs import replace
from twisted.logger import Logger

from xiaozhi.agents.agent import Agent
from xiaozhi.agents.settings import SessionSettings
from xiaozhi.ai.speech.phrases import Phrases, PhraseStore
from xiaozhi.ai.speech.prewarming import (
    USUAL,
    NoPrewarming,
    PhrasePrewarming,
    Prewarming,
    PrewarmingRuntime,
)
from xiaozhi.ai.speech.shipped import Shipped
from xiaozhi.base.call import CallContext
from xiaozhi.base.errors import ConfigError
from xiaozhi.interfaces import (
    ILanguageModel,
    IRecognizer,
    ISynthesizer,
    IVisionModel,
    IVoiceActivityDetector,
)
from xiaozhi.wire.messages import AudioParams, SessionOpen

# Versions of agents whose prewarmed formats are remembered.
_REMEMBERED = 1000


class AgentProviders(Protocol):
    """A lease of one agent's providers, until :meth:`release`."""

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
    @property
    def voice(self) -> str:
        """An identifier of the preferred synthesiser and its settings."""

    @property
    def speaker(self) -> str:
        """The preferred synthesiser's reference."""

    @property
    def before(self) -> Mapping[str, float]:
        """By kind, the maximum seconds before the last provider of a failover group is asked."""

    def release(self) -> None:
        """End the lease. Idempotent."""


class _Shared:
    """The services of one agent version and the number of their leases."""

    def __init__(
        self,
        agent: Agent,
        settings: SessionSettings,
        providers: AgentProviders,
        phrases: Phrases,
        prewarming: Prewarming,
    ) -> None:
        self.agent = agent
        self.settings = settings
        self.providers = providers
        self.phrases = phrases
        self.prewarming = prewarming
        self.leases = 0


@dataclass(frozen=True, slots=True)
class AgentServices:
    """A session's lease of its agent's services, until :meth:`release`.

    :ivar agent: the agent; the default agent if the requested one is unusable, see
        :meth:`AgentServicesTable.lease`.
    :ivar settings: the agent's settings; a turn's limits allow for its failover groups.
    :ivar phrases: the cached phrases of its voice.
    """

    agent: Agent
    settings: SessionSettings
    asr: IRecognizer
    llm: ILanguageModel
    tts: ISynthesizer
    vlllm: IVisionModel
    vad: IVoiceActivityDetector
    phrases: Phrases
    _prewarming: Prewarming = field(repr=False)
    _release: Callable[[], None] = field(repr=False)

    def prewarm(self, downlink: AudioParams) -> None:
        """Prewarm the phrases in the format of a device, unless that is done."""
        self._prewarming.wanted(downlink)

    def release(self) -> None:
        """End the lease. Idempotent."""
        self._release()


def call_context(opening: SessionOpen, agent: Agent, language: str = "") -> CallContext:
    """Return the context in which a session calls providers.

    Its conversation spans a device's sessions with one agent; a guest's spans one session.

    :param language: BCP 47, of the conversation.
    """
    device = opening.device
    return CallContext(
        agent_id=agent.id,
        device_id=device.device_id,
        client_id=device.client_id,
        user_id=device.user_id,
        session_id=opening.session_id,
        conversation_id=f"{agent.id}/{opening.session_id if device.guest else device.device_id}",
        language=language or agent.settings.dialogue.language,
        voice=str(agent.voice.get("id", "")),
    )


class PhraseVoices:
    """Makes the phrases and the prewarming of each voice.

    :param shipped: the shipped phrases; None: use none.
    :param runtime: None: prewarm nothing.
    """

    def __init__(
        self, store: PhraseStore, shipped: Shipped | None, runtime: PrewarmingRuntime | None
    ) -> None:
        self._store = store
        self._shipped = None if shipped is None else shipped.find
        self._runtime = runtime
        # Bound: the _REMEMBERED versions used last.
        self._done: OrderedDict[tuple[str, str], set[tuple[int, int]]] = OrderedDict()

    def phrases(self, providers: AgentProviders) -> Phrases:
        """Make the phrases of an agent's voice."""
        return Phrases(self._store, providers.voice, providers.speaker, self._shipped)

    def prewarming(
        self,
        agent: Agent,
        settings: SessionSettings,
        providers: AgentProviders,
        phrases: Phrases,
    ) -> Prewarming:
        """Make the prewarming of an agent's voice; it continues where an earlier one ended."""
        if self._runtime is None:
            return NoPrewarming()
        done = self._done.setdefault((agent.id, agent.version), set())
        self._done.move_to_end((agent.id, agent.version))
        if len(self._done) > _REMEMBERED:
            self._done.popitem(last=False)
        return PhrasePrewarming(phrases, providers.tts, settings, self._runtime, done)


class AgentServicesTable:
    """Services by agent version.

    Bound: the versions that sessions use, and the default agent's.

    :param select: leases the providers of an agent; raises ConfigError.
    """

    _log = Logger()

    def __init__(
        self, default: Agent, select: Callable[[Agent], AgentProviders], voices: PhraseVoices
    ) -> None:
        """
        :param default: the agent that serves if another one is unusable.
        :raises ConfigError: its providers cannot be made.
        """
        self._select = select
        self._voices = voices
        self._shared: dict[tuple[str, str], _Shared] = {}
        # Versions whose failure was logged. Bound: the last ones.
        self._unusable: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._started = False
        self._default = self._leased(default)

    @property
    def default(self) -> Agent:
        """The default agent."""
        return self._default.agent

    def start(self) -> None:
        """Prewarm the default agent's phrases in the usual format."""
        self._started = True
        self._default.prewarm(USUAL)

    def stop(self) -> None:
        """Stop prewarming."""
        for each in self._shared.values():
            each.prewarming.stop()

    def adopt_default(self, agent: Agent) -> None:
        """Replace the default agent by another agent or version.

        :raises ConfigError: its providers cannot be made; the former one is kept.
        """
        former, self._default = self._default, self._leased(agent)
        former.release()
        if self._started:
            self.start()

    def lease(self, agent: Agent) -> AgentServices:
        """Lease an agent's services, or the default agent's if its providers cannot be made.

        The failure is logged once per version.
        """
        try:
            return self._leased(agent)
        except ConfigError as error:
            version = agent.id, agent.version
            if version not in self._unusable:
                self._unusable[version] = None
                if len(self._unusable) > _REMEMBERED:
                    self._unusable.popitem(last=False)
                self._log.error(
                    "agent {agent}: {error}; the default agent serves its devices",
                    agent=agent.id,
                    error=error.message,
                )
            return self._leased(self._default.agent)

    def _leased(self, agent: Agent) -> AgentServices:
        key = agent.id, agent.version
        shared = self._shared.get(key)
        if shared is None:
            shared = self._shared[key] = self._made(agent)
        shared.leases += 1
        held = True

        def release() -> None:
            nonlocal held
            if held:
                held = False
                self._released(key, shared)

        providers = shared.providers
        return AgentServices(
            agent=shared.agent,
            settings=shared.settings,
            asr=providers.asr,
            llm=providers.llm,
            tts=providers.tts,
            vlllm=providers.vlllm,
            vad=providers.vad,
            phrases=shared.phrases,
            _prewarming=shared.prewarming,
            _release=release,
        )

    def _made(self, agent: Agent) -> _Shared:
        providers = self._select(agent)
        turn = agent.settings.turn.of_lists(providers.before)
        settings = replace(agent.settings, turn=turn)
        phrases = self._voices.phrases(providers)
        prewarming = self._voices.prewarming(agent, settings, providers, phrases)
        return _Shared(agent, settings, providers, phrases, prewarming)

    def _released(self, key: tuple[str, str], shared: _Shared) -> None:
        shared.leases -= 1
        if not shared.leases:
            del self._shared[key]
            shared.prewarming.stop()
            shared.providers.release()
