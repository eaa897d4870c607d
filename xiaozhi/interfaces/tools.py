"""Seams of tools: one tool and a source of tools."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from xiaozhi.base.toolresult import ToolResult
from xiaozhi.base.toolsource import ToolSession


class ITool(Interface):
    """One action that the model can ask for."""

    spec = Attribute("The :class:`~xiaozhi.base.values.ToolSpec` the model is offered.")
    limit = Attribute("Seconds a call may take; None: ``session.turn.tool``.")
    lane = Attribute(
        "Calls of tools with the same lane run one after the other; empty: beside any other."
    )
    interruptible = Attribute(
        "Whether a call may be cancelled; otherwise it runs to its end, its result unused."
    )

    def call(arguments: dict[str, Any]) -> Awaitable[str | ToolResult]:
        """Run the tool.

        :return: a text for the model, or a result that says more.
        :raises ToolError: the failure, in words the model can pass on.
        """


class IToolSource(Interface):
    """Several tools that come and go together.

    Functions of the server, an MCP server and an access-point connection live as long as the
    process; a device's MCP and its things live as long as their session.
    """

    name = Attribute("Short and unique; tool policies, logs and health name it.")
    status = Attribute("A :class:`~xiaozhi.base.toolsource.SourceStatus`.")

    def start() -> Deferred[None]:
        """Get the tools ready. Fires when they are or cannot be; never fails: the outcome is
        in ``status``."""

    def stop() -> Deferred[None]:
        """Release everything; calls under way fail. Idempotent."""

    def tools(session: ToolSession) -> Sequence[ITool]:
        """Take a snapshot of the tools for one session.

        The tools stay callable when the source's list has changed; a call may then fail.
        """

    def watch(changed: Callable[[], None]) -> Callable[[], None]:
        """Have a function called whenever ``tools`` or ``status`` has changed.

        :return: ends the watch. Idempotent.
        """
