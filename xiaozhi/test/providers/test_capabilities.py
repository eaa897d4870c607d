"""Shipped providers behave as declared; ``tests/test_offline_speech.py`` has espeak and sphinx."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.plugin import getPlugins
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi import plugins
from xiaozhi.base.capabilities import Capabilities, VoiceSetting
from xiaozhi.base.values import Picture, ToolSpec
from xiaozhi.interfaces import IProviderMaker
from xiaozhi.runtime.config import read_section
from xiaozhi.test.providers.test_provider_registry import Runtime
from xiaozhi.testing.contracts.capabilities import calls_tools, gives_interim, sample_rates, sees
from xiaozhi.testing.vendors.answers import call, plain
from xiaozhi.testing.vendors.network import Network
from xiaozhi.testing.vendors.octets import DONE, whole
from xiaozhi.testing.vendors.vendor import ScriptedVendor

LAMP = ToolSpec(
    "self_audio_speaker_set_volume",
    "Sets the volume of the speaker.",
    {"type": "object", "properties": {"volume": {"type": "integer"}}},
)
ONE, OTHER = (Picture(data, "image/png", 4, 4) for data in (b"one", b"two"))
VENDOR = {"base_url": "http://127.0.0.1:8000/v1"}
SPEECH = bytes(64000)

# Kind, name, settings.
EXAMPLES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("asr", "scripted", {"texts": ["one two three"]}),
    ("asr", "scripted", {"texts": ["one two three"], "interim": 0.3}),
    ("asr", "openai", VENDOR),
    ("llm", "scripted", {"calls": [{"name": LAMP.name, "arguments": {"volume": 30}}]}),
    ("llm", "intents", {}),
    ("llm", "openai", VENDOR | {"model": "m"}),
    ("tts", "tone", {"sample_rate": 16000}),
    ("tts", "openai", VENDOR | {"sample_rate": 8000}),
    ("tts", "openai", VENDOR | {"response_format": "mp3"}),
    ("vlllm", "scripted", {"answers": ["A cat.", "A dog."]}),
    ("vlllm", "stand_in", {}),
    ("vlllm", "openai", VENDOR | {"model": "m"}),
)
# Tested elsewhere, with real child processes or in a dialect of the vendor's own, or without
# capabilities.
ELSEWHERE = {("asr", "sphinx"), ("tts", "espeak"), ("vad", "webrtc"), ("vad", "energy")}


class TruthTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.network = Network()
        self.vendor = ScriptedVendor(self.network)
        self.network.listen(8000, self.vendor)
        makers: list[IProviderMaker] = list(getPlugins(IProviderMaker, plugins))
        self.makers: dict[tuple[str, str], Any] = {(each.kind, each.name): each for each in makers}

    def make(self, kind: str, name: str, section: dict[str, Any]) -> tuple[Any, Capabilities]:
        maker = self.makers[kind, name]
        settings = read_section(section, maker.settings(), "x")
        return maker.make(settings, Runtime(self.network)), maker.capabilities(settings)

    def result(self, coroutine: Any) -> Any:
        waiting = Deferred.fromCoroutine(coroutine)
        for _ in range(100):
            self.network.settle()
            if waiting.called:
                break
            self.network.advance(0.05)
        return self.successResultOf(waiting)

    def script(self, kind: str) -> None:
        """Let the vendor answer as one with all capabilities does."""
        answers: dict[str, list[list[Any]]] = {
            "asr": [whole({"text": "one two three"})],
            "llm": [plain(call(LAMP.name, '{"volume":30}'), DONE)],
            "tts": [whole(bytes(3200), "audio/pcm")],
            "vlllm": [
                whole({"choices": [{"message": {"content": text}}]}) for text in ("Cat.", "Dog.")
            ],
        }
        self.vendor.play(*answers[kind])

    def seen(self, kind: str, provider: Any) -> Any:
        if kind == "asr":
            return self.result(gives_interim(provider, SPEECH))
        if kind == "llm":
            return self.result(calls_tools(provider, "set the volume to thirty", LAMP))
        if kind == "tts":
            return self.result(sample_rates(provider, "Hello."))
        return self.result(sees(provider, ONE, OTHER))

    def test_declared_capabilities_are_observed(self) -> None:
        for kind, name, section in EXAMPLES:
            self.script(kind)
            provider, declared = self.make(kind, name, section)
            self.addCleanup(provider.close)
            seen = self.seen(kind, provider)
            where = f"{kind} {name} {section}"
            if kind == "tts":
                self.assertTrue(
                    not declared.sample_rates or seen <= {*declared.sample_rates}, where
                )
            else:
                ability = {"asr": "interim", "llm": "tools", "vlllm": "vision"}[kind]
                self.assertEqual(seen, getattr(declared, ability), where)
        self.vendor.hang_up()
        self.network.settle()

    def test_every_provider_is_looked_at(self) -> None:
        shown = {(kind, name) for kind, name, _ in EXAMPLES}
        self.assertEqual(shown | ELSEWHERE, {*self.makers})

    def test_voice_settings_take_their_normal_value(self) -> None:
        """A factor of one equals an absent setting."""
        for (kind, name), maker in self.makers.items():
            if kind != "tts":
                continue
            settings = maker.settings()()
            for each in maker.capabilities(settings).voice_settings:
                if each.field == "id":
                    continue
                own = read_section({each.name: each.value(1.0)}, maker.settings(), "x")
                default = getattr(settings, each.name)
                self.assertIn(getattr(own, each.name), (default, 1.0), f"{name} {each.name}")


class VoiceSettingTests(SynchronousTestCase):
    def test_factors_become_the_vendor_s_units(self) -> None:
        words = VoiceSetting("rate", "rate", 165)
        self.assertEqual(words.value(1.2), 198)
        self.assertIsInstance(words.value(1.2), int)
        self.assertEqual(VoiceSetting("rate", "speed", 1.0).value(1.2), 1.2)
        self.assertEqual(VoiceSetting("id", "voice").value("alloy"), "alloy")
