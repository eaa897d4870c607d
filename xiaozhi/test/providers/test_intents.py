"""The intent matcher: numbers, phrases, and whole exchanges with tools."""

from __future__ import annotations

import json
from collections.abc import Sequence
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from xiaozhi.base.errors import ConfigError, ProviderError
from xiaozhi.base.values import Delta, Role, TextDelta, ToolCall, ToolSpec, Utterance
from xiaozhi.interfaces import ILanguageModel
from xiaozhi.providers.offline.intents import IntentModel, IntentSettings
from xiaozhi.providers.offline.intents.book import book
from xiaozhi.providers.offline.intents.numerals import chinese_number, english_number
from xiaozhi.providers.offline.intents.phrases import language_of, normalise, parse
from xiaozhi.providers.offline.intents.spoken import clock, day
from xiaozhi.wire.messages import EMOTIONS

VOLUME = "self_audio_speaker_set_volume"
STATUS = "self_get_device_status"
EVERY_TOOL = (
    "get_time",
    "get_date",
    "end_conversation",
    VOLUME,
    STATUS,
    "self_screen_set_brightness",
    "self_screen_set_theme",
    "self_camera_take_photo",
)
DEVICE = {
    "audio_speaker": {"volume": 70},
    "screen": {"brightness": 75, "theme": "light"},
    "battery": {"level": 88, "charging": True},
    "network": {"type": "wifi", "ssid": "Home"},
}
RESULTS = {
    "get_time": '{"time":"15:42","timezone":"Europe/Paris"}',
    "get_date": '{"date":"2026-11-22","weekday":"Sunday"}',
    "end_conversation": '{"ended":true}',
    VOLUME: "true",
    STATUS: json.dumps(DEVICE),
    "self_screen_set_brightness": "true",
    "self_screen_set_theme": "true",
    "self_camera_take_photo": '{"success":true,"text":"A red cup."}',
}
FACES = "🙂😌😉😆😂😜🤔😎😔"


def specs(names: Sequence[str]) -> list[ToolSpec]:
    return [ToolSpec(name, "", {"type": "object"}) for name in names]


class Exchange:
    """A person, the model, and a device with tools."""

    def __init__(self, test: SynchronousTestCase, **settings: str) -> None:
        self._test = test
        self.model = IntentModel(IntentSettings(**settings), Random(1))  # type: ignore[arg-type]
        self.dialogue: list[Utterance] = [Utterance(Role.SYSTEM, "You are kind.")]
        self.results = dict(RESULTS)
        self.tools = list(EVERY_TOOL)
        self.calls: list[ToolCall] = []

    def once(self) -> list[Delta]:
        async def collect() -> list[Delta]:
            return [d async for d in self.model.reply(self.dialogue, specs(self.tools))]

        result: list[Delta] = self._test.successResultOf(Deferred.fromCoroutine(collect()))
        return result

    def say(self, text: str) -> str:
        """Continue until there are words; tools answer at once."""
        self.calls = []
        self.dialogue.append(Utterance(Role.USER, text))
        for _ in range(4):
            deltas = self.once()
            if not isinstance(deltas[0], ToolCall):
                answer = "".join(d.text for d in deltas if isinstance(d, TextDelta))
                self.dialogue.append(Utterance(Role.ASSISTANT, answer))
                return answer
            (call,) = deltas
            assert isinstance(call, ToolCall)
            self.calls.append(call)
            self.dialogue.append(Utterance(Role.ASSISTANT, "", (call,)))
            result = self.results[call.name]
            self.dialogue.append(Utterance(Role.TOOL, result, call_id=call.call_id))
        raise AssertionError(f"no answer to {text!r}")

    def made(self) -> list[tuple[str, object]]:
        return [(call.name, json.loads(call.arguments)) for call in self.calls]


def understood(text: str) -> tuple[str, int | None] | None:
    match = book(language_of(text)).match(text)
    return None if match is None else (match.intent.id, match.number)


class NumberTests(SynchronousTestCase):
    """Spoken numbers."""

    def test_english(self) -> None:
        for text, value in (
            ("0", 0),
            ("zero", 0),
            ("seven", 7),
            ("twelve", 12),
            ("thirty five", 35),
            ("ninety", 90),
            ("a hundred", 100),
            ("one hundred", 100),
            ("half", 50),
        ):
            self.assertEqual(english_number(text), value, text)

    def test_english_nonsense(self) -> None:
        for text in ("", "banana", "five thirty", "twenty twelve", "two hundred", "one two three"):
            self.assertIsNone(english_number(text), text)

    def test_numbers_of_any_length(self) -> None:
        """Python refuses to parse thousands of digits."""
        for text in ("1" * 10, "9" * 5000, "٣" * 5000):
            self.assertIsNone(english_number(text), len(text))
            self.assertIsNone(chinese_number(text), len(text))
        self.assertEqual(english_number("123456789"), 123456789)

    def test_chinese(self) -> None:
        for text, value in (
            ("零", 0),
            ("十", 10),
            ("十五", 15),
            ("三十五", 35),
            ("二十", 20),
            ("一百", 100),
            ("一百零五", 105),
            ("一百五", 150),
            ("一百一十", 110),
            ("一百二十三", 123),
            ("二零", 20),
            ("两", 2),
            ("一半", 50),
            ("42", 42),
        ):
            self.assertEqual(chinese_number(text), value, text)

    def test_chinese_nonsense(self) -> None:
        for text in ("", "十十", "百", "好", "五百百", "三十五六"):
            self.assertIsNone(chinese_number(text), text)

    @given(st.integers(0, 100))
    def test_every_percentage_is_heard(self, value: int) -> None:
        tens, unit = divmod(value, 10)
        digits = "零一二三四五六七八九"
        if value == 100:
            chinese = "一百"
        elif tens:
            chinese = f"{digits[tens] if tens > 1 else ''}十{digits[unit] if unit else ''}"
        else:
            chinese = digits[unit]
        self.assertEqual(understood(f"音量调到{chinese}"), ("volume_set", value))
        self.assertEqual(understood(f"音量调到百分之{value}"), ("volume_set", value))
        self.assertEqual(understood(f"Set the volume to {value}%"), ("volume_set", value))


class NotationTests(SynchronousTestCase):
    """The phrase notation and normal form."""

    def test_mistakes_name_the_phrase(self) -> None:
        for phrase in ("set [the", "a)", "(a|b", "a <colour>"):
            error = self.assertRaises(ConfigError, parse, phrase)
            self.assertIn(phrase, error.message)

    def test_normal_form(self) -> None:
        self.assertEqual(normalise("What\u2019s  UP,'Doc'?", "en"), "what is up doc ")
        self.assertEqual(normalise("twenty-five ５％", "en"), "twenty five 5 percent ")
        self.assertEqual(normalise("音量 调到，５０％！", "zh"), "音量调到50%")

    @given(st.text(max_size=60))
    def test_any_text_is_matched_or_not(self, text: str) -> None:
        for language in ("en", "zh"):
            book(language).match(text)


class UnderstandingTests(SynchronousTestCase):
    """Sentences and their intents."""

    def check(self, expected: str, *texts: str) -> None:
        for text in texts:
            found = understood(text)
            self.assertEqual(found and found[0], expected, text)

    def test_english(self) -> None:
        self.check(
            "get_time", "What time is it?", "hello, what time is it now please", "what's the time"
        )
        self.check("get_date", "What's the date today?", "what day is it")
        self.check(
            "volume_set", "please set the volume to fifty", "Could you set volume to 50%, please?"
        )
        self.check("volume_up", "Louder!", "turn the volume up", "turn it up", "I can't hear you")
        self.check("volume_up_by", "turn it up by ten percent", "increase the volume by 10")
        self.check("photo", "what do you see", "Take a photo and tell me what you see.")
        self.check("goodbye", "bye bye", "Good night.")
        self.check("greeting", "Hello", "hi there", "Hello XiaoZhi!")

    def test_chinese(self) -> None:
        self.check("get_time", "现在几点了？", "请问现在几点", "几点了", "告诉我现在的时间")
        self.check("get_date", "今天星期几", "今天几号呀？")
        self.check("volume_set", "请把音量调到百分之五十", "音量调到３０", "帮我把声音调大到八十")
        self.check("volume_up", "声音大一点", "能不能大声一点？", "音量调大")
        self.check("volume_up_by", "音量调高十")
        self.check("volume_down_by", "音量降低二十")
        self.check("photo", "这是什么", "帮我拍张照片", "你看到了什么")
        self.check("goodbye", "再见", "拜拜！", "退出")
        self.check("greeting", "你好", "你好小智", "小智小智", "早上好")
        self.check("help", "你会做什么", "你能做什么？")

    def test_a_clause_that_asks_for_something_wins(self) -> None:
        self.assertEqual(understood("Thank you! What time is it?"), ("get_time", None))

    def test_nonsense(self) -> None:
        for text in (
            "",
            "banana split",
            "do not set the volume to ten",
            "香蕉",
            "不要说话了音量",
            "42",
        ):
            self.assertIsNone(understood(text), text)


class ExchangeTests(SynchronousTestCase):
    """Complete dialogues."""

    def setUp(self) -> None:
        self.exchange = Exchange(self)

    def test_provides_its_interface(self) -> None:
        verifyObject(ILanguageModel, self.exchange.model)
        self.successResultOf(self.exchange.model.close())

    def test_time_in_both_languages(self) -> None:
        self.assertEqual(self.exchange.say("What time is it?"), "🙂 It is 3:42 PM.")
        self.assertEqual(self.exchange.made(), [("get_time", {})])
        self.assertEqual(self.exchange.say("现在几点？"), "🙂 现在是下午3点42分。")

    def test_date_in_both_languages(self) -> None:
        self.assertIn("Sunday, November 22nd", self.exchange.say("what is the date"))
        self.assertEqual(self.exchange.say("今天几号"), "🙂 今天是11月22日，星期日。")

    def test_a_change_of_role(self) -> None:
        self.exchange.tools.append("switch_role")
        self.exchange.results["switch_role"] = '{"role": "pirate"}'
        for words in ("Please be a pirate!", "talk like a space pirate", "请你扮演海盗吧"):
            answer = self.exchange.say(words)
            name, arguments = self.exchange.made()[-1]
            self.assertEqual((name, arguments), ("switch_role", {"role": words}))
            self.assertIn("pirate", answer)
        for words in ("switch to dark mode", "be quiet", "换成深色主题"):
            found = understood(words)
            self.assertNotEqual(found and found[0], "switch_role", words)

    def test_volume_is_set(self) -> None:
        answer = self.exchange.say("set the volume to thirty five percent")
        self.assertEqual(self.exchange.made(), [(VOLUME, {"volume": 35})])
        self.assertIn("35 percent", answer)

    def test_relative_volume_reads_the_status_first(self) -> None:
        answer = self.exchange.say("turn it up by ten")
        self.assertEqual(self.exchange.made(), [(STATUS, {}), (VOLUME, {"volume": 80})])
        self.assertIn("80 percent", answer)
        self.exchange.say("音量降低二十")
        self.assertEqual(self.exchange.made(), [(STATUS, {}), (VOLUME, {"volume": 50})])

    def test_relative_volume_stays_within_bounds(self) -> None:
        self.exchange.results[STATUS] = '{"audio_speaker":{"volume":95}}'
        self.exchange.say("louder")
        self.assertEqual(self.exchange.made()[-1], (VOLUME, {"volume": 100}))
        self.exchange.results[STATUS] = '{"audio_speaker":{"volume":5}}'
        self.exchange.say("小声一点")
        self.assertEqual(self.exchange.made()[-1], (VOLUME, {"volume": 0}))

    def test_status_without_the_field(self) -> None:
        self.exchange.results[STATUS] = "{}"
        self.assertIn("does not tell me", self.exchange.say("louder"))
        self.assertEqual(len(self.exchange.calls), 1)

    def test_out_of_range(self) -> None:
        self.assertIn("between 0 and 100", self.exchange.say("set the volume to 150"))
        self.assertEqual(self.exchange.calls, [])

    def test_brightness_and_theme(self) -> None:
        self.exchange.say("brighter")
        self.assertEqual(
            self.exchange.made()[-1], ("self_screen_set_brightness", {"brightness": 95})
        )
        self.exchange.say("切换到深色模式")
        self.assertEqual(self.exchange.made(), [("self_screen_set_theme", {"theme": "dark"})])

    def test_battery(self) -> None:
        self.assertEqual(
            self.exchange.say("how is the battery"),
            "🙂 The battery is at 88 percent and charging.",
        )
        self.exchange.results[STATUS] = '{"battery":{"level":9}}'
        self.assertEqual(self.exchange.say("电量还有多少"), "🙂 电量还有9%。")

    def test_status_lists_the_fields(self) -> None:
        self.exchange.results[STATUS] = '{"audio_speaker":{"volume":70}}'
        self.assertEqual(self.exchange.say("device status"), "The volume is at 70 percent.")

    def test_photo_passes_the_question_on(self) -> None:
        self.assertEqual(self.exchange.say("What is this?"), "A red cup.")
        self.assertEqual(
            self.exchange.made(), [("self_camera_take_photo", {"question": "What is this?"})]
        )
        self.exchange.results["self_camera_take_photo"] = "Just words."
        self.assertEqual(self.exchange.say("这是什么"), "Just words.")

    def test_goodbye_with_and_without_its_tool(self) -> None:
        self.assertRegex(self.exchange.say("goodbye"), "Goodbye|See you")
        self.assertEqual(self.exchange.made(), [("end_conversation", {})])
        self.exchange.tools = []
        self.assertRegex(self.exchange.say("再见"), "再")
        self.assertEqual(self.exchange.calls, [])

    def test_a_missing_tool_is_admitted(self) -> None:
        self.exchange.tools = ["get_time"]
        self.assertIn("cannot do that", self.exchange.say("set the volume to ten"))
        self.assertIn("做不到", self.exchange.say("声音大一点"))
        self.exchange.tools = [VOLUME]
        self.assertIn("cannot do that", self.exchange.say("louder"))

    def test_failures_are_spoken(self) -> None:
        self.exchange.results[VOLUME] = "error: speaker is off"
        self.assertIn("did not work: speaker is off", self.exchange.say("set the volume to ten"))
        self.exchange.results[VOLUME] = "false"
        self.assertIn("did not work.", self.exchange.say("set the volume to ten"))
        self.exchange.results["self_camera_take_photo"] = '{"success":false,"message":"没有镜头"}'
        self.assertIn("没有成功：没有镜头", self.exchange.say("这是什么"))
        self.exchange.results[STATUS] = '{"error":{"message":"timed out"}}'
        self.assertIn("timed out", self.exchange.say("louder"))

    def test_results_of_an_unknown_tool(self) -> None:
        call = ToolCall("1", "play_music", "{}")
        self.exchange.dialogue += [
            Utterance(Role.USER, "play some jazz"),
            Utterance(Role.ASSISTANT, "", (call,)),
            Utterance(Role.TOOL, "{}", call_id="1"),
        ]
        self.assertEqual("".join(d.text for d in self.exchange.once()), "🙂 Done.")  # type: ignore[union-attr]

    def test_small_talk_in_both_languages(self) -> None:
        self.assertIn("Xiaozhi", self.exchange.say("Who are you?"))
        self.assertIn("小智", self.exchange.say("你是谁"))
        self.assertIn("change the volume, ", self.exchange.say("what can you do"))
        self.assertIn("报时间", self.exchange.say("你会做什么"))
        self.assertIn("Ask me", self.exchange.say("quantum chromodynamics"))
        self.assertTrue(self.exchange.say("量子色动力学").startswith("🤔"))

    def test_repeat(self) -> None:
        first = self.exchange.say("what time is it")
        self.assertEqual(self.exchange.say("say that again"), first)

    def test_jokes_differ(self) -> None:
        self.assertGreater(len({self.exchange.say("tell me a joke") for _ in range(20)}), 1)

    def test_configured_name_and_language(self) -> None:
        exchange = Exchange(self, name="Robin", language="en")
        self.assertIn("Robin", exchange.say("who are you"))
        self.assertIn("Ask me", exchange.say("你是谁"))

    def test_text_comes_in_small_pieces(self) -> None:
        self.exchange.dialogue.append(Utterance(Role.USER, "how are you"))
        english = self.exchange.once()
        self.assertGreater(len(english), 3)
        self.assertTrue(all(isinstance(d, TextDelta) and " " not in d.text[:-1] for d in english))
        self.exchange.dialogue.append(Utterance(Role.USER, "谢谢"))
        self.assertGreater(len(self.exchange.once()), 3)

    def test_call_ids_differ(self) -> None:
        self.exchange.say("louder")
        self.exchange.say("louder")
        ids = [c.call_id for entry in self.exchange.dialogue for c in entry.calls]
        self.assertEqual(len(set(ids)), 4)

    def test_nothing_to_reply_to(self) -> None:
        async def ask(dialogue: list[Utterance]) -> None:
            async for _ in self.exchange.model.reply(dialogue, []):
                pass

        for dialogue in ([], [Utterance(Role.USER, "hi"), Utterance(Role.ASSISTANT, "hi")]):
            failure = self.failureResultOf(Deferred.fromCoroutine(ask(dialogue)), ProviderError)
            self.assertEqual(failure.value.code, "bad_dialogue")


class BookTests(SynchronousTestCase):
    """The data of both books."""

    def test_books_have_the_same_intents(self) -> None:
        english, chinese = (book(language).page for language in ("en", "zh"))
        self.assertEqual([i.id for i in english.intents], [i.id for i in chinese.intents])

    def test_every_intent_answers(self) -> None:
        for language in ("en", "zh"):
            for intent in book(language).page.intents:
                self.assertTrue(intent.phrases or intent.typed, intent.id)
                self.assertTrue(bool(intent.answers) != bool(intent.sentences), intent.id)

    def test_faces_are_known(self) -> None:
        self.assertEqual(len(EMOTIONS), 21)
        for language in ("en", "zh"):
            for intent in book(language).page.intents:
                for answer in intent.answers:
                    self.assertIn(answer[0], FACES + "{", answer)


class SpokenTests(SynchronousTestCase):
    """Spoken times and dates."""

    def test_clock(self) -> None:
        for text, english, chinese in (
            ("00:00", "12 AM", "凌晨0点整"),
            ("09:05", "9:05 AM", "上午9点5分"),
            ("12:30", "12:30 PM", "中午12点30分"),
            ("23:59:10", "11:59 PM", "晚上11点59分"),
        ):
            self.assertEqual(clock(text, "en"), english)
            self.assertEqual(clock(text, "zh"), chinese)

    def test_day(self) -> None:
        self.assertEqual(day("2026-01-01", "en"), "January 1st")
        self.assertEqual(day("2026-11-13", "en"), "November 13th")
        self.assertEqual(day("2026-01-01", "zh"), "1月1日")

    def test_neither(self) -> None:
        self.assertRaises(ValueError, clock, "soon", "en")
        self.assertRaises(ValueError, day, "today", "en")
