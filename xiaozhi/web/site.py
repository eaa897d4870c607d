"""Web site: the factory of an HTTP port's connections."""

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
from xiaozhi.web.replies import Reply, error_reply
from xiaozhi.web.request import WebRequest
from xiaozhi.web.routes import Routes


class WebSite(HTTPFactory):
    """Serves a table of routes to the connections of a port.

    :ivar connections: number of open connections.
    :ivar lingering: number of connections that wait for the client to close first.
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
        # The channel has its own deadline, which slow data does not extend.
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
        """See ``IProtocolFactory``. None, which closes the connection, if it is refused."""
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
        """Do nothing: Twisted's log file and date timer are not used."""

    def stopFactory(self) -> None:
        """Log the counts that are not logged yet."""
        self.visitors.stop()

    def acceptableProtocols(self) -> list[bytes]:
        """Offer only HTTP/1.1, as devices support no other version."""
        return [b"http/1.1"]

    def log(self, request: Request) -> None:
        """Pass an answered request to the access log."""
        if isinstance(request, WebExchange) and request.asked is not None:
            self.visitors.answered(
                request.asked, request.page, int(request.code), int(request.sentLength)
            )

    def hold(self, size: int) -> bool:
        """See :class:`ServedSite`."""
        if self.held + size > self.limits.max_held:
            return False
        self.held += size
        return True

    def release(self, size: int) -> None:
        """See :class:`ServedSite`."""
        self.held -= size

    def new_id(self) -> str:
        """Return an id for a request, unique in and across processes."""
        return f"{self._boot}-{next(self._ids)}"

    def cors(self, request: WebRequest) -> Mapping[str, str]:
        """Return the CORS headers of a reply; empty without a listed origin."""
        values = request.headers.get("origin")
        return self._origins.headers(values[-1] if values else None)

    def error(self, error: XiaozhiError) -> Reply:
        """Return an error in the site's type, for a request that could not be read."""
        reply = error_reply(error)
        return Reply(reply.status, reply.body, self.style.content_type(reply.content_type))
