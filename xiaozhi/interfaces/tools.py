"""Seam of tools."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from zope.interface import Attribute, Interface


class ITool(Interface):
    """Something the assistant can do."""

    spec = Attribute("The :class:`~xiaozhi.base.values.ToolSpec` the model is offered.")
    limit = Attribute("Seconds a call may take; None: as long as the turn's settings say.")
    lane = Attribute(
        "Calls of tools with the same one run one after the other; empty: beside any other."
    )
    interruptible = Attribute(
        "Whether a call may be cancelled; otherwise it runs to its end, its result unheard."
    )

    def call(arguments: dict[str, Any]) -> Awaitable[str]:
        """Do it.

        :return: the result as the model is to read it.
        :raises ToolError: what went wrong, in words the model can pass on.
        """
