"""Timeline: the times of one turn's steps."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from twisted.internet.interfaces import IReactorTime

from xiaozhi.ai.timeline.counts import AiCounts
from xiaozhi.ai.timeline.record import ToolUse, TurnRecord
from xiaozhi.base.errors import ProviderError
from xiaozhi.base.values import Transcript, Utterance
from xiaozhi.languages.scripts import tokens
from xiaozhi.runtime.cancelling import late
from xiaozhi.wire.messages import Playback, PlaybackState

T = TypeVar("T")

# As a record has it.
_STAGES = {
    "recognise": "recognised",
    "first_token": "first_token",
    "first_sentence": "first_sentence",
    "first_audio": "first_audio",
}


@dataclass(frozen=True, slots=True)
class Overheard:
    """Speech over an answer: it is recognised before there is a turn for it.

    :ivar ended: when its end was heard, by the clock; ``recognised``: when its text was
        there.
    :ivar provider: who recognised it, and with what ``model``: see
        :class:`xiaozhi.base.usage.Notes`.
    """

    said: Transcript
    ended: float
    recognised: float
    provider: str
    model: str


class Timeline:
    """Times one turn, and counts what its providers do, cost and fail at. Providers note
    here who they are: it is a :class:`xiaozhi.base.usage.Notes`.

    :ivar begun: how it began: ``spoken``, ``typed`` or ``recited``.
    :ivar failed: kinds of providers that failed in it.
    :ivar cut: the device was silenced before it had played all of it.
    """

    def __init__(
        self, counts: AiCounts, clock: IReactorTime, session_id: str = "", turn: int = 0
    ) -> None:
        self.begun = "typed"
        self.cut = False
        self._session_id = session_id
        self._turn = turn
        self._counts = counts
        self._clock = clock
        self._start = clock.seconds()
        self._at: dict[str, float] = {}
        self._providers: dict[str, str] = {}
        self._models: dict[str, str] = {}
        self._asked = 0.0
        self._wordless = False
        self._played_ms: int | None = None
        self._paused_since: float | None = None
        self._paused = 0.0
        self._frames = self._sent_ms = 0
        self._first = 1  # packet of the answer
        self._heard = self._said = self._spoken = 0
        self._mood = ""
        self._tokens = [0, 0]
        self._told = self._estimated = False
        self._tools: list[ToolUse] = []
        self._rounds = 0
        self._wanted_tools = True
        # Kinds of providers that failed in this turn. Bound: there are five kinds.
        self.failed: set[str] = set()

    def _now(self) -> float:
        return self._clock.seconds() - self._start

    def _mark(self, what: str) -> bool:
        """Note the time of a step.

        :return: whether it happens for the first time.
        """
        if what in self._at:
            return False
        self._at[what] = self._now()
        return True

    # --- providers ----------------------------------------------------------------

    def by(self, kind: str, provider: str, model: str) -> None:
        """See :class:`xiaozhi.base.usage.Notes`."""
        self._providers[kind] = provider
        self._models[kind] = model

    def used(self, tokens_in: int, tokens_out: int) -> None:
        """See :class:`xiaozhi.base.usage.Notes`."""
        self._told = True
        self._spent(tokens_in, tokens_out, "told")

    def _spent(self, tokens_in: int, tokens_out: int, how: str) -> None:
        self._tokens[0] += tokens_in
        self._tokens[1] += tokens_out
        self._counts.spent(self._providers.get("llm", ""), tokens_in, tokens_out, how)

    def overheard(self, over: Overheard) -> None:
        """Take the times of an utterance over the previous answer."""
        self.begun = "spoken"
        self._start = over.ended
        if over.provider:
            self.by("asr", over.provider, over.model)
        self._at["recognised"] = seconds = over.recognised - over.ended
        self._counts.stage("recognise", seconds, over.provider)

    async def awaited(self, kind: str, stage: str, call: Awaitable[T]) -> T:
        """Await a provider's answer.

        :param stage: what it is a stage of; empty: of nothing that is timed.
        """
        since = self._clock.seconds()
        try:
            answer = await call
        except ProviderError as error:
            self._failed(kind, error)
            raise
        if stage:
            self._stage(kind, stage, since)
        return answer

    async def streamed(
        self, kind: str, stage: str, stream: AsyncGenerator[T, None]
    ) -> AsyncGenerator[T, None]:
        """Pass a provider's stream on; ``stage`` is the wait for its first item."""
        since = self._clock.seconds()
        first = True
        async with aclosing(stream):
            try:
                async for item in stream:
                    if first:
                        first = False
                        self._stage(kind, stage, since)
                    yield item
            except ProviderError as error:
                self._failed(kind, error)
                raise

    def late(self, kind: str) -> Callable[[], ProviderError]:
        """Return the error for the case that a stream of :meth:`streamed` takes too long."""

        def too_late() -> ProviderError:
            error = late(kind)()
            self._failed(kind, error)
            return error

        return too_late

    def _stage(self, kind: str, stage: str, since: float) -> None:
        self._mark(_STAGES[stage])
        seconds = self._clock.seconds() - since
        self._counts.stage(stage, seconds, self._providers.get(kind, ""))

    def _failed(self, kind: str, error: ProviderError) -> None:
        self.failed.add(kind)
        self._counts.provider_failed(kind, error.code, self._providers.get(kind, ""))

    # --- words ----------------------------------------------------------------------

    def heard(self, words: str, mood: str = "") -> None:
        """Note the person's words.

        :param mood: of their voice; empty: nothing is known of it.
        """
        self._mood = mood
        self._heard += len(words)
        self._counts.characters.add("heard", count=len(words))

    def asked(self) -> None:
        """Note a request to the model."""
        self._asked = self._clock.seconds()
        self._wordless = True
        self._told = False
        self._wanted_tools = False

    def sentence(self) -> None:
        """Note a complete sentence of the reply."""
        if self._wordless:
            self._wordless = False
            self._stage("llm", "first_sentence", self._asked)

    def replied(self, dialogue: Sequence[Utterance], said: str) -> None:
        """Note the end of a reply, complete or interrupted.

        :param dialogue: what it was given.
        """
        self._said += len(said)
        self._counts.characters.add("said", count=len(said))
        if self._told:
            return
        self._estimated = True
        given = "".join(entry.text for entry in dialogue)
        self._spent(tokens(given), tokens(said), "estimated")

    def tool(self, result: str, name: str = "", since: float | None = None) -> None:
        """Note the result of a tool's call: ``done`` or an error's code.

        :param since: when, on the clock.
        """
        seconds = 0.0 if since is None else self._clock.seconds() - since
        self._counts.tool(result, seconds)
        self._tools.append(ToolUse(name, round(seconds, 3), result))
        if not self._wanted_tools:
            self._wanted_tools = True
            self._rounds += 1

    # --- sound ----------------------------------------------------------------------

    def speaks(self, words: str) -> None:
        """Note that the sound of a sentence begins."""
        self._spoken += len(words)
        self._counts.characters.add("spoken", count=len(words))

    def packet(self, milliseconds: int) -> None:
        """Note a packet."""
        self._counts.frames_down += 1
        self._frames += 1
        self._sent_ms += milliseconds
        if self._frames == self._first:
            self._mark("first_frame")
            self._counts.response.observe(self._at["first_frame"], self.begun)

    def bridge(self, milliseconds: int) -> None:
        """Note a packet of a phrase that bridges the wait for the answer."""
        self._counts.frames_down += 1
        self._frames += 1
        self._sent_ms += milliseconds
        self._first += 1

    def playback(self, report: Playback) -> None:
        """Take the edge's report of how far the device has played."""
        if report.state is PlaybackState.STARTED:
            if self._mark("first_played"):
                self._counts.played.observe(self._at["first_played"], self.begun)
            return
        self._mark("last_played")
        self._played_ms = report.played_ms
        if report.state is PlaybackState.FLUSHED:
            self.cut = True
            self._mark("interrupted")

    def pauses(self) -> None:
        """Note that the answer is paused."""
        self._paused_since = self._now()

    def goes_on(self) -> None:
        """Note that the pause is over."""
        if self._paused_since is not None:
            self._paused += self._now() - self._paused_since
            self._paused_since = None

    # --- the end --------------------------------------------------------------------

    def ended(self, result: str) -> TurnRecord:
        """End the turn.

        :param result: see :meth:`AiCounts.turn_ended`.
        """
        if self.cut and result == "answered":
            result = "interrupted"
        if result == "interrupted":
            self._mark("interrupted")
        record = TurnRecord(
            session_id=self._session_id,
            turn=self._turn,
            begun=self.begun,
            result=result,
            seconds=round(self._now(), 3),
            played_ms=self._played(),
            providers=dict(self._providers),
            models=dict(self._models),
            tokens_in=self._tokens[0],
            tokens_out=self._tokens[1],
            tokens_estimated=self._estimated,
            heard=self._heard,
            mood=self._mood,
            said=self._said,
            spoken=self._spoken,
            rounds=self._rounds,
            tools=tuple(self._tools),
            frames=self._frames,
            **{what: round(at, 3) for what, at in self._at.items()},
        )
        self._counts.turn_ended(record)
        return record

    def _played(self) -> int:
        """Return the ms played, as the edge reported; without a report, an estimate."""
        if self._played_ms is not None:
            return self._played_ms
        if (began := self._at.get("first_played")) is None:
            return 0
        self.goes_on()
        return min(self._sent_ms, round((self._now() - began - self._paused) * 1000))
