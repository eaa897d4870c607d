"""Failover groups: the contract of each kind, and the order and time of attempts."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides

from xiaozhi.base import usage
from xiaozhi.base.errors import ProviderError
from xiaozhi.base.values import Encoding, Role, SoundFormat, TextDelta, Transcript, Utterance
from xiaozhi.interfaces import IPreparable
from xiaozhi.providers.doubles.model import ModelSettings, ScriptedModel
from xiaozhi.providers.doubles.recognizer import ScriptedRecognizer
from xiaozhi.providers.doubles.synthesizer import ToneSynthesizer
from xiaozhi.providers.doubles.vision import ScriptedVision
from xiaozhi.providers.kit.failover.asr import FailoverRecognizer
from xiaozhi.providers.kit.failover.group import FailoverGroup
from xiaozhi.providers.kit.failover.kinds import FailoverModel, FailoverSynthesizer, FailoverVision
from xiaozhi.providers.kit.failover.settings import FailoverSettings
from xiaozhi.test.providers.test_doubles import Virtual
from xiaozhi.testing.contracts.providers import (
    PICTURE,
    LanguageModelContract,
    RecognizerContract,
    SynthesizerContract,
    VisionContract,
)
from xiaozhi.testing.logs import LogLines

DOUBLES: dict[str, tuple[Any, Any]] = {
    "asr": (ScriptedRecognizer, FailoverRecognizer),
    "llm": (ScriptedModel, FailoverModel),
    "tts": (ToneSynthesizer, FailoverSynthesizer),
    "vlllm": (ScriptedVision, FailoverVision),
}
ASKED = [Utterance(Role.USER, "hello")]
LIMITS = FailoverSettings(asr=2, llm=3, tts=1, vlllm=4, failures=3, cooldown=10, cooldown_max=40)


def several(
    clock: Clock,
    kind: str,
    *settings: dict[str, Any],
    limits: FailoverSettings = LIMITS,
) -> Any:
    """Make one provider of doubles of one kind, named ``a``, ``b``, …"""
    double, failover = DOUBLES[kind]
    made = [
        (chr(ord("a") + at), double(msgspec.convert(each, double.Settings), clock))
        for at, each in enumerate(settings)
    ]
    return failover(FailoverGroup.of(kind, made, limits, clock))


class FailoverRecognizerContract(Virtual, RecognizerContract):
    """The preferred one does not answer in time."""

    def provider(self) -> Any:
        return several(self.clock, "asr", {"hang": True}, {"texts": ["one"], "delay": 0.05})

    def speech(self) -> tuple[bytes, str]:
        return bytes(32000), "one"


class FailoverModelContract(Virtual, LanguageModelContract):
    def provider(self) -> Any:
        return several(self.clock, "llm", {"fail": "unreachable", "delay": 0.1}, {})


class FailoverSynthesizerContract(Virtual, SynthesizerContract):
    """The provider that speaks has another format than the preferred one."""

    def provider(self) -> Any:
        return several(self.clock, "tts", {"fail": "timeout"}, {"sample_rate": 16000})


class FailoverVisionContract(Virtual, VisionContract):
    def provider(self) -> Any:
        return several(self.clock, "vlllm", {"fail": "unreachable"}, {})


class AloneRecognizerContract(Virtual, RecognizerContract):
    def provider(self) -> Any:
        return several(self.clock, "asr", {"texts": ["one"], "delay": 0.05})

    def speech(self) -> tuple[bytes, str]:
        return bytes(32000), "one"


class AloneModelContract(Virtual, LanguageModelContract):
    def provider(self) -> Any:
        return several(self.clock, "llm", {})


class AloneSynthesizerContract(Virtual, SynthesizerContract):
    def provider(self) -> Any:
        return several(self.clock, "tts", {})


class FailoverCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()

    def several(self, kind: str, *settings: dict[str, Any]) -> Any:
        return several(self.clock, kind, *settings)

    async def text(self, model: Any) -> str:
        async with aclosing(model.reply(ASKED, [])) as deltas:
            return "".join([delta.text async for delta in deltas])

    def ask(self, model: Any) -> Deferred[str]:
        return Deferred.fromCoroutine(self.text(model))

    def error(self, result: Deferred[Any]) -> str:
        failure = self.failureResultOf(result, ProviderError)
        assert isinstance(failure.value, ProviderError)
        return failure.value.code

    def state(self, provider: Any, name: str = "a") -> tuple[str, int]:
        (status,) = (each for each in provider.group.status() if each.name == name)
        return status.state, status.failures

    def failures(self, provider: Any) -> dict[tuple[str, ...], int]:
        return {
            (each.name, code): count
            for each in provider.group.status()
            for code, count in each.failed.items()
        }


class ModelTests(FailoverCase):
    def test_the_preferred_one_answers(self) -> None:
        model = self.several("llm", {"answers": ["A."]}, {"answers": ["B."]})
        self.assertEqual(self.successResultOf(self.ask(model)), "A.")

    def test_the_next_one_if_it_fails(self) -> None:
        model = self.several("llm", {"fail": "unreachable"}, {"fail": "busy"}, {"answers": ["C."]})
        self.assertEqual(self.successResultOf(self.ask(model)), "C.")
        self.assertEqual(self.failures(model), {("a", "unreachable"): 1, ("b", "busy"): 1})

    def test_the_next_one_if_it_is_late(self) -> None:
        model = self.several("llm", {"hang": True}, {"answers": ["B."], "delay": 60})
        answer = self.ask(model)
        self.clock.advance(2.9)
        self.assertEqual(self.failures(model), {})
        self.clock.advance(0.1)
        self.assertEqual(self.failures(model), {("a", "timeout"): 1})
        # The last one may use the rest of the stage's limit.
        self.clock.advance(59.9)
        self.assertNoResult(answer)
        self.clock.advance(0.1)
        self.assertEqual(self.successResultOf(answer), "B.")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_all_fail(self) -> None:
        model = self.several("llm", {"fail": "unreachable"}, {"fail": "rate_limited"})
        self.assertEqual(self.error(self.ask(model)), "rate_limited")

    def test_no_switch_after_the_first_word(self) -> None:
        model = self.several("llm", {}, {"answers": ["B."]})
        model.group.candidates[0].provider.reply = breaking_off
        self.assertEqual(self.error(self.ask(model)), "connection_lost")
        self.assertEqual(self.state(model), ("closed", 1))

    def test_closed_is_closed(self) -> None:
        """While the service stops, no other provider is tried, and none is blamed."""
        model = self.several("llm", {}, {})
        model.group.candidates[0].provider.close()
        self.assertEqual(self.error(self.ask(model)), "closed")
        self.assertEqual(self.state(model), ("closed", 0))

    def test_an_exception_is_a_failure(self) -> None:
        model = self.several("llm", {}, {"answers": ["B."]})
        model.group.candidates[0].provider.reply = bug
        self.assertEqual(self.successResultOf(self.ask(model)), "B.")
        self.assertEqual(self.failures(model), {("a", "internal_error"): 1})
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_failures_open_the_circuit(self) -> None:
        model = self.several("llm", {"hang": True}, {"answers": ["B."]})
        for _ in range(3):
            answer = self.ask(model)
            self.clock.advance(3)
            self.successResultOf(answer)
        self.assertEqual(self.state(model), ("open", 3))
        self.assertEqual(self.successResultOf(self.ask(model)), "B.", "without waiting")
        # The first call after the cooldown probes, and only that one.
        self.clock.advance(10)
        self.assertEqual(self.state(model), ("half_open", 3))
        probe = self.ask(model)
        self.assertEqual(self.successResultOf(self.ask(model)), "B.")
        self.assertNoResult(probe)
        self.clock.advance(3)
        self.successResultOf(probe)
        self.assertEqual(self.state(model), ("open", 4))

    def test_it_works_again(self) -> None:
        model = self.several("llm", {"fail": "vendor_error"}, {"answers": ["B."]})
        self.many(model, 3)
        broken = model.group.candidates[0].provider
        healthy = ModelSettings(answers=("A.",))
        model.group.candidates[0].provider = ScriptedModel(healthy, self.clock)
        self.assertEqual(self.many(model, 1), ["B."])
        self.clock.advance(10)
        self.assertEqual(self.many(model, 2), ["A.", "A."])
        self.assertEqual(self.state(model), ("closed", 0))
        broken.close()

    def many(self, model: Any, times: int) -> list[str]:
        return [self.successResultOf(self.ask(model)) for _ in range(times)]

    def test_outcomes_that_are_not_failures(self) -> None:
        for code in ("bad_request", "refused", "too_long"):
            model = self.several("llm", {"fail": code}, {"answers": ["B."]})
            self.assertEqual(self.many(model, 5), ["B."] * 5)
            self.assertEqual(self.state(model), ("closed", 0))
        for code in ("timeout", "unreachable", "unauthorized", "rate_limited", "vendor_error"):
            model = self.several("llm", {"fail": code}, {"answers": ["B."]})
            self.many(model, 5)
            self.assertEqual(self.state(model), ("open", 3), code)

    def test_all_circuits_are_open(self) -> None:
        """They are tried all the same, the one that is due first before the others."""
        model = self.several("llm", {"fail": "unreachable"}, {"fail": "busy"})
        for _ in range(3):
            self.assertEqual(self.error(self.ask(model)), "busy")
        self.assertEqual(self.failures(model), {("a", "unreachable"): 3, ("b", "busy"): 3})
        self.clock.advance(1)
        self.assertEqual(self.error(self.ask(model)), "busy", "both were asked")
        self.assertEqual((self.state(model), self.state(model, "b")), (("open", 4), ("open", 4)))
        self.clock.advance(5)
        model.group.candidates[0].breaker.attempt().failed()
        self.assertEqual(self.error(self.ask(model)), "unreachable", "b is due before a now")
        healthy = ModelSettings(answers=("B.",))
        model.group.candidates[1].provider = ScriptedModel(healthy, self.clock)
        before = self.failures(model)["a", "unreachable"]
        self.clock.advance(1)
        model.group.candidates[0].breaker.attempt().failed()
        self.assertEqual(self.successResultOf(self.ask(model)), "B.")
        self.assertEqual(self.failures(model)["a", "unreachable"], before)
        self.assertEqual(self.state(model, "b"), ("closed", 0))

    def test_interrupted(self) -> None:
        """An early cancellation is ignored; a late one is a failure."""
        model = self.several("llm", {"hang": True})
        for waited, failures in ((1.0, 0), (20.0, 1)):
            answer = self.ask(model)
            self.clock.advance(waited)
            answer.cancel()
            self.failureResultOf(answer, CancelledError)
            self.assertEqual(self.state(model), ("closed", failures))
        model = self.several("llm", {"answers": ["one two three"], "token_delay": 1}, {})
        answer = self.ask(model)
        self.clock.advance(1.5)
        answer.cancel()
        self.failureResultOf(answer, CancelledError)
        self.assertEqual((self.state(model), self.clock.getDelayedCalls()), (("closed", 0), []))

    def test_the_reader_s_time_is_not_the_model_s(self) -> None:
        """Only the wait for the next piece counts."""
        for waited, failures in ((3.0, 1), (2.9, 0), (0.5, 0)):
            model = self.several("llm", {"answers": ["one two"], "token_delay": 60})
            reply = model.reply(ASKED, [])
            self.successResultOf(Deferred.fromCoroutine(anext(reply)))
            self.clock.advance(20)
            second = Deferred.fromCoroutine(anext(reply))
            self.clock.advance(waited)
            second.cancel()
            self.failureResultOf(second, CancelledError)
            self.assertEqual(self.state(model), ("closed", failures), waited)

    def test_state_after_an_abandoned_wait(self) -> None:
        """During a probe: the next call may probe, or the failure is recorded."""
        for waited, state, failed in ((1.0, "half_open", {}), (4.0, "open", {("a", "timeout"): 1})):
            model = self.on_trial({"hang": True})
            answer = self.ask(model)
            self.assertFalse(model.group.candidates[0].breaker.admits)
            self.clock.advance(waited)
            answer.cancel()
            self.failureResultOf(answer, CancelledError)
            self.assertEqual(model.group.candidates[0].breaker.admits, not failed, waited)
            self.assertEqual((self.state(model)[0], self.failures(model)), (state, failed))
            (status,) = model.group.status()
            self.assertEqual(status.trouble, "no answer within 4.0 s [timeout]" if failed else "")

    def on_trial(self, settings: dict[str, Any]) -> Any:
        """Make a provider that has failed and admits one probe."""
        model = self.several("llm", settings)
        for _ in range(3):
            model.group.candidates[0].breaker.attempt().failed()
        self.clock.advance(10)
        return model

    def test_a_bad_question_to_one_that_is_on_trial(self) -> None:
        model = self.on_trial({"fail": "bad_request"})
        self.assertEqual(self.error(self.ask(model)), "bad_request")
        self.assertTrue(model.group.candidates[0].breaker.admits)
        (status,) = model.group.status()
        self.assertEqual((status.trouble, status.failed), ("", {"bad_request": 1}))

    def test_the_first_word_is_enough(self) -> None:
        model = self.on_trial({"answers": ["one two"], "token_delay": 1})
        answer = self.ask(model)
        self.assertEqual(self.state(model)[0], "closed")
        self.clock.advance(1)
        self.assertEqual(self.successResultOf(answer), "one two")

    def test_one_that_is_dropped_unanswered(self) -> None:
        """The caller is gone without cancelling."""
        model = self.on_trial({"hang": True})
        asking = model.group.answered(lambda each: Deferred())
        asking.send(None)
        asking.close()
        self.assertTrue(model.group.candidates[0].breaker.admits)
        self.assertEqual(self.state(model), ("half_open", 3))

    def test_one_that_fails_when_its_time_is_over(self) -> None:
        """The provider's own error is better than a timeout."""

        async def stubborn(dialogue: Any, tools: Any) -> Any:
            try:
                await Deferred()
            except CancelledError:
                raise ProviderError("busy", "later", retryable=True) from None
            yield TextDelta("")

        model = self.several("llm", {}, {"answers": ["B."]})
        model.group.candidates[0].provider.reply = stubborn
        answer = self.ask(model)
        self.clock.advance(3)
        self.assertEqual(self.successResultOf(answer), "B.")
        self.assertEqual(self.failures(model), {("a", "busy"): 1})

    def test_it_is_logged_once(self) -> None:
        log = LogLines(self)
        model = self.several("llm", {"fail": "unauthorized"}, {"answers": ["B."]})
        self.many(model, 5)
        (line,) = (line for line in log.lines if "circuit open" in line)
        for part in ("llm a failed 3 times", "for 10 s", "[unauthorized]. Instead: b."):
            self.assertIn(part, line)
        model.group.candidates[0].breaker.attempt().succeeded()
        self.assertEqual(log.count("llm a works again"), 1)
        self.assertEqual(log.count("circuit open"), 1)
        self.assertEqual(next(model.group.status()).trouble, "")
        alone = self.several("llm", {"fail": "unauthorized"})
        for _ in range(3):
            self.error(self.ask(alone))
        self.assertEqual(log.count("There is no other: name a second one in selected.llm."), 1)

    def test_provider_usage(self) -> None:
        notes = Notes()
        model = self.several("llm", {"fail": "unreachable"}, {})
        model.group.candidates[1].model = "large"
        with usage.noting(notes):
            self.successResultOf(self.ask(model))
        self.assertEqual(notes.asked, [("llm", "a", ""), ("llm", "b", "large")])
        self.successResultOf(self.ask(model))
        self.assertEqual(len(notes.asked), 2, "no record outside the block")


# Behaviour of a model, and the result: seconds and whether there is an answer.
BEHAVIOURS: dict[str, tuple[dict[str, Any], float, bool]] = {
    "answers": ({}, 0.0, True),
    "is slow": ({"delay": 2.0}, 2.0, True),
    "is late": ({"delay": 5.0}, 5.0, True),
    "fails": ({"fail": "unreachable"}, 0.0, False),
    "fails slowly": ({"fail": "vendor_error", "delay": 1.0}, 1.0, False),
    "hangs": ({"hang": True}, 1000.0, False),
}


class AnyListTests(SynchronousTestCase):
    @settings(max_examples=150)
    @given(st.lists(st.sampled_from(sorted(BEHAVIOURS)), min_size=1, max_size=4))
    def test_answering_provider_and_time(self, behaviours: list[str]) -> None:
        """The first one that answers within its limit; the last one has the rest of the time."""
        clock = Clock()
        own = [BEHAVIOURS[each][0] | {"answers": [str(at)]} for at, each in enumerate(behaviours)]
        model = several(clock, "llm", *own)
        expected, due = None, 0.0
        for at, each in enumerate(behaviours):
            _, seconds, answers = BEHAVIOURS[each]
            last = at == len(behaviours) - 1
            due += seconds if last else min(seconds, LIMITS.llm)
            if answers and (last or seconds < LIMITS.llm):
                expected = str(at)
                break

        async def ask() -> str:
            async with aclosing(model.reply(ASKED, [])) as deltas:
                return "".join([delta.text async for delta in deltas])

        answer = Deferred.fromCoroutine(ask())
        clock.pump([0.25] * round(max(0.0, due - 0.25) / 0.25))
        if due:
            self.assertNoResult(answer)
        clock.advance(0.25)
        if expected is not None:
            self.assertEqual(self.successResultOf(answer), expected)
        elif due < 1000:
            self.failureResultOf(answer, ProviderError)
        else:
            answer.cancel()
            self.failureResultOf(answer, CancelledError)
        self.assertEqual(clock.getDelayedCalls(), [])


class Notes:
    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []

    def by(self, kind: str, provider: str, model: str) -> None:
        self.asked.append((kind, provider, model))

    def used(self, tokens_in: int, tokens_out: int) -> None:
        raise AssertionError("doubles cost nothing")


async def breaking_off(dialogue: Any, tools: Any) -> Any:
    yield TextDelta("Well, ")
    raise ProviderError("connection_lost", "gone", retryable=True)


async def bug(dialogue: Any, tools: Any) -> Any:
    if dialogue:
        raise ZeroDivisionError
    yield TextDelta("")


class _Mute:
    """A vendor that sends status 200 and nothing else."""

    sound = SoundFormat(Encoding.PCM, 24000, 1)

    async def synthesize(self, text: str, language: str) -> AsyncGenerator[bytes, None]:
        yield b""


class SynthesizerTests(FailoverCase):
    def pieces(self, *settings: dict[str, Any]) -> list[bytes | SoundFormat]:
        return self.spoken(self.several("tts", *settings))

    def spoken(self, synthesizer: Any) -> list[bytes | SoundFormat]:
        async def all_pieces() -> list[bytes | SoundFormat]:
            return [piece async for piece in synthesizer.synthesize("Hi.", "")]

        return self.successResultOf(Deferred.fromCoroutine(all_pieces()))

    def test_one_that_gives_no_sound(self) -> None:
        """Displayed words without sound: the next provider is tried."""
        synthesizer = self.several("tts", {}, {})
        synthesizer.group.candidates[0].provider = _Mute()
        self.assertTrue(self.spoken(synthesizer))
        self.assertEqual(self.failures(synthesizer), {("a", "no_sound"): 1})

    def test_another_format_is_announced_before_the_first_piece(self) -> None:
        failing = {"fail": "unreachable", "sample_rate": 24000}
        first, *rest = self.pieces(failing, {"sample_rate": 16000})
        self.assertEqual(first, SoundFormat(Encoding.PCM, 16000, 1))
        self.assertTrue(rest and all(isinstance(piece, bytes) for piece in rest))
        for same in (failing, {"sample_rate": 24000}), ({"sample_rate": 24000}, failing):
            self.assertTrue(all(isinstance(piece, bytes) for piece in self.pieces(*same)))


class RecognizerTests(FailoverCase):
    def heard(self, recognizer: Any, seconds: float = 1.0) -> Deferred[str]:
        recognition = recognizer.recognition()
        for _ in range(round(seconds * 50)):
            recognition.feed(bytes(640))
        finished: Deferred[Transcript] = recognition.finish()
        return finished.addCallback(lambda transcript: transcript.text)

    def test_the_next_one_hears_all_of_it(self) -> None:
        recognizer = self.several("asr", {"fail": "connection_lost"}, {"texts": ["{ms} ms"]})
        self.assertEqual(self.successResultOf(self.heard(recognizer)), "1000 ms")

    def test_a_late_one(self) -> None:
        recognizer = self.several("asr", {"hang": True}, {"texts": ["{ms} ms"]})
        heard = self.heard(recognizer)
        self.clock.advance(1.9)
        self.assertNoResult(heard)
        self.clock.advance(0.1)
        self.assertEqual(self.successResultOf(heard), "1000 ms")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_interim_results(self) -> None:
        """The recogniser that gets the live sound sends them; the next one comes later."""
        first = {"texts": ["one two three"], "interim": 0.2, "fail": "connection_lost"}
        second = {"texts": ["four five six"], "interim": 0.2}
        told: list[str] = []
        recognition = self.several("asr", first, second).recognition(told.append)
        for _ in range(50):
            recognition.feed(bytes(640))
        self.assertEqual(told, ["one", "one two", "one two three"])
        self.assertEqual(self.successResultOf(recognition.finish()).text, "four five six")
        self.assertEqual(len(told), 3)

    def test_retained_data_is_bounded(self) -> None:
        limits = FailoverSettings(keep=1)
        recognizer = several(
            self.clock, "asr", {"fail": "busy"}, {"texts": ["{ms} ms"]}, limits=limits
        )
        self.assertEqual(self.successResultOf(self.heard(recognizer, 3)), "1000 ms")
        alone = several(self.clock, "asr", {"texts": ["{ms} ms"]}, limits=limits)
        recognition = alone.recognition()
        recognition.feed(bytes(640))
        self.assertEqual(recognition._kept, [])

    def test_one_that_breaks_while_it_listens(self) -> None:
        for breaks in ("recognition", "feed"):
            recognizer = self.several("asr", {}, {"texts": ["{ms} ms"]})
            broken = recognizer.group.candidates[0].provider
            if breaks == "recognition":
                broken.recognition = raising
            else:
                whole = broken.recognition

                def deaf(interim: Any = None, whole: Callable[[], Any] = whole) -> Any:
                    recognition = whole()
                    recognition.feed = raising
                    return recognition

                broken.recognition = deaf
            self.assertEqual(self.successResultOf(self.heard(recognizer)), "1000 ms", breaks)
            self.assertEqual(self.failures(recognizer), {("a", "crashed"): 1})

    def test_a_circuit_that_opened_meanwhile(self) -> None:
        """It has all the sound, but is known to fail by now."""
        recognizer = self.several("asr", {"hang": True}, {"texts": ["{ms} ms"]})
        recognition = recognizer.recognition()
        recognition.feed(bytes(64000))
        for _ in range(3):
            recognizer.group.candidates[0].breaker.attempt().failed()
        text = self.successResultOf(recognition.finish()).text
        self.assertEqual(text, "2000 ms", "at once")

    def test_cancelled_while_the_second_works(self) -> None:
        recognizer = self.several("asr", {"fail": "busy"}, {"delay": 5})
        recognition = recognizer.recognition()
        recognition.feed(bytes(640))
        result = recognition.finish()
        self.clock.advance(1)
        recognition.cancel()
        self.failureResultOf(result, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.state(recognizer, "b"), ("closed", 0))


def raising(*_: Any) -> Any:
    raise ProviderError("crashed", "gone", retryable=True)


class VisionTests(FailoverCase):
    def test_the_next_one(self) -> None:
        vision = self.several("vlllm", {"hang": True}, {"answers": ["A cat."]})
        seen = vision.describe(PICTURE, "What is it?")
        self.clock.advance(4)
        self.assertEqual(self.successResultOf(seen), "A cat.")

    def test_cancelled(self) -> None:
        vision = self.several("vlllm", {"hang": True}, {})
        seen = vision.describe(PICTURE, "What is it?")
        seen.cancel()
        self.failureResultOf(seen, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class GroupTests(FailoverCase):
    def test_closing_continues_after_a_failure(self) -> None:
        model = self.several("llm", {}, {})
        first, second = (each.provider for each in model.group.candidates)
        first.close = lambda: fail(ZeroDivisionError())
        self.successResultOf(model.close())
        self.assertTrue(second._closed)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_status(self) -> None:
        model = self.several("llm", {"fail": "unreachable"}, {})
        for _ in range(3):
            self.successResultOf(self.ask(model))
        self.clock.advance(4)
        first, second = model.group.status()
        self.assertEqual((first.name, first.state, first.wait), ("a", "open", 6.0))
        self.assertEqual((first.failures, first.failed), (3, {"unreachable": 3}))
        self.assertIn("[unreachable]", first.trouble)
        self.assertEqual((second.state, second.failures, second.trouble), ("closed", 0, ""))

    def test_how_long_until_the_last_is_asked(self) -> None:
        for count, seconds in ((1, 0.0), (2, 3.0), (4, 9.0)):
            self.assertEqual(self.several("llm", *[{}] * count).group.before, seconds)

    def test_well_while_one_is(self) -> None:
        model = self.several("llm", {}, {})
        self.assertTrue(model.group.well)
        for each, well in zip(model.group.candidates, (True, False), strict=True):
            for _ in range(3):
                each.breaker.attempt().failed()
            self.assertEqual(model.group.well, well)

    def test_preparable_providers_are_prepared(self) -> None:
        model = self.several("llm", {}, {})
        prepared: list[str] = []
        second = model.group.candidates[1].provider
        second.prepare = lambda: prepared.append("b")
        alsoProvides(second, IPreparable)
        model.prepare()
        self.assertEqual(prepared, ["b"])
