"""Services of agents: shared by their sessions, released after the last one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.agents.agent import Agent
from xiaozhi.agents.settings import DialogueSettings, SessionSettings, SpeechSettings, WakeSettings
from xiaozhi.ai.session import services as services_module
from xiaozhi.ai.session.services import AgentServicesTable, PhraseVoices, call_context
from xiaozhi.ai.speech.phrases import Phrase, PhraseStore
from xiaozhi.ai.speech.prewarming import USUAL, PrewarmingRuntime
from xiaozhi.audio import OpusForm
from xiaozhi.base.call import CallContext
from xiaozhi.base.errors import ConfigError
from xiaozhi.providers.kit.registry import ProviderSet
from xiaozhi.testing.files import MemoryFiles
from xiaozhi.testing.logs import LogLines
from xiaozhi.testing.parts import inline_timed_offload, scripted
from xiaozhi.wire.messages import AudioParams, Device, Hello, SessionOpen

SPEECH = SpeechSettings()
FORM = OpusForm(24000, 60, SPEECH.complexity, SPEECH.bitrate, SPEECH.application)


class Leased:
    """The providers of one agent, as the registry gives them."""

    def __init__(self, providers: ProviderSet, voice: str) -> None:
        self.asr, self.llm = providers.asr, providers.llm
        self.tts, self.vlllm, self.vad = providers.tts, providers.vlllm, providers.vad
        self.before: Mapping[str, float] = providers.before
        self.voice = voice
        self.speaker = "a"
        self.released = 0

    def release(self) -> None:
        self.released += 1


class ServicesCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.files = MemoryFiles()
        self.leased: list[tuple[str, Leased]] = []
        runtime = PrewarmingRuntime(inline_timed_offload, self.clock, DeferredLock())
        self.voices = PhraseVoices(PhraseStore(self.files), None, runtime)
        self.default = Agent("default")
        self.table = AgentServicesTable(self.default, self.select, self.voices)
        self.addCleanup(self.table.stop)

    def select(self, agent: Agent) -> Leased:
        if agent.id.startswith("broken"):
            raise ConfigError("providers.llm.openai: no such model")
        providers = scripted(
            self.clock, llm=[{}] * len(agent.providers.get("llm", "a")), tts=[{"delay": 0.05}]
        )
        leased = Leased(providers, f"voice of {agent.id}")
        self.leased.append((agent.id, leased))
        return leased

    def run_for(self, seconds: float) -> None:
        self.clock.pump([0.01] * round(seconds / 0.01))


class SharingTests(ServicesCase):
    def test_sessions_share_a_version(self) -> None:
        kitchen = Agent("kitchen")
        first, second = self.table.lease(kitchen), self.table.lease(kitchen)
        self.assertIs(first.llm, second.llm)
        self.assertIs(first.phrases, second.phrases)
        self.assertEqual([name for name, _ in self.leased], ["default", "kitchen"])
        first.release()
        first.release()
        self.assertEqual(self.leased[1][1].released, 0)
        second.release()
        self.assertEqual(self.leased[1][1].released, 1)

    def test_a_version_is_served_beside_the_next_one(self) -> None:
        """Sessions adopt a version one by one, each at its next turn."""
        old = self.table.lease(Agent("kitchen", "1"))
        new = self.table.lease(Agent("kitchen", "2"))
        self.assertIsNot(old.llm, new.llm)
        old.release()
        self.assertEqual([leased.released for _, leased in self.leased], [0, 1, 0])
        self.assertEqual(new.agent.version, "2")

    def test_after_the_last_session_it_is_leased_anew(self) -> None:
        for _ in range(2):
            self.table.lease(Agent("kitchen")).release()
        self.assertEqual([leased.released for _, leased in self.leased], [0, 1, 1])

    def test_limits_have_room_for_the_agent_s_own_lists(self) -> None:
        one = self.table.lease(Agent("one", providers={"llm": ("a",)})).settings.turn
        three = self.table.lease(Agent("three", providers={"llm": ("a", "b", "c")})).settings.turn
        self.assertEqual(one.first_token, 10)
        self.assertEqual(three.first_token, 10 + 2 * 6)


class DefaultTests(ServicesCase):
    def test_it_is_made_at_the_start_and_stays(self) -> None:
        self.assertEqual([name for name, _ in self.leased], ["default"])
        self.table.lease(self.default).release()
        self.assertEqual(self.leased[0][1].released, 0)

    def test_its_errors_are_the_start_s(self) -> None:
        broken = Agent("broken")
        self.assertRaises(ConfigError, AgentServicesTable, broken, self.select, self.voices)

    def test_it_serves_where_another_agent_cannot(self) -> None:
        log = LogLines(self)
        for _ in range(2):
            services = self.table.lease(Agent("broken"))
            self.assertEqual(services.agent, self.default)
        told = "agent broken: providers.llm.openai: no such model; the default agent serves"
        self.assertEqual(log.count(told), 1)

    def test_failures_that_are_remembered_are_bounded(self) -> None:
        self.patch(services_module, "_REMEMBERED", 2)
        log = LogLines(self)
        for name in ("broken1", "broken2", "broken1", "broken3", "broken2", "broken1"):
            self.table.lease(Agent(name))
        told = [log.count(f"agent broken{number}:") for number in (1, 2, 3)]
        self.assertEqual(told, [2, 1, 1])

    def test_another_version_of_it(self) -> None:
        changed = replace(self.default, version="2")
        self.table.adopt_default(changed)
        self.assertEqual([leased.released for _, leased in self.leased], [1, 0])
        self.assertEqual(self.table.default, changed)

    def test_a_faulty_version_of_it_changes_nothing(self) -> None:
        self.assertRaises(ConfigError, self.table.adopt_default, Agent("broken"))
        self.assertEqual(self.leased[0][1].released, 0)
        self.assertEqual(self.table.default, self.default)


class PhraseTests(ServicesCase):
    def find(self, services: Any, words: str) -> Any:
        phrase = Phrase(words, "en", FORM)
        return self.successResultOf(Deferred.fromCoroutine(services.phrases.find(phrase)))

    def test_voices_do_not_mix(self) -> None:
        kitchen, garden = (self.table.lease(Agent(name)) for name in ("kitchen", "garden"))
        keep = kitchen.phrases.keep(Phrase("Hello.", "en", FORM), [b"one"])
        self.successResultOf(Deferred.fromCoroutine(keep))
        self.assertEqual(self.find(kitchen, "Hello."), (b"one",))
        self.assertEqual(self.find(garden, "Hello."), None)

    def test_each_agent_s_phrases_are_prewarmed(self) -> None:
        greeting = WakeSettings(greeting="Here I am.")
        kitchen = self.table.lease(Agent("kitchen", settings=SessionSettings(wake=greeting)))
        kitchen.prewarm(USUAL)
        self.run_for(120)
        phrase = Phrase("Here I am.", "en", FORM)
        found = kitchen.phrases.find(phrase)
        self.assertTrue(self.successResultOf(Deferred.fromCoroutine(found)))
        other = self.table.lease(self.default).phrases.find(phrase)
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(other)), None)

    def test_prewarming_ends_with_the_last_session_and_continues_later(self) -> None:
        kitchen = Agent("kitchen")
        services = self.table.lease(kitchen)
        services.prewarm(USUAL)
        self.run_for(0.12)
        services.release()
        self.run_for(0.01)
        cut = len(self.files.kept)
        self.run_for(1)
        self.assertEqual(len(self.files.kept), cut)
        again = self.table.lease(kitchen)
        again.prewarm(USUAL)
        self.run_for(120)
        whole = len(self.files.kept)
        self.assertGreater(whole, cut)
        again.release()
        # Another lease of the same version has no work left.
        third = self.table.lease(kitchen)
        third.prewarm(USUAL)
        self.run_for(1)
        self.assertEqual(len(self.files.kept), whole)
        third.prewarm(AudioParams(sample_rate=16000, frame_duration=60))
        self.run_for(120)
        self.assertEqual(len(self.files.kept), 2 * whole)

    def test_the_default_agent_s_are_prewarmed_from_the_start_to_the_end(self) -> None:
        self.table.start()
        self.run_for(0.12)
        self.table.stop()
        self.run_for(0.01)
        kept = len(self.files.kept)
        self.assertGreater(kept, 0)
        self.run_for(5)
        self.assertEqual(len(self.files.kept), kept)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_new_default_version_is_prewarmed(self) -> None:
        self.table.adopt_default(replace(self.default, version="2"))
        self.run_for(1)
        self.assertEqual(len(self.files.kept), 0, "the service has not started")
        self.table.start()
        self.run_for(120)
        kept = len(self.files.kept)
        greeting = SessionSettings(wake=WakeSettings(greeting="Here I am."))
        self.table.adopt_default(Agent("default", "3", settings=greeting))
        self.run_for(120)
        self.assertEqual(len(self.files.kept), kept + 1)

    def test_versions_that_are_remembered_are_bounded(self) -> None:
        """The most recently used ones are kept."""
        self.patch(services_module, "_REMEMBERED", 2)
        for name in ("one", "two", "one", "three"):
            self.table.lease(Agent(name)).release()
        self.assertEqual([agent for agent, _ in self.voices._done], ["one", "three"])

    def test_one_voice_is_prewarmed_at_a_time(self) -> None:
        first, second = (self.table.lease(Agent(name)) for name in ("first", "second"))
        first.prewarm(USUAL)
        second.prewarm(USUAL)
        voices: list[str] = []
        while len(self.files.kept) < 12:
            self.run_for(0.01)
        for _, key in self.files.kept:
            voices.append("first" if "voice of first" in key else "second")
        self.assertEqual(voices, sorted(voices))


class CallContextTests(SynchronousTestCase):
    def opening(self, session_id: str, *, guest: bool = False) -> SessionOpen:
        device = Device("aa:bb", "uuid", "somebody", guest)
        return SessionOpen(session_id, device, Hello(), AudioParams(), "")

    def test_calls_have_a_context(self) -> None:
        settings = SessionSettings(dialogue=DialogueSettings(language="zh"))
        agent = Agent("kitchen", settings=settings)
        self.assertEqual(
            call_context(self.opening("s1"), agent),
            CallContext(
                agent_id="kitchen",
                device_id="aa:bb",
                client_id="uuid",
                user_id="somebody",
                session_id="s1",
                conversation_id="kitchen/aa:bb",
                language="zh",
            ),
        )
        self.assertEqual(call_context(self.opening("s1"), agent, "de").language, "de")

    def test_a_conversation_outlives_a_session_but_not_a_guest_s(self) -> None:
        agent = Agent("kitchen")
        of_owner = {call_context(self.opening(s), agent).conversation_id for s in ("s1", "s2")}
        self.assertEqual(len(of_owner), 1)
        of_guests = {
            call_context(self.opening(s, guest=True), agent).conversation_id for s in ("s1", "s2")
        }
        self.assertEqual(len(of_guests), 2)
        self.assertFalse(of_owner & of_guests)
