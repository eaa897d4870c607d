"""A port that speaks HTTP: the factory of its connections."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from itertools import count
from typing import Any

from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.web.http import HTTPFactory, Request

from xiaozhi.base.errors import XiaozhiError
from xiaozhi.web.channel import WebChannel
from xiaozhi.web.exchange import WebExchange
from xiaozhi.web.limits.origins import Origins
from xiaozhi.web.limits.visitors import VisitorPolicy
from xiaozhi.web.options import SiteLimits, SiteStyle
from xiaozhi.web.replies import Reply
from xiaozhi.web.request import WebRequest
from xiaozhi.web.routes import Routes


class WebSite(HTTPFactory):
    """Serves a table of routes to the connections of a port.

    :ivar connections: open now.
    :ivar lingering: connections kept so that the client closes first.
    :ivar held: bytes of request bodies in memory.
    """

    noisy = False
    protocol = WebChannel  # type: ignore[assignment]  # without HTTP/2

    def __init__(
        self,
        routes: Routes,
        visitors: VisitorPolicy,
        reactor: IReactorTime,
        limits: SiteLimits,
        style: SiteStyle,
    ) -> None:
        """:param visitors: admits and counts connections and requests."""
        # The channel has a deadline of its own, which a trickle does not put off.
        super().__init__(timeout=None, reactor=reactor)  # type: ignore[arg-type]
        self.routes = routes
        self.visitors = visitors
        self.limits = limits
        self.style = style
        self.connections = 0
        self.lingering = 0
        self.held = 0
        self._origins = Origins(style.origins)
        self._ids = count(1)
        self._boot = secrets.token_hex(3)

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """See ``IProtocolFactory``. None, which closes the connection: it is refused."""
        host = str(getattr(addr, "host", ""))
        key = self.visitors.arrive(host, self.connections)
        if key is None:
            return None
        channel: Any = super().buildProtocol(addr)
        channel.site = self
        channel.requestFactory = WebExchange
        channel.counted_as = key
        return channel

    def startFactory(self) -> None:
        """Open no log file and no timer for its dates: the access log has its own."""

    def stopFactory(self) -> None:
        """Log the counts that are still held back."""
        self.visitors.stop()

    def acceptableProtocols(self) -> list[bytes]:
        """Offer HTTP/1.1 alone; devices speak nothing else."""
        return [b"http/1.1"]

    def log(self, request: Request) -> None:
        """Hand an answered request to the access log."""
        if isinstance(request, WebExchange) and request.asked is not None:
            self.visitors.answered(
                request.asked, request.page, int(request.code), int(request.sentLength)
            )

    def hold(self, size: int) -> bool:
        """Account for bytes of a body. :return: False if they do not fit."""
        if self.held + size > self.limits.max_held:
            return False
        self.held += size
        return True

    def release(self, size: int) -> None:
        """Take :meth:`hold` back."""
        self.held -= size

    def new_id(self) -> str:
        """An id for a request: unique in this process, unlike those of others."""
        return f"{self._boot}-{next(self._ids)}"

    def cors(self, request: WebRequest) -> Mapping[str, str]:
        """The CORS headers of a reply; empty: no page, or one that is not listed."""
        values = request.headers.get("origin")
        return self._origins.headers(values[-1] if values else None)

    def error(self, error: XiaozhiError) -> Reply:
        """An error in the site's form and type, for a request that could not be read."""
        reply = self.style.errors.reply(error)
        return Reply(reply.status, reply.body, self.style.content_type(reply.content_type))
