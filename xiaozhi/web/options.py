"""Limits and style of a site, and its interface for connections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from twisted.internet.interfaces import IReactorTime

from xiaozhi.base.errors import XiaozhiError
from xiaozhi.web.limits.visitors import VisitorPolicy
from xiaozhi.web.replies import JSON, Reply
from xiaozhi.web.request import WebRequest
from xiaozhi.web.routes import Routes


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteLimits:
    """Limits of a site. Times in seconds, sizes in bytes.

    :ivar head_time: time for a request's head, from the connection or its first byte.
    :ivar body_time: time for its body; None: head and body share ``head_time``.
    :ivar idle_time: time between two requests of a connection, and for a client that does not
        read a stream.
    :ivar max_body: maximum body, unless the route has its own limit.
    :ivar max_held: maximum total of all bodies in memory; further requests are answered 503.
    :ivar drained: bytes of a refused body that are read and discarded before the connection
        is closed.
    :ivar cut: whether slow and endless requests are dropped without a reply.
    :ivar linger: time for a client that sent ``Connection: close`` to close first; 0: we close.
    :ivar max_lingering: maximum connections that linger.
    """

    head_time: float = 10.0
    body_time: float | None = None
    idle_time: float = 60.0
    max_body: int = 0
    max_held: int = 64 * 1024 * 1024
    drained: int = 64 * 1024
    cut: bool = False
    linger: float = 0.0
    max_lingering: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteStyle:
    """Conventions of a site for its clients.

    :ivar origins: web pages that may read replies.
    :ivar json_type: the ``Content-Type`` of JSON.
    :ivar options: answer ``OPTIONS`` on any path; False: only a listed page's preflight.
    :ivar not_found: the message of 404.
    """

    origins: tuple[str, ...] = ()
    json_type: str = JSON
    options: bool = False
    not_found: str = "there is nothing at this path"

    def content_type(self, given: str) -> str:
        """Return the ``Content-Type`` to send for that of a reply."""
        return self.json_type if given == JSON else given


class ServedSite(Protocol):
    """A site, as its connections and requests see it.

    :ivar connections: number of open connections.
    :ivar lingering: number of connections that wait for the client to close first.
    """

    connections: int
    lingering: int
    reactor: IReactorTime
    routes: Routes
    visitors: VisitorPolicy
    limits: SiteLimits
    style: SiteStyle

    def hold(self, size: int) -> bool:
        """Reserve bytes for a body.

        :return: False: the limit is reached, and nothing was reserved.
        """

    def release(self, size: int) -> None:
        """Release bytes reserved by :meth:`hold`."""

    def new_id(self) -> str:
        """Return an id for a request."""

    def cors(self, request: WebRequest) -> Mapping[str, str]:
        """Return the CORS headers of a reply."""

    def error(self, error: XiaozhiError) -> Reply:
        """Return an error, for a request that could not be read."""
