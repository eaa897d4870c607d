"""Shared providers: one instance, one circuit breaker, closed when unused."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.plugin import getPlugins
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from xiaozhi import plugins
from xiaozhi.base.capabilities import Capabilities, Needs, Place, VoiceInfo, VoiceSetting
from xiaozhi.base.errors import ConfigError, ProviderError
from xiaozhi.base.values import Delta, Role, SoundFormat, TextDelta, ToolSpec, Utterance
from xiaozhi.interfaces import ILanguageModel, IPreparable, IProviderMaker, ISynthesizer
from xiaozhi.metrics.instruments import OTHER
from xiaozhi.providers.kit.catalogue import Entry, ProviderCatalogue, unmet
from xiaozhi.providers.kit.failover.settings import FailoverSettings
from xiaozhi.providers.kit.maker import ProviderMaker
from xiaozhi.providers.kit.registry import ProviderRegistry, ProviderSet
from xiaozhi.runtime.config import read_section
from xiaozhi.test.providers.test_provider_registry import DOUBLES, Runtime
from xiaozhi.testing.logs import LogLines

LIMITS = FailoverSettings(llm=2, failures=2, cooldown=10, unused=60)
ASKED = [Utterance(Role.USER, "hello")]


class EchoSettings(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    key: str = ""
    fail: bool = False
    stuck: bool = False


@implementer(ILanguageModel, IPreparable)
class Echo:
    """A model that answers on command."""

    Settings = EchoSettings
    made: list[Echo]

    def __init__(self, settings: EchoSettings) -> None:
        self.settings = settings
        self.closed = self.prepared = 0
        self.hold: Deferred[None] = succeed(None)
        type(self).made.append(self)

    @classmethod
    def make(cls, settings: EchoSettings, runtime: Any) -> Echo:
        if settings.key == "bad":
            raise ConfigError("a bad key")
        if settings.key == "bug":
            raise KeyError(f"{settings.key} is secret")
        return cls(settings)

    def prepare(self) -> None:
        self.prepared += 1
        if self.settings.stuck:
            raise OSError("no more processes")

    def close(self) -> Deferred[None]:
        self.closed += 1
        return fail(RuntimeError("does not close")) if self.settings.stuck else succeed(None)

    async def reply(
        self, dialogue: Sequence[Utterance], tools: Sequence[ToolSpec]
    ) -> AsyncGenerator[Delta, None]:
        await self.hold
        if self.closed:
            raise ProviderError("closed", "the provider was closed", retryable=False)
        if self.settings.fail:
            raise ProviderError("unreachable", "no", retryable=True)
        yield TextDelta(self.settings.key)


class VoiceSettings(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    api_key: str = ""
    speaker: str = "ann"
    speed: int = 100


@implementer(ISynthesizer)
class Singer:
    """A synthesiser that declares its voices."""

    Settings = VoiceSettings
    sound = SoundFormat()
    capabilities = Capabilities(
        Place.REMOTE,
        voices=(VoiceInfo("ann", ("en",)), VoiceInfo("bo", ("zh",))),
        voice_settings=(VoiceSetting("id", "speaker"), VoiceSetting("rate", "speed", 100)),
    )

    def __init__(self, settings: VoiceSettings) -> None:
        self.settings = settings

    @classmethod
    def make(cls, settings: VoiceSettings, runtime: Any) -> Singer:
        return cls(settings)

    def close(self) -> Deferred[None]:
        return succeed(None)

    async def synthesize(self, text: str, language: str) -> AsyncGenerator[bytes, None]:
        yield bytes(320)


class LeaseCase(SynchronousTestCase):
    def setUp(self) -> None:
        Echo.made = []
        self.clock = Clock()
        self.makers: list[IProviderMaker] = [
            *getPlugins(IProviderMaker, plugins),
            ProviderMaker("llm", "echo", "", f"{__name__}:Echo"),
            ProviderMaker("tts", "singer", "", f"{__name__}:Singer"),
        ]
        self.sections: dict[str, dict[str, Any]] = {
            "llm": {
                "echo": {"key": "one"},
                "echo/b": {"key": "two"},
                "echo/down": {"fail": True},
                "echo/stuck": {"stuck": True},
                "echo/bad": {"key": "bad"},
                "echo/bug": {"key": "bug"},
            },
            "tts": {"singer": {"api_key": "secret"}},
        }
        self.start()

    def start(self) -> None:
        self.catalogue = ProviderCatalogue(self.sections, read_section, self.makers)
        self.registry = ProviderRegistry(self.catalogue, Runtime(self.clock), LIMITS)
        self.addCleanup(self.registry.close)

    def entry(self, reference: str = "echo") -> Entry:
        return self.catalogue.entry("llm", reference)

    def agent(self, *models: str) -> ProviderSet:
        """Return the providers of an agent with these models."""
        return self.registry.select(self.catalogue.entries({**DOUBLES, "llm": models}))

    def ask(self, providers: ProviderSet) -> Deferred[str]:
        async def text() -> str:
            async with aclosing(providers.llm.reply(ASKED, [])) as deltas:
                return "".join(
                    [delta.text async for delta in deltas if isinstance(delta, TextDelta)]
                )

        return Deferred.fromCoroutine(text())


class SharingTests(LeaseCase):
    def test_equal_settings_are_one_instance(self) -> None:
        first, second = self.registry.lease(self.entry()), self.registry.lease(self.entry())
        self.assertIs(first.candidate, second.candidate)
        other = self.registry.lease(self.entry("echo/b"))
        self.assertIsNot(first.candidate.provider, other.candidate.provider)
        self.assertEqual([each.settings.key for each in Echo.made], ["one", "two"])

    def test_a_label_is_an_instance_even_with_equal_settings(self) -> None:
        """It has its own circuit breaker and metrics."""
        self.sections["llm"]["echo/twin"] = self.sections["llm"]["echo"]
        self.start()
        one, twin = self.registry.lease(self.entry()), self.registry.lease(self.entry("echo/twin"))
        self.assertIsNot(one.candidate, twin.candidate)

    def test_one_circuit_breaker_for_all_agents(self) -> None:
        """Failures with one agent spare the other one the wait."""
        log = LogLines(self)
        first, second = self.agent("echo/down", "echo"), self.agent("echo/down", "echo/b")
        for providers, said in ((first, "one"), (second, "two")):
            self.assertEqual(self.successResultOf(self.ask(providers)), said)
        (down,) = (each for each in self.registry.status() if each.name == "echo/down")
        self.assertEqual((down.state, dict(down.failed)), ("open", {"unreachable": 2}))
        (line,) = (line for line in log.lines if "circuit open" in line)
        self.assertTrue(line.endswith("Instead: echo, echo/b."), line)
        self.assertEqual(self.successResultOf(self.ask(first)), "one")
        (down,) = (each for each in self.registry.status() if each.name == "echo/down")
        self.assertEqual(
            dict(down.failed), {"unreachable": 2}, "asked although its circuit is open"
        )

    def test_an_agent_without_a_substitute_is_mentioned(self) -> None:
        log = LogLines(self)
        alone, helped = self.agent("echo/down"), self.agent("echo/down", "echo")
        self.failureResultOf(self.ask(alone), ProviderError)
        self.successResultOf(self.ask(helped))
        self.assertEqual(log.count("Instead: echo. Some agents have no other."), 1)

    def test_released_agents_are_not_named_as_alternatives(self) -> None:
        log = LogLines(self)
        alone, gone = self.agent("echo/down"), self.agent("echo/down", "echo")
        gone.release()
        for _ in range(2):
            self.failureResultOf(self.ask(alone), ProviderError)
        self.assertEqual(log.count("There is no other"), 1)

    def test_a_failed_provider_names_its_key(self) -> None:
        error = self.assertRaises(ConfigError, self.registry.lease, self.entry("echo/bad"))
        self.assertEqual(error.message, "providers.llm.echo/bad: a bad key")

    def test_a_bug_of_a_provider_names_its_key_and_no_secret(self) -> None:
        log = LogLines(self)
        error = self.assertRaises(ConfigError, self.registry.lease, self.entry("echo/bug"))
        self.assertEqual(
            error.message,
            "providers.llm.echo/bug: the provider cannot be made: KeyError; the log has more",
        )
        (line,) = log.lines
        self.assertIn("in make", line)
        self.assertNotIn("bug is secret", line)

    def test_a_failed_set_closes_its_providers(self) -> None:
        kept = self.registry.lease(self.entry())
        self.assertRaises(ConfigError, self.agent, "echo", "echo/b", "echo/bad")
        self.assertEqual([each.closed for each in Echo.made], [0, 1])
        self.assertIs(kept.candidate.provider, Echo.made[0])
        kept.release()
        self.clock.advance(60)
        self.assertEqual(Echo.made[0].closed, 1)


class ClosingTests(LeaseCase):
    def test_an_unused_one_is_closed(self) -> None:
        lease = self.registry.lease(self.entry())
        self.clock.advance(1000)
        lease.release()
        self.clock.advance(59)
        self.assertEqual(Echo.made[0].closed, 0)
        self.clock.advance(1)
        self.assertEqual(Echo.made[0].closed, 1)
        self.assertEqual(self.registry.health().get("llm"), None)
        again = self.registry.lease(self.entry())
        self.assertIs(again.candidate.provider, Echo.made[1])

    def test_one_that_is_leased_again_stays(self) -> None:
        for _ in range(3):
            lease = self.registry.lease(self.entry())
            self.clock.advance(50)
            lease.release()
            self.clock.advance(50)
        self.assertEqual([each.closed for each in Echo.made], [0])
        self.clock.advance(10)
        self.assertEqual(Echo.made[0].closed, 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_release_is_idempotent(self) -> None:
        """A second release does not affect another lease."""
        first, second = self.registry.lease(self.entry()), self.registry.lease(self.entry())
        first.release()
        first.release()
        self.clock.advance(1000)
        self.assertEqual(Echo.made[0].closed, 0)
        second.release()
        self.clock.advance(60)
        self.assertEqual(Echo.made[0].closed, 1)

    def test_a_set_releases_all_it_leased(self) -> None:
        providers = self.agent("echo", "echo/b")
        providers.release()
        providers.release()
        self.clock.advance(60)
        self.assertEqual([each.closed for each in Echo.made], [1, 1])
        self.assertEqual(self.registry.health(), {})

    def test_a_running_call_is_not_cut_off(self) -> None:
        providers = self.agent("echo")
        hold = Echo.made[0].hold = Deferred()
        answer = self.ask(providers)
        providers.release()
        self.clock.advance(60)
        self.assertEqual(Echo.made[0].closed, 0)
        hold.callback(None)
        self.assertEqual(self.successResultOf(answer), "one")
        self.clock.advance(60)
        self.assertEqual(Echo.made[0].closed, 1)

    def test_the_end_closes_all_despite_errors(self) -> None:
        self.agent("echo", "echo/stuck")
        lease = self.registry.lease(self.entry())
        self.successResultOf(self.registry.close())
        self.successResultOf(self.registry.close())
        self.assertEqual([each.closed for each in Echo.made], [1, 1])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        lease.release()
        self.clock.advance(1000)
        self.assertEqual([each.closed for each in Echo.made], [1, 1])
        self.assertRaises(RuntimeError, self.registry.lease, self.entry())

    def test_the_end_leaves_no_timer(self) -> None:
        self.registry.lease(self.entry()).release()
        self.successResultOf(self.registry.close())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_call_at_the_end_fails(self) -> None:
        providers = self.agent("echo")
        hold = Echo.made[0].hold = Deferred()
        answer = self.ask(providers)
        self.registry.close()
        hold.callback(None)
        self.assertEqual(self.failureResultOf(answer, ProviderError).value.code, "closed")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_later_ones_are_prepared_when_they_are_made(self) -> None:
        self.registry.lease(self.entry())
        self.assertEqual(Echo.made[0].prepared, 0)
        self.registry.prepare()
        self.registry.lease(self.entry())
        self.registry.lease(self.entry("echo/b"))
        self.assertEqual([each.prepared for each in Echo.made], [1, 1])

    def test_a_provider_that_cannot_be_prepared_still_serves(self) -> None:
        first = self.registry.lease(self.entry("echo/stuck"))
        second = self.registry.lease(self.entry())
        self.registry.prepare()
        self.assertEqual([each.prepared for each in Echo.made], [1, 1])
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        for lease in (first, second):
            lease.release()
        self.clock.advance(60)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)


class StateTests(LeaseCase):
    def test_failures_never_count_backwards(self) -> None:
        providers = self.agent("echo/down", "echo")
        self.successResultOf(self.ask(providers))
        providers.release()
        self.clock.advance(60)
        (down,) = (each for each in self.registry.status() if each.name == "echo/down")
        self.assertEqual((down.state, dict(down.failed)), ("unused", {"unreachable": 1}))
        again = self.agent("echo/down", "echo")
        self.successResultOf(self.ask(again))
        (down,) = (each for each in self.registry.status() if each.name == "echo/down")
        self.assertEqual((down.state, dict(down.failed)), ("closed", {"unreachable": 2}))

    def test_voices_of_one_reference_are_one_label(self) -> None:
        entries = self.catalogue.entries
        for voice in ("ann", "bo"):
            selected = {**DOUBLES, "tts": "singer"}
            self.registry.select(entries(selected, voice={"id": voice}, voice_key="agents.a.voice"))
        names = [each.name for each in self.registry.status() if each.kind == "tts"]
        self.assertEqual(names, ["singer"])

    def test_labels_are_bounded(self) -> None:
        self.sections["llm"] |= {f"echo/n{number}": {} for number in range(200)}
        self.start()
        for number in range(200):
            self.registry.lease(self.entry(f"echo/n{number}"))
        names = {each.name for each in self.registry.status()}
        self.assertEqual(len(names), 101)
        self.assertIn(OTHER, names)

    def test_health_shows_capabilities(self) -> None:
        self.agent("echo", "intents")
        health = self.registry.health()
        self.assertEqual(health["llm"][0]["capabilities"], {"place": "unknown", "tools": True})
        self.assertEqual(health["llm"][1]["capabilities"], {"place": "local", "tools": True})
        self.assertEqual(health["asr"][0]["capabilities"], {"place": "local", "interim": False})


class VoiceTests(LeaseCase):
    def voiced(self, **voice: Any) -> VoiceSettings:
        entries = self.catalogue.entries({**DOUBLES, "tts": "singer"}, "x", voice, "agents.a.voice")
        settings = entries["tts"][0].settings
        assert isinstance(settings, VoiceSettings)
        return settings

    def refused(self, **voice: Any) -> str:
        error: ConfigError = self.assertRaises(ConfigError, self.voiced, **voice)
        return error.message

    def test_the_voice_changes_the_provider_s_settings(self) -> None:
        self.assertEqual(
            self.voiced(id="bo", rate=1.25),
            VoiceSettings(api_key="secret", speaker="bo", speed=125),
        )
        self.assertEqual(self.voiced(), VoiceSettings(api_key="secret"))

    def test_two_voices_are_two_instances(self) -> None:
        one = self.catalogue.voiced("singer", {"id": "ann"}, "agents.a.voice")
        two = self.catalogue.voiced("singer", {"id": "bo"}, "agents.b.voice")
        plain = self.catalogue.entry("tts", "singer")
        self.assertNotEqual(one.identity, two.identity)
        # Explicit or not, it is the same voice.
        self.assertEqual(one.identity, plain.identity)

    def test_an_unsupported_setting_is_refused(self) -> None:
        self.assertEqual(
            self.refused(pitch=1.5),
            "agents.a.voice.pitch: tts provider singer cannot set it; it can set id, rate",
        )
        self.assertEqual(
            self.refused(id="cy"),
            "agents.a.voice.id: singer has no voice 'cy'; there are ann, bo",
        )

    def test_a_value_out_of_bounds_names_the_voice(self) -> None:
        error = self.assertRaises(
            ConfigError, self.catalogue.voiced, "espeak", {"rate": 100.0}, "agents.a.voice"
        )
        self.assertIn("agents.a.voice", error.message)
        self.assertIn("rate", error.message)
        self.assertIn("450", error.message)
        self.assertNotIn("secret", error.message)


class NeedsTests(LeaseCase):
    def unmet(self, needs: Needs, **selected: str | tuple[str, ...]) -> list[str]:
        return unmet(needs, self.catalogue.entries({**DOUBLES, **selected}))

    def test_met_by_any_of_a_list(self) -> None:
        interim = Needs(interim="listen.detector text")
        self.assertEqual(self.unmet(interim, asr=("scripted", "sphinx")), [])
        self.assertEqual(
            self.unmet(interim, asr="scripted"),
            ["listen.detector text needs interim, which asr scripted does not offer"],
        )
        self.assertEqual(
            self.unmet(interim, asr=("scripted", "openai")),
            ["listen.detector text needs interim, which asr scripted and openai do not offer"],
        )

    def test_no_need_is_met(self) -> None:
        self.assertEqual(self.unmet(Needs(), vlllm="stand_in"), [])
        self.assertEqual(len(self.unmet(Needs(vision="tools"), vlllm="stand_in")), 1)


class DeclarationTests(LeaseCase):
    def test_every_shipped_provider_declares(self) -> None:
        for maker in getPlugins(IProviderMaker, plugins):
            assert isinstance(maker, ProviderMaker)
            needed = {"model": "m"} if "model" in maker.settings().__struct_fields__ else {}
            settings = read_section(needed, maker.settings(), "x")
            declared = maker.capabilities(settings)
            self.assertIsInstance(declared, Capabilities, repr(maker))
            self.assertIsNot(declared.place, Place.UNKNOWN, repr(maker))
            fields = maker.settings().__struct_fields__
            for voice in declared.voice_settings:
                self.assertIn(voice.name, fields, repr(maker))

    def test_the_place_is_that_of_the_server(self) -> None:
        for url, place in (
            ("http://localhost:11434/v1", Place.LOCAL),
            ("http://[::1]:1/v1", Place.LOCAL),
            ("https://api.example.com/v1", Place.REMOTE),
        ):
            self.sections["tts"]["openai"] = {"base_url": url}
            self.start()
            declared = self.catalogue.entry("tts", "openai").capabilities
            self.assertEqual((declared.place, declared.sample_rates), (place, (24000,)))

    def test_one_that_declares_nothing_has_the_defaults(self) -> None:
        @implementer(IProviderMaker)
        class Old:
            kind, name, description = "llm", "old", ""

            def settings(self) -> type[Any]:
                return EchoSettings

            def make(self, settings: Any, runtime: Any) -> Any:
                return Echo(settings)

        self.makers.append(Old())
        self.start()
        self.assertEqual(self.entry("old").capabilities, Capabilities())
        self.assertEqual(self.registry.lease(self.entry("old")).candidate.name, "old")
