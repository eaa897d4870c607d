"""Limits and style of a site, and the site as its connections see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from twisted.internet.interfaces import IReactorTime

from xiaozhi.base.errors import XiaozhiError
from xiaozhi.web.limits.visitors import VisitorPolicy
from xiaozhi.web.replies import API_ERRORS, JSON, ErrorForm, Reply
from xiaozhi.web.request import WebRequest
from xiaozhi.web.routes import Routes


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteLimits:
    """Limits of a site. Times in seconds, sizes in bytes.

    :ivar head_time: for a request's head, from the connection or its first byte.
    :ivar body_time: for its body; None: head and body share ``head_time``.
    :ivar idle_time: between two requests of a connection, and for a client that reads none of
        a stream.
    :ivar max_body: of a request, where its route says nothing else.
    :ivar max_held: of all bodies together; further requests are answered 503.
    :ivar drained: of a refused body, read and thrown away; then the connection is ended.
    :ivar cut: end slow and endless requests without a reply.
    :ivar linger: for a client that said ``Connection: close`` to close first; 0: we close.
    :ivar max_lingering: connections doing so at a time.
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
    """Manners of a site that its clients rely on.

    :ivar origins: web pages that may read replies.
    :ivar errors: the JSON form of errors, where a route has none of its own.
    :ivar json_type: the ``Content-Type`` of JSON.
    :ivar options: answer ``OPTIONS`` on any path; False: only a listed page's preflight.
    :ivar not_found: the message of 404.
    """

    origins: tuple[str, ...] = ()
    errors: ErrorForm = API_ERRORS
    json_type: str = JSON
    options: bool = False
    not_found: str = "there is nothing at this path"

    def content_type(self, given: str) -> str:
        """The ``Content-Type`` to send for a reply's own."""
        return self.json_type if given == JSON else given


class ServedSite(Protocol):
    """A site as its connections and requests see it.

    :ivar connections: open now.
    :ivar lingering: connections kept so that the client closes first.
    """

    connections: int
    lingering: int
    reactor: IReactorTime
    routes: Routes
    visitors: VisitorPolicy
    limits: SiteLimits
    style: SiteStyle

    def hold(self, size: int) -> bool:
        """Account for bytes of a body. :return: False if they do not fit."""

    def release(self, size: int) -> None:
        """Take :meth:`hold` back."""

    def new_id(self) -> str:
        """An id for a request."""

    def cors(self, request: WebRequest) -> Mapping[str, str]:
        """The CORS headers of a reply."""

    def error(self, error: XiaozhiError) -> Reply:
        """An error in the site's form, for a request that could not be read."""
