"""Run the tool calls of one model reply."""

from __future__ import annotations

from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.logger import Logger

from xiaozhi.ai.llm.confirmation import CallScreen, WaitingCall, Withheld
from xiaozhi.ai.llm.context import TurnContext
from xiaozhi.ai.memory.pending import PendingAnswer
from xiaozhi.ai.timeline.timeline import Timeline
from xiaozhi.base.errors import ToolError, XiaozhiError
from xiaozhi.base.toolresult import ToolResult, ToolSound
from xiaozhi.base.values import ToolCall
from xiaozhi.runtime.cancelling import late, within
from xiaozhi.tools.results import PICTURES_LIMIT, for_model, text_for_model

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CallsOutcome:
    """The combined result of one reply's calls.

    :ivar output: text to speak and sounds to play, in the order of the calls.
    :ivar final: whether every result is final, so that the model is not asked again.
    """

    output: tuple[str | ToolSound, ...]
    final: bool


class ToolCalls:
    """Runs the calls of one turn. The model receives a failure as the call's result; a failure
    never ends the turn.

    :param turn: its number, for the log.
    """

    _log = Logger()

    def __init__(self, context: TurnContext, turn: int, timeline: Timeline) -> None:
        self._context = context
        self._turn = turn
        self._timeline = timeline
        self._screen = CallScreen(context.confirmation, context.toolbox, context.confirms, turn)

    @property
    def question(self) -> str:
        """See :class:`CallScreen`."""
        return self._screen.question

    def agreed(self, waiting: WaitingCall) -> ToolCall | None:
        """See :meth:`CallScreen.agreed`."""
        return self._screen.agreed(waiting)

    async def run(self, calls: tuple[ToolCall, ...], answer: PendingAnswer) -> CallsOutcome:
        """Run up to ``turn.tools_at_once`` calls in parallel; calls of one lane run in sequence.

        The pending answer receives a result for each call, in their order and also after an
        interruption: models reject a dialogue with a missing result.
        """
        results: dict[int, ToolResult] = {}
        lanes: dict[str, list[int]] = {}
        for at, call in enumerate(calls):
            if (withheld := self._screen.withhold(call)) is not None:
                results[at] = self._withheld(call, withheld)
                continue
            # A call without a lane has its own.
            lanes.setdefault(self._context.toolbox.lane(call.name) or f" {at}", []).append(at)
        waiting = deque(lanes.values())

        async def drive() -> None:
            while waiting:
                for at in waiting.popleft():
                    results[at] = await self._result(calls[at], answer.question.text)

        room = min(self._context.limits.tools_at_once, len(lanes))
        driving = [Deferred.fromCoroutine(drive()) for _ in range(room)]
        interrupted = ToolResult("Error: interrupted")
        try:
            for succeeded, outcome in await DeferredList(driving, consumeErrors=True):
                if not succeeded:
                    # _result() raises nothing else.
                    raise CancelledError from outcome.value  # type: ignore[attr-defined]
        finally:
            for at, call in enumerate(calls):
                result = results.get(at, interrupted)
                text = text_for_model(result, self._context.limits.tool_result)
                answer.tool_said(call, text)
        ordered = [results[at] for at in range(len(calls))]
        output: list[str | ToolSound] = []
        for result in ordered:
            words = result.say[: self._context.limits.tool_result]
            output += [*([words] if words else ()), *result.sounds]
        return CallsOutcome(tuple(output), all(result.final for result in ordered))

    async def _result(self, call: ToolCall, question: str) -> ToolResult:
        """Run one call; a failure is its result.

        :param question: the person's words, for the descriptions of pictures.
        """
        context, limits = self._context, self._context.limits
        limit = context.toolbox.limit(call.name, limits.tool)
        since = context.clock.seconds()

        def too_late() -> Exception:
            return ToolError("tool_timeout", f"{call.name} took longer than {limit:g} s")

        calling = context.toolbox.call(call.name, call.arguments)
        running = within(limit, context.clock, calling, too_late)
        try:
            if context.toolbox.interruptible(call.name):
                result = await running
            else:
                result = await _shielded(running)
        except ToolError as error:
            self._failed(call, error.code, since)
            return ToolResult(for_model(f"Error: {error.message}", limits.tool_result))
        except CancelledError:
            raise
        except Exception:
            self._failed(call, "internal_error", since)
            self._log.failure(
                "{session_id}: turn {turn}: the tool {tool} raised an exception",
                session_id=context.session_id,
                turn=self._turn,
                tool=call.name,
            )
            return ToolResult("Error: the tool is broken")
        self._timeline.tool("done", call.name, since)
        return await self._described(result, question) if result.pictures else result

    async def _described(self, result: ToolResult, question: str) -> ToolResult:
        """Replace the pictures of a result by descriptions."""
        texts = [result.text] if result.text else []
        described = result.pictures[:PICTURES_LIMIT]
        texts += [await self._description(picture, question) for picture in described]
        if left := len(result.pictures) - len(described):
            texts.append(f"[{left} more pictures]")
        return ToolResult("\n".join(texts), result.say, result.silent, (), result.sounds)

    async def _description(self, picture: bytes, question: str) -> str:
        context = self._context
        if context.describe is None:
            return "[a picture]"
        limited = within(
            context.limits.tool, context.clock, context.describe(picture, question), late("picture")
        )
        try:
            words = await self._timeline.awaited("vlllm", "", limited)
        except CancelledError:
            raise
        except Exception as error:
            if not isinstance(error, XiaozhiError):
                self._log.failure(
                    "{session_id}: describing a tool's picture raised an exception",
                    session_id=context.session_id,
                )
            self._log.warn(
                "{session_id}: no description of a tool's picture: {error}",
                session_id=context.session_id,
                error=error,
            )
            return "[a picture that could not be described]"
        return f"[a picture: {words}]"

    def _withheld(self, call: ToolCall, withheld: Withheld) -> ToolResult:
        self._timeline.tool(withheld.code, call.name)
        self._log.info(
            "{session_id}: tool {tool} did not run: {code}",
            session_id=self._context.session_id,
            tool=call.name,
            code=withheld.code,
        )
        return withheld.result

    def _failed(self, call: ToolCall, code: str, since: float) -> None:
        self._timeline.tool(code, call.name, since)
        self._log.info(
            "{session_id}: tool {tool} failed: {code}",
            session_id=self._context.session_id,
            tool=call.name,
            code=code,
        )


def _shielded(running: Coroutine[Any, Any, T]) -> Deferred[T]:
    """Wait for work that continues if the wait is cancelled; its own time limit bounds it."""
    # A Deferred without a canceller ignores the one result that comes after cancel().
    waiting: Deferred[T] = Deferred()
    work = Deferred.fromCoroutine(running)
    work.addCallbacks(waiting.callback, waiting.errback)
    return waiting
