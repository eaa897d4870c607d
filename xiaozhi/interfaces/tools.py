"""Seams of tools: one tool and a source of tools."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from xiaozhi.base.toolresult import ToolResult
from xiaozhi.interfaces.toolsource import ToolSession


class ITool(Interface):
    """A function that the model can call."""

    spec = Attribute("The :class:`~xiaozhi.base.values.ToolSpec` that the model receives.")
    limit = Attribute("Seconds a call may take; None: ``session.turn.tool``.")
    lane = Attribute(
        "Calls of tools with the same lane run in sequence; empty: in parallel with any other."
    )
    interruptible = Attribute(
        "Whether a call may be cancelled; otherwise it runs to its end, and its result is unused."
    )

    def call(arguments: dict[str, Any]) -> Awaitable[str | ToolResult]:
        """Run the tool.

        :return: a text for the model, or a result with more than that.
        :raises ToolError: the failure, with a message for the model.
        """


class IToolSource(Interface):
    """A supplier of tools, with a state and a lifetime.

    Functions of the server, an MCP server and an access-point connection last as long as the
    process; a device's MCP and its things last as long as their session.
    """

    name = Attribute("Short, unique name for tool policies, logs and health.")
    status = Attribute("A :class:`~xiaozhi.interfaces.toolsource.SourceStatus`.")

    def start() -> Deferred[None]:
        """Prepare the tools. The Deferred fires when they are ready or unavailable; it never
        fails: the outcome is in ``status``."""

    def stop() -> Deferred[None]:
        """Release everything; running calls fail. Idempotent."""

    def tools(session: ToolSession) -> Sequence[ITool]:
        """Return a snapshot of the tools for one session.

        The tools stay callable after the source's list has changed; a call may then fail.
        """

    def watch(changed: Callable[[], None]) -> Callable[[], None]:
        """Call a function whenever ``tools`` or ``status`` has changed.

        :return: a function that ends the watch. Idempotent.
        """
