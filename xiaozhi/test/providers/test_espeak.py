"""Distribution of a text among espeak-ng's voices."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.base.errors import ConfigError
from xiaozhi.providers.kit.process.worker import Worker
from xiaozhi.providers.offline import espeak
from xiaozhi.providers.offline.espeak import EspeakSettings, EspeakSynthesizer, split_scripts

INSTALLED = frozenset({"en-us", "en-gb-x-rp", "cmn", "yue", "de", "ja", "ko", "ru", "vi"})


class ScriptTests(SynchronousTestCase):
    def test_runs(self) -> None:
        for text, runs in (
            ("Hello, world!", [("latin", "Hello, world!")]),
            ("你好 world。再见", [("han", "你好 "), ("latin", "world。"), ("han", "再见")]),
            ("今日はいい天気", [("kana", "今日はいい天気")]),
            ("“25%” 你好", [("han", "“25%” 你好")]),
            ("…", [("", "…")]),
            ("", []),
        ):
            self.assertEqual(split_scripts(text), runs)

    @given(st.text())
    def test_nothing_is_lost(self, text: str) -> None:
        self.assertEqual("".join(piece for _, piece in split_scripts(text)), text)


class VoiceTests(SynchronousTestCase):
    def runs(self, text: str, language: str, **settings: object) -> list[tuple[str, str]]:
        worker = Worker(Clock(), "none")
        chosen = EspeakSettings(**settings)  # type: ignore[arg-type]
        return EspeakSynthesizer(chosen, worker, INSTALLED).runs(text, language)

    def voices(self, text: str, language: str, **settings: object) -> list[str]:
        return [voice for voice, _ in self.runs(text, language, **settings)]

    def test_by_language(self) -> None:
        for language, voice in (
            ("en", "en-us"),
            ("en-GB", "en-gb-x-rp"),
            ("de-AT", "de"),
            ("vi", "vi"),
            ("xx", "en-us"),
        ):
            self.assertEqual(self.voices("Hallo", language), [voice])
        self.assertEqual(self.voices("你好", "zh-CN"), ["cmn"])
        self.assertEqual(self.voices("你好", "zh-HK"), ["yue"])
        self.assertEqual(self.voices("東京", "ja"), ["ja"])

    def test_by_script_without_a_language(self) -> None:
        for text, voice in (
            ("Hello", "en-us"),
            ("你好", "cmn"),
            ("こんにちは", "ja"),
            ("안녕", "ko"),
            ("Привет", "ru"),
            ("12.", "en-us"),
        ):
            self.assertEqual(self.voices(text, ""), [voice])

    def test_mixed(self) -> None:
        self.assertEqual(
            self.runs("我喜欢 Python 编程", "zh"),
            [("cmn", "我喜欢 "), ("en-us", "Python "), ("cmn", "编程")],
        )
        self.assertEqual(self.voices("Sag 你好!", "de"), ["de", "cmn"])

    def test_settings_win(self) -> None:
        self.assertEqual(self.voices("Hello", "", voice="en-gb-x-rp"), ["en-gb-x-rp"])
        self.assertEqual(self.voices("你好", "zh-CN", voices={"zh": "cmn+f2"}), ["cmn+f2"])
        self.assertEqual(self.voices("你好", "", voices={"han": "yue"}), ["yue"])

    @given(st.text(), st.sampled_from(["", "zh", "en", "ja", "ru", "xx-YY"]))
    def test_runs_join_to_the_text(self, text: str, language: str) -> None:
        runs = self.runs(text, language)
        self.assertEqual("".join(piece for _, piece in runs), text)
        for voice, _ in runs:
            self.assertTrue(voice)


class MakeTests(SynchronousTestCase):
    def test_missing_package_says_how_to_get_it(self) -> None:
        self.patch(espeak, "find_spec", lambda name: None)
        error = self.assertRaises(ConfigError, EspeakSynthesizer.make, EspeakSettings(), None)
        self.assertIn("pip install '.[offline]'", error.message)

    def test_unknown_voice_is_named(self) -> None:
        for settings in (EspeakSettings(voice="xyz"), EspeakSettings(voices={"zh": "xyz+f2"})):
            error = self.assertRaises(ConfigError, EspeakSynthesizer.make, settings, None)
            self.assertIn("xyz", error.message)
