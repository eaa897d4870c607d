"""Seams of tools."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from zope.interface import Attribute, Interface

from xiaozhi.base.toolresult import ToolResult


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
