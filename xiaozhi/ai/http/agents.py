"""Agents over HTTP: reloading the configuration file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.defer import Deferred

from xiaozhi.agents.files import ReloadReport
from xiaozhi.web.replies import HttpError, Reply, json_reply
from xiaozhi.web.routes import Guard, Routes


@dataclass(frozen=True, slots=True)
class AgentHandlers:
    """Routes for agents, for holders of the management token.

    :ivar reload: reloads the file; never fails.
    """

    reload: Callable[[], Deferred[ReloadReport]]
    guard: Guard

    def add_to(self, routes: Routes) -> None:
        """Add the routes."""
        routes.post("/api/agents/reload", self.read_again, guard=self.guard, max_body=0)

    async def read_again(self) -> Reply:
        """Reload the file and report the changes; 422: the file has an error."""
        report = await self.reload()
        if report.error:
            raise HttpError(422, "bad_config", report.error)
        return json_reply({"changed": list(report.changed), "restart": list(report.restart)})
