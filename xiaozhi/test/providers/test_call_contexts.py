"""Call contexts reach adapters of every kind, also behind failover groups and in tasks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

from twisted.internet.defer import Deferred, execute, succeed
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.base.call import CallContext, calling, current_call
from xiaozhi.base.errors import ProviderError
from xiaozhi.base.values import (
    Delta,
    Picture,
    Role,
    SoundFormat,
    TextDelta,
    ToolSpec,
    Transcript,
    Utterance,
)
from xiaozhi.providers.kit.failover.asr import FailoverRecognizer
from xiaozhi.providers.kit.failover.group import FailoverGroup
from xiaozhi.providers.kit.failover.kinds import FailoverModel, FailoverSynthesizer, FailoverVision
from xiaozhi.providers.kit.failover.settings import FailoverSettings

KITCHEN = CallContext(agent_id="kitchen", device_id="aa", session_id="s1")
GARDEN = CallContext(agent_id="garden", device_id="bb", session_id="s2")
LIMITS = FailoverSettings(asr=1, llm=1, tts=1, vlllm=1)
ASKED = [Utterance(Role.USER, "hello")]


class Platform:
    """Adapters of all kinds to one dialogue platform, with the signatures of the interfaces.

    :ivar seen: contexts read at each step of each call.
    """

    sound = SoundFormat()

    def __init__(self, clock: Clock, *, broken: bool = False) -> None:
        self._clock = clock
        self._broken = broken
        self.seen: list[tuple[str, CallContext]] = []

    def note(self, step: str) -> None:
        self.seen.append((step, current_call()))

    async def _work(self, step: str) -> None:
        self.note(f"{step} begins")
        await deferLater(self._clock, 0.1)
        # Callbacks of the reactor and worker threads' results arrive here.
        await execute(self.note, f"{step} goes on")
        if self._broken:
            raise ProviderError("unreachable", "away", retryable=True)

    def recognition(self, interim: Callable[[str], None] | None = None) -> Any:
        self.note("asr begins")
        return self

    def feed(self, pcm: bytes) -> None:
        """Ignore a packet."""

    def finish(self) -> Deferred[Transcript]:
        async def text() -> Transcript:
            await self._work("asr")
            return Transcript("hello")

        return Deferred.fromCoroutine(text())

    def cancel(self) -> None:
        """Do nothing: nothing runs."""

    async def reply(
        self, dialogue: Sequence[Utterance], tools: Sequence[ToolSpec]
    ) -> AsyncGenerator[Delta, None]:
        await self._work("llm")
        for word in ("one", "two"):
            yield TextDelta(word)
            self.note("llm goes on")

    async def synthesize(self, text: str, language: str) -> AsyncGenerator[bytes, None]:
        await self._work("tts")
        for _ in range(2):
            yield bytes(320)
            self.note("tts goes on")

    def describe(self, picture: Picture, question: str) -> Deferred[str]:
        async def words() -> str:
            await self._work("vlllm")
            return "A cat."

        return Deferred.fromCoroutine(words())

    def close(self) -> Deferred[None]:
        return succeed(None)


class CallContextTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.first, self.second = Platform(self.clock, broken=True), Platform(self.clock)

    def group(self, kind: str) -> FailoverGroup:
        providers = [("a", self.first), ("b", self.second)]
        return FailoverGroup.of(kind, providers, LIMITS, self.clock)

    def run_for_both(self, work: Callable[[], Any]) -> None:
        """Run a call for two sessions at once, and check that each step of each adapter has its own
        session's context.
        """
        running = []
        for call in (KITCHEN, GARDEN):
            with calling(call):
                running.append(Deferred.fromCoroutine(work()))
        self.clock.pump([0.05] * 30)
        for each in running:
            self.successResultOf(each)
        for platform in (self.first, self.second):
            steps: dict[str, list[CallContext]] = {}
            for step, call in platform.seen:
                steps.setdefault(step, []).append(call)
            self.assertGreaterEqual(len(steps), 2)
            for step, calls in steps.items():
                half = len(calls) // 2
                self.assertEqual(calls.count(KITCHEN), half, step)
                self.assertEqual(calls.count(GARDEN), half, step)

    def test_models(self) -> None:
        model = FailoverModel(self.group("llm"))

        async def ask() -> None:
            async with aclosing(model.reply(ASKED, [])) as deltas:
                async for _ in deltas:
                    await deferLater(self.clock, 0.1)

        self.run_for_both(ask)

    def test_synthesisers(self) -> None:
        synthesizer = FailoverSynthesizer(self.group("tts"))

        async def speak() -> None:
            async with aclosing(synthesizer.synthesize("Hello.", "en")) as pieces:
                async for _ in pieces:
                    await deferLater(self.clock, 0.1)

        self.run_for_both(speak)

    def test_vision(self) -> None:
        vision = FailoverVision(self.group("vlllm"))

        async def look() -> None:
            await vision.describe(Picture(b"x", "image/png", 1, 1), "What?")

        self.run_for_both(look)

    def test_recognisers(self) -> None:
        """Sound is fed and the utterance ended outside the context, like packets."""
        recognizer = FailoverRecognizer(self.group("asr"))
        waiting = []
        for call in (KITCHEN, GARDEN):
            with calling(call):
                recognition = recognizer.recognition()
            recognition.feed(bytes(640))
            waiting.append(recognition.finish())
        self.clock.pump([0.05] * 30)
        for each in waiting:
            self.assertEqual(self.successResultOf(each).text, "hello")
        for platform in (self.first, self.second):
            self.assertEqual(len(platform.seen), 6)
            for step, _ in platform.seen:
                calls = {call for name, call in platform.seen if name == step}
                self.assertEqual(calls, {KITCHEN, GARDEN}, step)

    def test_nothing_leaks_out(self) -> None:
        model = FailoverModel(self.group("llm"))

        async def ask() -> str:
            async with aclosing(model.reply(ASKED, [])) as deltas:
                async for _ in deltas:
                    pass
            return current_call().agent_id

        with calling(KITCHEN):
            answer = Deferred.fromCoroutine(ask())
        self.clock.pump([0.05] * 10)
        self.assertEqual(self.successResultOf(answer), "kitchen")
        self.assertEqual(current_call(), CallContext())
