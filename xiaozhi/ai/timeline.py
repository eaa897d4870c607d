"""When what of one turn happened."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from typing import TypeVar

from twisted.internet.interfaces import IReactorTime

from xiaozhi.ai.counts import AiCounts
from xiaozhi.errors import ProviderError

T = TypeVar("T")


class Timeline:
    """Times one turn, and counts what its providers fail at.

    :ivar begun: how it began: ``spoken``, ``typed`` or ``recited``.
    :ivar cut: the device was silenced before it had played all of it.
    """

    def __init__(self, counts: AiCounts, clock: IReactorTime) -> None:
        self.begun = "typed"
        self.cut = False
        self._counts = counts
        self._clock = clock
        self._start = clock.seconds()
        self._asked = 0.0
        self._wordless = False
        self._silent = True

    def since(self, ended: float) -> None:
        """The turn answers an utterance whose end was heard then."""
        self.begun = "spoken"
        self._start = ended

    async def awaited(self, kind: str, stage: str, call: Awaitable[T]) -> T:
        """Await a provider's answer.

        :param stage: what it is a stage of; empty: of nothing that is timed.
        """
        since = self._clock.seconds()
        try:
            answer = await call
        except ProviderError as error:
            self._counts.provider_failed(kind, error.code)
            raise
        if stage:
            self._counts.stage(stage, self._clock.seconds() - since)
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
                        self._counts.stage(stage, self._clock.seconds() - since)
                    yield item
            except ProviderError as error:
                self._counts.provider_failed(kind, error.code)
                raise

    def asked(self) -> None:
        """The model is asked."""
        self._asked = self._clock.seconds()
        self._wordless = True

    def sentence(self) -> None:
        """A sentence of its reply is whole."""
        if self._wordless:
            self._wordless = False
            self._counts.stage("first_sentence", self._clock.seconds() - self._asked)

    def packet(self) -> None:
        """A packet is sent."""
        self._counts.frames_down += 1
        if self._silent:
            self._silent = False
            self._counts.response.observe(self._clock.seconds() - self._start, self.begun)

    def tool(self, result: str) -> None:
        """A tool was called: ``done`` or an error's code."""
        self._counts.tools.add(result)

    def ended(self, result: str) -> dict[str, str | float]:
        """The turn is over.

        :param result: see :meth:`AiCounts.turn_ended`.
        :return: what the log is told: how it began and ended, and its seconds.
        """
        if self.cut and result == "answered":
            result = "interrupted"
        seconds = self._clock.seconds() - self._start
        self._counts.turn_ended(self.begun, result, seconds)
        return {"begun": self.begun, "result": result, "seconds": round(seconds, 3)}
