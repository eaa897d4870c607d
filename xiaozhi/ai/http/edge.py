"""Check of the edge for the diagnosis page."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.web.client import ResponseFailed, readBody
from twisted.web.iweb import IAgent

from xiaozhi.runtime.connecting import http_agent


class EdgeCheck:
    """Requests the edge's ``/alive``.

    A result serves further checks for ``fresh`` seconds, so that requests for the page cannot
    flood the edge.

    :param timeout: seconds for the whole request.
    """

    def __init__(
        self,
        reactor: Any,
        url: str,
        timeout: float = 2.0,
        fresh: float = 5.0,
        agent: IAgent | None = None,
    ) -> None:
        self._reactor = reactor
        self._url = url
        self._timeout = timeout
        self._fresh = fresh
        self._agent: Any = agent or http_agent(reactor, connect_timeout=timeout)
        self._line = ""
        self._asked = float("-inf")

    async def __call__(self) -> str:
        """Return one line, e.g. ``answers (http://127.0.0.1:8000/alive: 200)``."""
        now = self._reactor.seconds()
        if not self._line or not 0 <= now - self._asked < self._fresh:
            self._line = await self._look()
            self._asked = now
        return self._line

    async def _look(self) -> str:
        asking = Deferred.fromCoroutine(self._status())
        try:
            status = await asking.addTimeout(self._timeout, self._reactor)
        except Exception as error:
            if isinstance(error, ResponseFailed) and error.reasons:
                error = error.reasons[0].value
            return (
                f"does NOT answer at {self._url} ({type(error).__name__}); is xiaozhi-im running?"
            )
        return f"answers ({self._url}: {status})"

    async def _status(self) -> int:
        response = await self._agent.request(b"GET", self._url.encode())
        await readBody(response)
        return int(response.code)
