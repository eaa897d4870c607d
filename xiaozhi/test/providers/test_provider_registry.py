"""Selection of providers, and errors while making them."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.plugin import getPlugins
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from xiaozhi import plugins
from xiaozhi.ai.schema import AiSettings
from xiaozhi.base.errors import ConfigError
from xiaozhi.base.values import Role, Utterance
from xiaozhi.interfaces import IPreparable, IProvider, IProviderMaker
from xiaozhi.providers.doubles.model import ScriptedModel
from xiaozhi.providers.doubles.synthesizer import ToneSynthesizer
from xiaozhi.providers.kit.catalogue import ProviderCatalogue, names
from xiaozhi.providers.kit.failover.settings import FailoverSettings
from xiaozhi.providers.kit.maker import KINDS, ProviderMaker
from xiaozhi.providers.kit.registry import ProviderRegistry, ProviderSet
from xiaozhi.runtime.config import read_section

DOUBLES = {
    "asr": "scripted",
    "llm": "scripted",
    "tts": "tone",
    "vlllm": "scripted",
    "vad": "energy",
}


LIMITS = FailoverSettings(unused=60)


class Runtime:
    def __init__(self, clock: Clock | None = None) -> None:
        self.reactor = clock or Clock()

    def offload(self, function: Any, *args: Any) -> Deferred[Any]:
        return succeed(function(*args))


def shipped(kind: str) -> str:
    """The names of the providers of a kind that ship, as errors list them."""
    makers: list[IProviderMaker] = list(getPlugins(IProviderMaker, plugins))
    return ", ".join(sorted(maker.name for maker in makers if maker.kind == kind))


class PortSettings(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    port: int


@implementer(IProvider, IPreparable)
class Breaking:
    """A provider that counts preparations, and whose making or closing fails."""

    Settings = PortSettings
    closed = 0
    prepared = 0

    def prepare(self) -> None:
        type(self).prepared += 1

    @classmethod
    def make(cls, settings: PortSettings, runtime: Any) -> Breaking:
        if settings.port < 0:
            raise ConfigError("no such port")
        return cls()

    def close(self) -> Deferred[None]:
        type(self).closed += 1
        return fail(RuntimeError("does not close"))


def choose(
    selected: dict[str, Any],
    sections: dict[str, Any],
    runtime: Runtime,
    makers: Any = None,
    failover: FailoverSettings | None = None,
) -> tuple[ProviderRegistry, ProviderSet]:
    """Make the providers of a configuration, and their registry."""
    registry = ProviderRegistry(
        ProviderCatalogue(sections, read_section, makers), runtime, failover
    )
    return registry, registry.select(registry.catalogue.entries(selected))


def behind(providers: ProviderSet, kind: str) -> list[Any]:
    """Return the providers of a kind, the preferred one first."""
    (group,) = (group for group in providers.groups if group.kind == kind)
    return [each.provider for each in group.candidates]


class SelectionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()

    def choose(
        self,
        sections: dict[str, Any] | None = None,
        makers: Any = None,
        **selected: str | list[str],
    ) -> ProviderSet:
        selection = {**DOUBLES, **selected}
        self.registry, providers = choose(
            selection, sections or {}, Runtime(self.clock), makers, LIMITS
        )
        return providers

    def refused(
        self,
        *parts: str,
        sections: dict[str, Any] | None = None,
        **selected: str | list[str],
    ) -> None:
        error = self.assertRaises(ConfigError, self.choose, sections, **selected)
        for part in parts:
            self.assertIn(part, error.message)

    def test_one_of_each_kind(self) -> None:
        providers = self.choose()
        for kind in KINDS:
            verifyObject(IProvider, getattr(providers, kind))
        self.assertIsInstance(behind(providers, "llm")[0], ScriptedModel)
        self.successResultOf(self.registry.close())

    def test_settings_arrive(self) -> None:
        providers = self.choose({"tts": {"tone": {"sample_rate": 16000}}})
        (tone,) = behind(providers, "tts")
        self.assertIsInstance(tone, ToneSynthesizer)
        self.assertEqual((tone.sound.sample_rate, providers.tts.sound), (16000, tone.sound))

    def test_an_empty_section_is_all_defaults(self) -> None:
        self.choose({"tts": {"tone": None}})

    def test_several_of_a_kind(self) -> None:
        sections = {"llm": {"scripted": {"answers": ["One."]}, "scripted/b": {"answers": ["Two."]}}}
        providers = self.choose(sections, llm=["scripted", "scripted/b", "intents"])
        first, second, third = behind(providers, "llm")
        self.assertIsInstance(first, ScriptedModel)
        self.assertIsInstance(second, ScriptedModel)
        self.assertNotIsInstance(third, ScriptedModel)
        self.assertEqual(first._settings.answers, ("One.",))
        self.assertEqual(second._settings.answers, ("Two.",))
        self.assertEqual(
            [each.name for each in self.registry.status() if each.kind == "llm"],
            ["scripted", "scripted/b", "intents"],
        )
        self.successResultOf(self.registry.close())
        self.assertTrue(first._closed and second._closed)

    def test_health(self) -> None:
        sections = {"llm": {"scripted": {"fail": "unreachable"}}}
        providers = self.choose(sections, llm=["scripted", "intents"])
        self.assertEqual(self.registry.trouble(), "")
        for _ in range(3):
            reply = providers.llm.reply([Utterance(Role.USER, "hello")], [])

            async def first(reply: Any = reply) -> None:
                async with aclosing(reply):
                    await anext(reply)

            self.successResultOf(Deferred.fromCoroutine(first()))
        self.assertIn("llm scripted: told to fail", self.registry.trouble())
        self.assertEqual(set(self.registry.health()), {"asr", "llm", "tts", "vlllm"})
        first_one, second = self.registry.health()["llm"]
        self.assertEqual(
            (first_one["name"], first_one["state"], first_one["failures"], first_one["retry_in"]),
            ("scripted", "open", 3, 10.0),
        )
        self.assertEqual((second["name"], second["state"]), ("intents", "closed"))
        # It may work again: it has not been called since.
        self.clock.advance(10)
        self.assertEqual(self.registry.trouble(), "")
        self.assertEqual(self.registry.health()["llm"][0]["state"], "half_open")

    def test_lists_that_cannot_be(self) -> None:
        self.refused("selected.llm: names no provider", llm=[])
        self.refused("selected.llm: names a provider twice", llm=["scripted", "scripted"])
        self.refused("selected.vad: takes one name", vad=["energy", "webrtc"])
        self.refused("there is no llm provider 'parrot'", llm=["scripted", "parrot"])
        self.refused("there is no llm provider 'parrot/b'", "scripted", llm=["parrot/b"])
        self.refused("a label is of letters", llm=["scripted/a b"])
        misspelt = {"llm": {"scripted/b": {"dealy": 1}}}
        self.refused("providers.llm.scripted/b.dealy", sections=misspelt)

    def test_the_configuration_file(self) -> None:
        def read(**settings: Any) -> Any:
            return read_section(settings, AiSettings, "")

        selected = read(selected={"llm": ["openai", "intents"]}).selected
        self.assertEqual((selected.llm, selected.asr), (("openai", "intents"), "sphinx"))
        self.assertEqual(names({"llm": "a", "tts": ("b", "c")}), {"llm": ("a",), "tts": ("b", "c")})
        # Three models of which two may take 13 s each, within 25 s.
        slow = {"selected": {"vlllm": ["a", "b", "c"]}, "failover": {"vlllm": 13}}
        error = self.assertRaises(ConfigError, read, **slow)
        self.assertIn("failover.vlllm × 2 < http.vision.timeout", error.message)
        read(**slow, http={"vision": {"timeout": 28}})
        error = self.assertRaises(ConfigError, read, failover={"cooldown": 400})
        self.assertIn("failover: needs cooldown <= cooldown_max", error.message)

    def test_missing_kind(self) -> None:
        selected = {kind: name for kind, name in DOUBLES.items() if kind != "tts"}
        error = self.assertRaises(ConfigError, choose, selected, {}, Runtime())
        self.assertIn(f"selected.tts: is missing; there are {shipped('tts')}", error.message)

    def test_unknown_kind(self) -> None:
        self.refused("selected.hearing: no such kind", "asr, llm, tts, vad, vlllm", hearing="big")
        self.refused("providers.hearing: no such kind", sections={"hearing": {}})

    def test_an_unknown_name_lists_the_known_ones(self) -> None:
        self.refused("selected.tts: there is no tts provider 'sing'", shipped("tts"), tts="sing")
        self.refused("providers.tts.sing: there is no", sections={"tts": {"sing": {}}})

    def test_bad_values_name_their_key(self) -> None:
        self.refused(
            "providers.tts.espeak.rate: expected an integer >= 80",
            sections={"tts": {"espeak": {"rate": 7}}},
        )
        self.refused(
            "providers.vad.webrtc.agressiveness: unknown key",
            sections={"vad": {"webrtc": {"agressiveness": 1}}},
        )
        self.refused("providers.tts: expected a mapping", sections={"tts": 5})
        self.refused("providers.tts.tone: expected a mapping", sections={"tts": {"tone": 5}})

    def test_errors_of_making_get_the_key(self) -> None:
        self.refused(
            "providers.tts.espeak: espeak-ng has no voice klingon",
            sections={"tts": {"espeak": {"voice": "klingon"}}},
            tts="espeak",
        )

    def makers(self, target: str) -> list[IProviderMaker]:
        found: list[IProviderMaker] = list(getPlugins(IProviderMaker, plugins))
        return [
            *(maker for maker in found if maker.kind != "vad"),
            ProviderMaker("vad", "mine", "A test's own.", target),
        ]

    def test_providers_made_before_a_failure_are_closed(self) -> None:
        before = Breaking.closed
        makers = [ProviderMaker(kind, "mine", "", f"{__name__}:Breaking") for kind in KINDS]
        sections: dict[str, Any] = {kind: {"mine": {"port": 1}} for kind in KINDS}
        sections["vad"]["mine"]["port"] = -1
        error = self.assertRaises(
            ConfigError,
            choose,
            dict.fromkeys(KINDS, "mine"),
            sections,
            Runtime(),
            makers,
        )
        self.assertEqual(error.message, "providers.vad.mine: no such port")
        self.assertEqual(Breaking.closed - before, 4)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 4)

    def test_preparable_providers_are_prepared(self) -> None:
        makers = self.makers(f"{__name__}:Breaking")
        sections = {"vad": {"mine": {"port": 1}}}
        before = Breaking.prepared
        self.choose(sections, makers, vad="mine")
        self.registry.prepare()
        self.assertEqual(Breaking.prepared - before, 1)

    def test_closing_continues_after_a_failure(self) -> None:
        makers = self.makers(f"{__name__}:Breaking")
        sections = {"vad": {"mine": {"port": 1}}}
        self.choose(sections, makers, vad="mine")
        self.successResultOf(self.registry.close())
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_missing_setting(self) -> None:
        makers = self.makers(f"{__name__}:Breaking")
        error = self.assertRaises(ConfigError, self.choose, {}, makers, vad="mine")
        self.assertIn("providers.vad.mine.port: is missing", error.message)

    def test_a_target_that_is_not_there(self) -> None:
        makers = self.makers("no.such.module:Thing")
        error = self.assertRaises(ConfigError, self.choose, {}, makers, vad="mine")
        self.assertIn("vad mine cannot be loaded", error.message)


class ShippedMakersTests(SynchronousTestCase):
    def test_every_one_loads(self) -> None:
        names: set[tuple[str, str]] = set()
        for maker in getPlugins(IProviderMaker, plugins):
            verifyObject(IProviderMaker, maker)
            self.assertIn(maker.kind, KINDS)
            self.assertTrue(maker.description)
            self.assertTrue(issubclass(maker.settings(), msgspec.Struct), repr(maker))
            self.assertNotIn((maker.kind, maker.name), names)
            names.add((maker.kind, maker.name))
        self.assertTrue({("asr", "sphinx"), ("tts", "espeak"), ("llm", "intents")} <= names)

    def test_unknown_kind_of_maker(self) -> None:
        self.assertRaises(ValueError, ProviderMaker, "smell", "nose", "", "a:b")
