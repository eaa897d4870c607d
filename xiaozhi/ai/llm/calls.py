"""The tools one reply of the model asks for."""

from __future__ import annotations

from collections import deque
from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.logger import Logger

from xiaozhi.ai.llm.context import TurnContext
from xiaozhi.ai.memory.pending import PendingAnswer
from xiaozhi.ai.timeline.timeline import Timeline
from xiaozhi.base.errors import ToolError
from xiaozhi.base.values import ToolCall
from xiaozhi.runtime.cancelling import within
from xiaozhi.tools.results import for_model

T = TypeVar("T")


class ToolCalls:
    """Runs them for one turn. What goes wrong is for the model to read, never the
    end of the turn.

    :param turn: its number, for the log.
    """

    _log = Logger()

    def __init__(self, mind: TurnContext, turn: int, timeline: Timeline) -> None:
        self._mind = mind
        self._turn = turn
        self._timeline = timeline

    async def run(self, calls: tuple[ToolCall, ...], draft: PendingAnswer) -> None:
        """Run them beside each other, those of one lane one after the other, and not
        more than ``turn.tools_at_once``.

        Every call gets its result in the draft, in the order of the calls and also
        when interrupted: models refuse a dialogue where one is missing.
        """
        results: dict[int, str] = {}
        lanes: dict[str, list[int]] = {}
        for at, call in enumerate(calls):
            # A call without a lane has one of its own.
            lanes.setdefault(self._mind.toolbox.lane(call.name) or f" {at}", []).append(at)
        waiting = deque(lanes.values())

        async def drive() -> None:
            while waiting:
                for at in waiting.popleft():
                    results[at] = await self._result(calls[at])

        room = min(self._mind.limits.tools_at_once, len(lanes))
        driving = [Deferred.fromCoroutine(drive()) for _ in range(room)]
        try:
            for succeeded, outcome in await DeferredList(driving, consumeErrors=True):
                if not succeeded:
                    # Cancelled: nothing else gets out of _result.
                    raise CancelledError from outcome.value  # type: ignore[attr-defined]
        finally:
            for at, call in enumerate(calls):
                draft.tool_said(call, results.get(at, "Error: interrupted"))

    async def _result(self, call: ToolCall) -> str:
        mind, limits = self._mind, self._mind.limits
        limit = mind.toolbox.limit(call.name, limits.tool)
        since = mind.clock.seconds()

        def late() -> Exception:
            return ToolError("tool_timeout", f"{call.name} took longer than {limit:g} s")

        running = within(limit, mind.clock, mind.toolbox.call(call.name, call.arguments), late)
        try:
            if mind.toolbox.interruptible(call.name):
                result = await running
            else:
                result = await _shielded(running)
        except ToolError as error:
            self._failed(call, error.code, since)
            return for_model(f"Error: {error.message}", limits.tool_result)
        except CancelledError:
            raise
        except Exception:
            self._failed(call, "internal_error", since)
            self._log.failure(
                "{session_id}: turn {turn}: the tool {tool} broke",
                session_id=mind.session_id,
                turn=self._turn,
                tool=call.name,
            )
            return "Error: the tool is broken"
        self._timeline.tool("done", call.name, since)
        return for_model(result, limits.tool_result)

    def _failed(self, call: ToolCall, code: str, since: float) -> None:
        self._timeline.tool(code, call.name, since)
        self._log.info(
            "{session_id}: tool {tool} failed: {code}",
            session_id=self._mind.session_id,
            tool=call.name,
            code=code,
        )


def _shielded(running: Coroutine[Any, Any, T]) -> Deferred[T]:
    """Wait for something that goes on when the wait is cancelled; bounded by its own
    time limit."""
    # Without a canceller, so that it takes a result that nobody waits for any more.
    waiting: Deferred[T] = Deferred()
    going_on = Deferred.fromCoroutine(running)
    # Who has stopped waiting hears no more of it, not of its failure either.
    going_on.addCallbacks(waiting.callback, waiting.errback)
    return waiting
