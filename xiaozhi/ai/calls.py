"""The tools one reply of the model asks for."""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from xiaozhi.ai.mind import Mind
from xiaozhi.ai.timeline import Timeline
from xiaozhi.ai.waiting import within
from xiaozhi.errors import ToolError
from xiaozhi.values import ToolCall


class ToolCalls:
    """Runs them for one turn. What goes wrong is for the model to read, never the
    end of the turn.

    :param turn: its number, for the log.
    """

    _log = Logger()

    def __init__(self, mind: Mind, turn: int, timeline: Timeline) -> None:
        self._mind = mind
        self._turn = turn
        self._timeline = timeline

    async def run(self, calls: tuple[ToolCall, ...]) -> None:
        """Run them one after the other; every call gets its result in the dialogue,
        also when interrupted: models refuse a dialogue where one is missing."""
        waiting = list(calls)
        try:
            while waiting:
                result = await self._result(waiting[0])
                self._mind.dialogue.tool_said(waiting.pop(0), result)
        finally:
            for call in waiting:
                self._mind.dialogue.tool_said(call, "Error: interrupted")

    async def _result(self, call: ToolCall) -> str:
        mind, limits = self._mind, self._mind.limits
        limit = mind.toolbox.limit(call.name, limits.tool)

        def late() -> Exception:
            return ToolError("tool_timeout", f"{call.name} took longer than {limit:g} s")

        try:
            running = mind.toolbox.call(call.name, call.arguments)
            result = await within(limit, mind.clock, running, late)
        except ToolError as error:
            self._failed(call, error.code)
            return f"Error: {error.message}"
        except CancelledError:
            raise
        except Exception:
            self._failed(call, "internal_error")
            self._log.failure(
                "{session_id}: turn {turn}: the tool {tool} broke",
                session_id=mind.session_id,
                turn=self._turn,
                tool=call.name,
            )
            return "Error: the tool is broken"
        self._timeline.tool("done")
        if len(result) > limits.tool_result:
            return result[: limits.tool_result] + " … (cut)"
        return result

    def _failed(self, call: ToolCall, code: str) -> None:
        self._timeline.tool(code)
        self._log.info(
            "{session_id}: tool {tool} failed: {code}",
            session_id=self._mind.session_id,
            tool=call.name,
            code=code,
        )
