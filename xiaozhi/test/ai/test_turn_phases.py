"""The course of one turn: messages and time limits."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from xiaozhi.agents.settings import TurnSettings
from xiaozhi.ai.speech.output import Speech
from xiaozhi.ai.timeline.counts import AiCounts
from xiaozhi.ai.timeline.timeline import Overheard, Timeline
from xiaozhi.ai.turn.turn import Turn
from xiaozhi.base.errors import ProviderError
from xiaozhi.base.values import Delta, TextDelta, ToolCall, Transcript
from xiaozhi.interfaces import ISynthesizer
from xiaozhi.languages.texts import text
from xiaozhi.test.ai.test_ai_turn import Tool, UnfinishedModel
from xiaozhi.testing.parts import scripted, turn_parts
from xiaozhi.tools.toolbox import Toolbox
from xiaozhi.wire import messages as m

APOLOGY, WAITING = text("apology", "en"), text("waiting", "en")
FINISHED = m.Playback(1, m.PlaybackState.FINISHED, 1000)
DOWN = ProviderError("asr_down", "is down", retryable=True)


class TurnCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(100)
        self.sent: list[Any] = []
        self.answers(TextDelta("It is noon."))

    def answers(self, *deltas: Delta, ends: bool = True, **limits: Any) -> None:
        """Make a turn whose model gives this answer."""
        context, self.output = turn_parts(self.clock, self.sent.append)
        limited = TurnSettings(**limits)
        self.context = replace(context, model=UnfinishedModel(*deltas, ends=ends), limits=limited)
        self.output = replace(self.output, limits=limited)
        self.another()

    def another(self) -> None:
        self.turn = Turn(1, self.context, self.output)
        self.sent.clear()

    def ask(self, words: str = "what time is it", **how: Any) -> Deferred[bool]:
        return self.hear(succeed(Transcript(words)), **how)

    def hear(self, heard: Awaitable[Transcript], **how: Any) -> Deferred[bool]:
        return Deferred.fromCoroutine(self.turn.answer(heard, **how))

    def keep(self, *keys: str) -> None:
        """Speak phrases, so that they are stored."""
        for key in keys:
            speech = Speech(self.output, 1, "en", Timeline(AiCounts(), self.clock))
            Deferred.fromCoroutine(speech.pronounce(text(key, "en"), "en"))
            self.successResultOf(Deferred.fromCoroutine(speech.finish()))
        self.sent.clear()

    def run_for(self, seconds: float) -> None:
        self.clock.pump([0.01] * round(seconds * 100))

    def finished(self, waiting: Deferred[bool]) -> bool:
        self.turn.playback(FINISHED)
        return self.successResultOf(waiting)

    def story(self) -> list[str]:
        """Everything sent, except sound: type and contents."""
        told = []
        for each in self.sent:
            match each:
                case m.Tts(state=state, text=words):
                    told.append(words or state.value)
                case m.Stt(text=words):
                    told.append(f"heard {words}")
                case m.Llm(emotion=emotion):
                    told.append(emotion)
                case m.Audio():
                    pass
                case _:
                    told.append(type(each).__name__)
        return told


class CourseTests(TurnCase):
    def test_an_answer(self) -> None:
        self.assertFalse(self.turn.started)
        answer = self.ask()
        self.assertTrue(self.turn.started)
        self.run_for(3)
        told = ["heard what time is it", "start", "neutral", "It is noon.", "stop"]
        self.assertEqual(self.story(), told)
        self.assertFalse(self.turn.playing)
        self.turn.playback(m.Playback(1, m.PlaybackState.STARTED))
        self.assertTrue(self.turn.playing)
        self.assertNoResult(answer)
        self.assertTrue(self.finished(answer))
        # A second report changes nothing, and nothing is undone.
        self.turn.playback(FINISHED)
        self.assertEqual(self.story(), told)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.turn.timeline.begun, "typed")

    # The model's text; the face and the sentences.
    SAID: tuple[tuple[str, list[str]], ...] = (
        ("It is noon.", ["neutral", "It is noon."]),
        ("😀 It is noon.", ["happy", "It is noon."]),
        ("It is noon. 😀 And warm.", ["neutral", "It is noon.", "happy", "And warm."]),
        ("It is noon. It is warm.", ["neutral", "It is noon.", "It is warm."]),
        ("It  is   noon.", ["neutral", "It is noon."]),
        ("It is noon. ... ", ["neutral", "It is noon."]),
    )

    def test_faces_and_sentences(self) -> None:
        for said, told in self.SAID:
            self.answers(TextDelta(said))
            answer = self.ask()
            self.run_for(9)
            self.finished(answer)
            story = [each for each in self.story()[2:-1] if each != "stop"]
            self.assertEqual(story, told, said)

    def test_nothing_was_said(self) -> None:
        for words in ("", " "):
            self.another()
            self.assertFalse(self.successResultOf(self.ask(words)))
            self.assertEqual(self.sent, [])
            self.assertFalse(self.turn.started)

    def test_said_over_the_answer_before(self) -> None:
        over = Overheard(Transcript("and now"), 99.0, 99.5, "", "")
        answer = Deferred.fromCoroutine(self.turn.answer_overheard(over))
        self.run_for(3)
        self.assertTrue(self.finished(answer))
        self.assertEqual(self.story()[:2], ["heard and now", "start"])

    def test_the_language_of_the_question(self) -> None:
        """The recogniser's language, or that of the script; it stays that of the conversation."""
        for transcript, language in (
            (Transcript("hola", language="es"), "es"),
            (Transcript("现在几点"), "zh"),
        ):
            self.another()
            self.hear(succeed(transcript))
            self.assertEqual(self.context.talk.current.split("-")[0], language)

    def test_a_greeting_a_farewell_and_an_announcement(self) -> None:
        for course, told in (
            (self.turn.greet, ["heard hi", "start", "neutral", "Here I am.", "stop"]),
            (self.turn.bid_farewell, ["start", "neutral", text("farewell", "en"), "stop"]),
            (self.turn.announce, ["start", "neutral", "Dinner is ready.", "stop"]),
        ):
            self.setUp()
            begin: Any = getattr(self.turn, course.__name__)
            words = {"greet": ("hi", "Here I am."), "announce": ("Dinner is ready.",)}
            answer = Deferred.fromCoroutine(begin(*words.get(course.__name__, ())))
            self.run_for(3)
            self.assertEqual(self.story(), told)
            self.assertEqual(self.turn.timeline.begun, "recited")
            self.assertTrue(self.finished(answer))
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_picture(self) -> None:
        seen: Deferred[str] = Deferred()
        answer = Deferred.fromCoroutine(self.turn.recite("what is it", seen))
        self.assertEqual(self.story(), ["heard what is it", "start"])
        seen.callback("A cup. It is red.")
        self.run_for(3)
        self.assertEqual(self.story()[2:], ["neutral", "A cup.", "It is red.", "stop"])
        self.assertTrue(self.finished(answer))
        told = [each.text for each in self.context.dialogue.entries()[1:]]
        self.assertEqual(told, ["what is it", "A cup. It is red."])

    def test_an_announcement_is_said_in_its_own_language(self) -> None:
        Deferred.fromCoroutine(self.turn.announce("晚饭好了。"))
        self.assertEqual(self.context.talk.current.split("-")[0], "zh")


class LateTests(TurnCase):
    """Each wait has its limit."""

    def test_recognition(self) -> None:
        answer = self.hear(Deferred(), spoken=True)
        self.assertEqual(self.turn.timeline.begun, "spoken")
        self.run_for(7.9)
        self.assertNotIn(APOLOGY, self.story())
        self.run_for(0.2)
        self.assertIn(APOLOGY, self.story())
        self.run_for(3)
        self.assertTrue(self.finished(answer))

    def test_the_description_of_a_picture(self) -> None:
        never: Deferred[str] = Deferred()
        Deferred.fromCoroutine(self.turn.recite("what is it", never))
        self.run_for(29.9)
        self.assertNotIn(APOLOGY, self.story())
        self.run_for(0.2)
        self.assertIn(APOLOGY, self.story())

    def test_the_whole(self) -> None:
        self.answers(ends=False, whole=5.0, first_token=60.0)
        self.ask()
        self.run_for(4.9)
        self.assertNotIn(APOLOGY, self.story())
        self.run_for(0.2)
        self.assertIn(APOLOGY, self.story())

    # Seconds to wait for the report of the end, after a pause of so many seconds.
    PAUSES = ((0.0, 0.0), (2.0, 0.0), (0.0, 3.0), (2.0, 3.0))

    def test_the_report_of_the_end(self) -> None:
        """The limit is the duration of the sound and its pauses, and some more."""
        for before, after in self.PAUSES:
            self.answers(TextDelta("It is noon."), playback=4.0)
            began = self.clock.seconds()
            if before:
                self.turn.wait(before)
            # The first packet may be late.
            self.output.gate.close()
            answer = self.ask()
            self.run_for(0.5)
            self.output.gate.open()
            self.run_for(0.01)
            while "stop" not in self.story():
                self.run_for(0.01)
            stopped = self.clock.seconds()
            sound = 0.06 * sum(isinstance(each, m.Audio) for each in self.sent)
            elapsed = stopped - began
            if after:
                self.turn.wait(after)
            limit = sound + max(0.0, sound - elapsed) + 4 + before + after
            self.run_for(limit - 0.1)
            self.assertNoResult(answer)
            self.run_for(0.2)
            self.assertTrue(self.successResultOf(answer), (before, after))
            # The edge sends the stop.
            self.assertNotIn("Flush", self.story())


class EchoTests(TurnCase):
    """Unrecognised sound close to our own sound does not cause a second apology."""

    def test_the_second_apology_is_a_face(self) -> None:
        self.keep("apology")
        answer = self.hear(fail(DOWN), spoken=True, after=1.0)
        self.run_for(2)
        self.assertTrue(self.finished(answer))
        self.assertIn(APOLOGY, self.story())
        self.another()
        self.assertFalse(self.successResultOf(self.hear(fail(DOWN), spoken=True, after=1.0)))
        self.assertEqual(self.story(), ["confused"])
        # After recognised words, it is spoken again.
        self.another()
        answer = self.ask(after=1.0)
        self.run_for(3)
        self.finished(answer)
        self.another()
        answer = self.hear(fail(DOWN), spoken=True, after=1.0)
        self.run_for(2)
        self.assertTrue(self.finished(answer))

    def test_our_own_words_are_no_question(self) -> None:
        self.context.echo.said(WAITING)
        self.assertFalse(self.successResultOf(self.ask(WAITING, after=1.0)))
        self.assertEqual(self.sent, [])
        self.another()
        self.ask(WAITING)
        self.assertEqual(self.story()[0], f"heard {WAITING}")

    def test_words_over_an_answer_are_understood(self) -> None:
        self.keep("apology")
        self.context.echo.failed(1.0)
        over = Overheard(Transcript("and now"), 99.0, 99.5, "", "")
        answer = Deferred.fromCoroutine(self.turn.answer_overheard(over))
        self.run_for(3)
        self.finished(answer)
        self.another()
        answer = self.hear(fail(DOWN), spoken=True, after=1.0)
        self.run_for(2)
        self.assertTrue(self.finished(answer))

    def test_announcements_are_recognised_as_echo(self) -> None:
        answer = Deferred.fromCoroutine(self.turn.bid_farewell())
        self.run_for(2)
        self.finished(answer)
        self.assertFalse(self.context.echo.understood(text("farewell", "en"), 1.0))

    def test_the_sound_of_an_alert_is_one_of_ours(self) -> None:
        down = scripted(self.clock, tts={"fail": "down"}).tts
        self.output = replace(self.output, synthesizer=down)
        self.another()
        answer = self.ask()
        self.run_for(2)
        self.assertTrue(self.successResultOf(answer))
        (alert,) = [each for each in self.sent if isinstance(each, m.Alert)]
        title = text("apology_title", "en")
        self.assertEqual((alert.status, alert.message, alert.emotion), (title, APOLOGY, "sad"))
        self.assertAlmostEqual(self.context.echo.after(self.clock.seconds()), 2.0, places=1)


class BridgeTests(TurnCase):
    """A stored phrase bridges a long wait, once."""

    def test_once(self) -> None:
        self.answers(ends=False, bridge=2.0, first_token=60.0)
        self.keep("waiting")
        answer = self.ask()
        self.run_for(1.99)
        self.assertNotIn(WAITING, self.story())
        self.run_for(0.02)
        self.assertEqual(self.story()[-1], WAITING)
        self.run_for(20)
        self.assertEqual(self.story().count(WAITING), 1)
        self.assertEqual(self.story().count("start"), 1)
        # A microphone that picks it up gets no answer.
        self.assertFalse(self.context.echo.understood(WAITING, 1.0))
        answer.cancel()
        self.failureResultOf(answer)
        self.assertEqual(self.story()[-1], "Flush")
        self.run_for(0.5)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_while_it_is_still_recognised(self) -> None:
        """The phrase begins the turn."""
        self.keep("waiting")
        heard: Deferred[Transcript] = Deferred()
        answer = self.hear(heard, spoken=True)
        self.run_for(3.01)
        self.assertEqual(self.story(), ["start", WAITING])
        heard.callback(Transcript("what time is it"))
        self.run_for(3)
        told = ["heard what time is it", "neutral", "It is noon.", "stop"]
        self.assertEqual(self.story()[2:], told)
        self.assertTrue(self.finished(answer))

    def test_then_nothing_was_said(self) -> None:
        """The begun phrase is played to its end."""
        self.keep("waiting")
        heard: Deferred[Transcript] = Deferred()
        answer = self.hear(heard, spoken=True)
        self.run_for(3.01)
        heard.callback(Transcript(""))
        self.run_for(3)
        self.assertEqual(self.story(), ["start", WAITING, "stop"])
        self.assertFalse(self.finished(answer))

    def test_not_if(self) -> None:
        for name, bridge, kept in (("switched off", 0, True), ("no phrase is kept", 2.0, False)):
            self.answers(ends=False, bridge=bridge, first_token=60.0)
            if kept:
                self.keep("waiting")
            answer = self.ask()
            self.run_for(20)
            self.assertNotIn(WAITING, self.story(), name)
            answer.cancel()
            self.failureResultOf(answer)

    def test_not_of_announcements(self) -> None:
        self.keep("waiting")
        never: Deferred[str] = Deferred()
        Deferred.fromCoroutine(self.turn.recite("", never))
        self.run_for(10)
        self.assertNotIn(WAITING, self.story())

    def test_a_picture_is_asked_for(self) -> None:
        self.keep("waiting")
        never: Deferred[str] = Deferred()
        Deferred.fromCoroutine(self.turn.recite("what is it", never))
        self.run_for(3.1)
        self.assertIn(WAITING, self.story())

    def test_an_apology_after_it_does_not_wait_for_the_synthesiser(self) -> None:
        """In any stored voice, even if the preferred one is available."""
        for after, at_once in ((1.0, False), (3.5, True)):
            self.setUp()
            asked: list[bool] = []

            async def pronounce(
                speech: Speech, words: str, language: str, *, asked: list[bool] = asked, **how: Any
            ) -> None:
                asked.append(how["at_once"])

            self.patch(Speech, "pronounce", pronounce)
            heard: Deferred[Transcript] = Deferred()
            self.hear(heard, spoken=True)
            self.run_for(after)
            heard.errback(DOWN)
            self.assertEqual(asked, [at_once], after)

    def test_words_over_an_answer_wait_for_one_too(self) -> None:
        self.answers(ends=False, first_token=60.0)
        self.keep("waiting")
        over = Overheard(Transcript("and now"), 99.0, 99.5, "", "")
        Deferred.fromCoroutine(self.turn.answer_overheard(over))
        self.run_for(3.1)
        self.assertEqual(self.story()[-1], WAITING)

    def test_a_slow_tool_is_not_bridged_as_well(self) -> None:
        self.answers(ToolCall("1", "first", "{}"), bridge=1.0, tool=10.0)
        never: Deferred[str] = Deferred()
        self.context = replace(self.context, toolbox=Toolbox((Tool("first", never),)))
        self.keep("waiting")
        self.another()
        answer = self.ask()
        self.run_for(5)
        told = ["heard what time is it", "start", WAITING]
        self.assertEqual(self.story(), told)
        answer.cancel()
        self.failureResultOf(answer)

    def test_an_apology_after_it(self) -> None:
        self.answers(ends=False, bridge=1.0, first_token=2.0)
        self.keep("waiting", "apology")
        answer = self.ask()
        self.run_for(4)
        said = [each for each in self.story() if each in (WAITING, APOLOGY)]
        self.assertEqual(said, [WAITING, APOLOGY])
        self.assertTrue(self.finished(answer))

    def test_the_answer_is_spoken_in_its_own_language(self) -> None:
        """Even if the phrase was in the language of the conversation so far."""
        asked: list[tuple[str, str]] = []
        tone = self.output.synthesizer

        @implementer(ISynthesizer)
        class Linguist:
            sound = tone.sound

            def synthesize(self, text: str, language: str) -> AsyncGenerator[Any, None]:
                asked.append((text, language))
                return tone.synthesize(text, language)

            def close(self) -> Deferred[None]:
                return tone.close()

        self.answers(TextDelta("现在中午。"))
        self.output = replace(self.output, synthesizer=Linguist())
        self.keep("waiting")
        asked.clear()
        self.another()
        heard: Deferred[Transcript] = Deferred()
        self.hear(heard, spoken=True)
        self.run_for(3.1)
        heard.callback(Transcript("现在几点"))
        self.run_for(3)
        self.assertEqual([(text, language[:2]) for text, language in asked], [("现在中午。", "zh")])

    def test_the_answer_waits_for_its_end(self) -> None:
        """The edge holds it back; the answer has its own language."""
        self.keep("waiting")
        self.output.gate.close()
        heard: Deferred[Transcript] = Deferred()
        answer = self.hear(heard, spoken=True)
        self.run_for(3.1)
        heard.callback(Transcript("what time is it"))
        self.run_for(1)
        self.assertEqual(self.story()[:2], ["start", WAITING])
        self.output.gate.open()
        self.run_for(3)
        said = [each for each in self.story() if each in (WAITING, "It is noon.", "stop")]
        self.assertEqual(said, [WAITING, "It is noon.", "stop"])
        # Both whole: 60 ms for a character, and the pauses.
        packets = sum(isinstance(each, m.Audio) for each in self.sent)
        self.assertGreaterEqual(packets, len(WAITING) + len("It is noon."))
        self.assertTrue(self.finished(answer))


class EndTests(TurnCase):
    """Nothing of a turn is sent after its end."""

    def test_audio_held_back_by_the_edge(self) -> None:
        self.answers(TextDelta("It is noon. And more "), ends=False)
        self.output.gate.close()
        answer = self.ask()
        self.run_for(1)
        answer.cancel()
        self.failureResultOf(answer)
        sent = len(self.sent)
        self.output.gate.open()
        self.run_for(2)
        self.assertEqual(self.sent[sent:], [])

    def test_no_flush_of_a_turn_that_the_device_ended(self) -> None:
        self.answers(TextDelta("It is noon. And more "), ends=False)
        answer = self.ask()
        self.run_for(1)
        self.turn.playback(m.Playback(1, m.PlaybackState.FLUSHED, 100))
        answer.cancel()
        self.failureResultOf(answer)
        self.assertNotIn("Flush", self.story())

    def test_an_apology_replaces_the_begun_sentence(self) -> None:
        self.answers(TextDelta("It is noon. And more "), ends=False, next_token=1.0)
        self.keep("apology")
        self.output.gate.close()
        self.ask()
        self.run_for(2)
        self.output.gate.open()
        self.run_for(5)
        said = [each.text for each in self.sent if isinstance(each, m.Tts) and each.text]
        self.assertEqual(said[-1], APOLOGY)
        begun = max(
            at for at, each in enumerate(self.sent) if isinstance(each, m.Tts) and each.text
        )
        before = sum(isinstance(each, m.Audio) for each in self.sent[:begun])
        self.assertLessEqual(before, 1)

    def test_an_apology_in_the_language_of_the_question(self) -> None:
        self.answers(ends=False, first_token=1.0)
        self.ask("现在几点")
        self.run_for(3)
        self.assertIn(text("apology", "zh"), self.story())

    def test_a_failure_is_logged(self) -> None:
        with capturedLogs() as captured:
            answer = self.hear(fail(DOWN), spoken=True)
            self.run_for(3)
        self.finished(answer)
        failed = [each for each in captured if each["log_level"] is LogLevel.error]
        self.assertEqual([(each["turn"], str(each["error"])) for each in failed], [(1, str(DOWN))])

    # The start of the turn; the language of the conversation after it.
    LANGUAGES: tuple[tuple[str, tuple[Any, ...]], ...] = (
        ("recite", ("这是什么", Deferred())),
        ("greet", ("你好", "我在这里。")),
        ("announce", ("晚饭好了。",)),
    )

    def test_the_language_of_shown_and_spoken_texts(self) -> None:
        for name, words in self.LANGUAGES:
            self.setUp()
            begin: Any = getattr(self.turn, name)
            Deferred.fromCoroutine(begin(*words)).addErrback(lambda _: None)
            self.assertEqual(self.context.talk.current.split("-")[0], "zh", name)

    def test_no_answer_that_is_cut(self) -> None:
        self.answers(TextDelta(" "))
        answer = self.ask()
        self.turn.playback(m.Playback(1, m.PlaybackState.STARTED))
        self.clock.advance(0.6)
        answer.cancel()
        self.failureResultOf(answer)
        self.context.dialogue.played(1, 600)
        told = self.context.dialogue.entries()[-1].text
        self.assertTrue(told.startswith("I have") and told.endswith("[interrupted]"), told)
