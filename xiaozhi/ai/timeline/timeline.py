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

# Stage → field of TurnRecord.
_STAGES = {
    "recognise": "recognised",
    "first_token": "first_token",
    "first_sentence": "first_sentence",
    "first_audio": "first_audio",
}


@dataclass(frozen=True, slots=True)
class Overheard:
    """Speech over an answer, recognised before its own turn begins.

    :ivar said: its transcript.
    :ivar ended: clock time of its end; ``recognised``: clock time of its transcript.
    :ivar provider: the recogniser and its ``model``, see :class:`xiaozhi.base.usage.Notes`.
    """

    said: Transcript
    ended: float
    recognised: float
    provider: str
    model: str


class Timeline:
    """Measures one turn's times, and counts its providers' work, tokens and failures.

    It is the :class:`xiaozhi.base.usage.Notes` in which providers identify themselves.

    :ivar failed: kinds of providers that failed in the turn.
    :ivar cut: whether the edge cut off the playback.
    """

    def __init__(
        self, counts: AiCounts, clock: IReactorTime, session_id: str = "", turn: int = 0
    ) -> None:
        self._begun = "typed"
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
        self._reported = self._estimated = False
        self._tools: list[ToolUse] = []
        self._rounds = 0
        self._wanted_tools = True
        # Bound: there are five kinds.
        self.failed: set[str] = set()

    @property
    def begun(self) -> str:
        """How the turn began: ``spoken``, ``typed`` or ``recited``."""
        return self._begun

    def begin(self, how: str) -> None:
        """Note how the turn began; see :attr:`begun`. A new turn is ``typed``."""
        self._begun = how

    def _now(self) -> float:
        return self._clock.seconds() - self._start

    def _mark(self, what: str) -> bool:
        """Record the time of a step if it happens for the first time.

        :return: whether it does.
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
        self._reported = True
        self._spent(tokens_in, tokens_out, "told")

    def _spent(self, tokens_in: int, tokens_out: int, how: str) -> None:
        self._tokens[0] += tokens_in
        self._tokens[1] += tokens_out
        self._counts.spent(self._providers.get("llm", ""), tokens_in, tokens_out, how)

    def overheard(self, over: Overheard) -> None:
        """Use the times of an utterance over the previous answer."""
        self.begin("spoken")
        self._start = over.ended
        if over.provider:
            self.by("asr", over.provider, over.model)
        self._at["recognised"] = seconds = over.recognised - over.ended
        self._counts.stage("recognise", seconds, over.provider)

    async def awaited(self, kind: str, stage: str, call: Awaitable[T]) -> T:
        """Await a provider's result.

        :param kind: kind of provider.
        :param stage: the stage that it ends; empty: none that is measured.
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
        """Yield a provider's stream; its first item ends ``stage``."""
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
        """Return a function that counts and returns the timeout error of a stream."""

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
        """Count the person's words.

        :param mood: mood of their voice; empty: unknown.
        """
        self._mood = mood
        self._heard += len(words)
        self._counts.characters.add("heard", count=len(words))

    def asked(self) -> None:
        """Record a request to the model."""
        self._asked = self._clock.seconds()
        self._wordless = True
        self._reported = False
        self._wanted_tools = False

    def sentence(self) -> None:
        """Record a complete sentence of the reply."""
        if self._wordless:
            self._wordless = False
            self._stage("llm", "first_sentence", self._asked)

    def replied(self, dialogue: Sequence[Utterance], said: str) -> None:
        """Record the end of a reply, complete or interrupted.

        :param dialogue: the model's input.
        :param said: its output.
        """
        self._said += len(said)
        self._counts.characters.add("said", count=len(said))
        if self._reported:
            return
        self._estimated = True
        given = "".join(entry.text for entry in dialogue)
        self._spent(tokens(given), tokens(said), "estimated")

    def tool(self, result: str, name: str = "", since: float | None = None) -> None:
        """Record the result of a tool call: ``done`` or the error's code.

        :param since: clock time of the call; None: it did not run.
        """
        seconds = 0.0 if since is None else self._clock.seconds() - since
        self._counts.tool(result, seconds)
        self._tools.append(ToolUse(name, round(seconds, 3), result))
        if not self._wanted_tools:
            self._wanted_tools = True
            self._rounds += 1

    # --- sound ----------------------------------------------------------------------

    def speaks(self, words: str) -> None:
        """Count a sentence whose sound begins."""
        self._spoken += len(words)
        self._counts.characters.add("spoken", count=len(words))

    def packet(self, milliseconds: int) -> None:
        """Count a packet of the answer."""
        self._counts.frames_down += 1
        self._frames += 1
        self._sent_ms += milliseconds
        if self._frames == self._first:
            self._mark("first_frame")
            self._counts.response.observe(self._at["first_frame"], self._begun)

    def bridge(self, milliseconds: int) -> None:
        """Count a packet of the bridging phrase."""
        self._counts.frames_down += 1
        self._frames += 1
        self._sent_ms += milliseconds
        self._first += 1

    def playback(self, report: Playback) -> None:
        """Record the edge's report of how far the device has played."""
        if report.state is PlaybackState.STARTED:
            if self._mark("first_played"):
                self._counts.played.observe(self._at["first_played"], self._begun)
            return
        self._mark("last_played")
        self._played_ms = report.played_ms
        if report.state is PlaybackState.FLUSHED:
            self.cut = True
            self._mark("interrupted")

    def pauses(self) -> None:
        """Record the beginning of a pause."""
        self._paused_since = self._now()

    def resumes(self) -> None:
        """Record the end of a pause."""
        if self._paused_since is not None:
            self._paused += self._now() - self._paused_since
            self._paused_since = None

    # --- the end --------------------------------------------------------------------

    def ended(self, result: str) -> TurnRecord:
        """End the turn, count it and return its record.

        :param result: see :meth:`AiCounts.turn_ended`.
        """
        if self.cut and result == "answered":
            result = "interrupted"
        if result == "interrupted":
            self._mark("interrupted")
        record = TurnRecord(
            session_id=self._session_id,
            turn=self._turn,
            begun=self._begun,
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
        """Return the milliseconds played: as the edge reported, else an estimate."""
        if self._played_ms is not None:
            return self._played_ms
        if (began := self._at.get("first_played")) is None:
            return 0
        self.resumes()
        return min(self._sent_ms, round((self._now() - began - self._paused) * 1000))
