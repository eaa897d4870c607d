"""What the edge answers over HTTP: how it is, for people and for probes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.http import Request as HttpRequest
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from xiaozhi.im.gateway import Gateway
from xiaozhi.im.refusals import Refused
from xiaozhi.interfaces import IBridge

_METHODS = (b"GET", b"HEAD")
# Bytes; nothing here wants any.
_LONGEST_BODY = 65_536
_NOT_FOUND = {"error": "not_found", "message": "see /health, /ready and /alive"}

Check = Callable[[], str]
"""Says what is wrong, in a few words; empty: nothing."""

Detail = Callable[[], Mapping[str, Any]]
"""Says how something is, in figures."""


class _Json(Resource):
    """A page of JSON. Twisted adds Content-Length to whole answers."""

    isLeaf = True

    def render(self, request: Request) -> bytes:
        if any(request.postpath or ()):
            return self._answer(request, 404, _NOT_FOUND)
        if request.method not in _METHODS:
            request.setHeader(b"allow", b", ".join(_METHODS))
            return self._answer(
                request, 405, {"error": "method_not_allowed", "message": "only GET is answered"}
            )
        return self._answer(request, *self.page(request))

    def page(self, request: Request) -> tuple[int, Mapping[str, Any]]:
        """The HTTP status and what to say."""
        raise NotImplementedError

    def _answer(self, request: Request, status: int, body: Mapping[str, Any]) -> bytes:
        request.setResponseCode(status)
        request.setHeader(b"content-type", b"application/json")
        request.setHeader(b"cache-control", b"no-store")
        data = msgspec.json.encode(body)
        request.setHeader(b"content-length", b"%d" % len(data))
        return b"" if request.method == b"HEAD" else data


class _Fixed(_Json):
    def __init__(self, code: int, **body: str) -> None:
        super().__init__()
        self._code = code
        self._body = body

    def page(self, request: Request) -> tuple[int, Mapping[str, Any]]:
        return self._code, self._body


class _Health(_Json):
    """``/health``: 503 if devices are not served as they should be."""

    def __init__(
        self,
        gateway: Gateway,
        bridge: IBridge,
        checks: Mapping[str, Check],
        details: Mapping[str, Detail],
    ) -> None:
        super().__init__()
        self._details = details
        self._gateway = gateway
        self._bridge = bridge
        self._checks = checks

    def page(self, request: Request) -> tuple[int, Mapping[str, Any]]:
        status = self._bridge.status()
        found = {name: check() for name, check in self._checks.items()}
        healthy = status.state == "connected" and not any(found.values())
        return 200 if healthy else 503, {
            "status": "healthy" if healthy else "unhealthy",
            "connections": self._gateway.connections,
            "grpc_status": status.state,
            "draining": self._gateway.draining,
            "refused": dict(self._gateway.edge.refusals.counts),
            "bridge": {
                "streams": status.streams,
                "sessions": status.sessions,
                "detail": status.detail,
            },
            "checks": {name: wrong or "ok" for name, wrong in found.items()},
            **{name: detail() for name, detail in self._details.items()},
        }


class _Ready(_Json):
    """``/ready``: whether new devices should be sent here. They may come while
    the AI is away: they are kept, and served when it returns."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__()
        self._gateway = gateway

    def page(self, request: Request) -> tuple[int, Mapping[str, Any]]:
        if self._gateway.draining:
            return 503, {"status": "draining"}
        return 200, {"status": "ready"}


class _Root(Resource):
    """A folder; there is nothing in it but what was put there."""

    def render(self, request: Request) -> bytes:
        return _Fixed(404, **_NOT_FOUND).render(request)

    def getChild(self, path: bytes, request: Request) -> Resource:
        return _Fixed(404, **_NOT_FOUND)


class _UpgradeOnly(_Json):
    """A device's path without an upgrade, which is what a browser's address bar sends."""

    def page(self, request: Request) -> tuple[int, Mapping[str, Any]]:
        request.setHeader(b"upgrade", b"websocket")
        return 426, {"error": "upgrade_required", "message": "this path speaks WebSocket"}


class _Bodiless(Request):
    """A request whose body is thrown away as it comes, where Twisted's goes to a
    file without end. Who sends a long one is cut off."""

    channel: Any
    _thrown_away = 0

    def gotLength(self, length: int | None) -> None:
        super().gotLength(0)

    def handleContentChunk(self, data: bytes) -> None:
        self._thrown_away += len(data)
        if self._thrown_away > _LONGEST_BODY:
            self.channel.transport.abortConnection()


class _Visit(HTTPChannel):
    """A connection, counted. A request has ``head_timeout`` from its first byte to its
    last: Twisted's own limit begins anew with every byte."""

    site: EdgeSite
    transport: Any
    counted_as = ""  # in Edge.peers
    _tick: int | None = None

    def connectionMade(self) -> None:
        self.site.visits += 1
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        if self._tick is None:
            edge = self.site.edge
            due = edge.clock.seconds() + edge.settings.gateway.head_timeout
            self._tick = edge.timeouts.at(due, self._late)
        super().dataReceived(data)

    def requestDone(self, request: HttpRequest) -> None:
        self._in_time()
        super().requestDone(request)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._in_time()
        self.site.visits -= 1
        self.site.edge.peers.leave(self.counted_as)
        super().connectionLost(reason)

    def _in_time(self) -> None:
        if self._tick is not None:
            self.site.edge.timeouts.cancel(self._tick, self._late)
            self._tick = None

    def _late(self) -> None:
        self._tick = None
        peer = str(getattr(self.transport.getPeer(), "host", ""))
        self.site.edge.refusals.add(Refused("slow_request", 0, self.counted_as or peer))
        self.transport.abortConnection()


class EdgeSite(Site):
    """The web site behind the edge's port. No access log: a query can hold a token.

    :ivar edge: what it shares with the devices' links.
    :ivar visits: open connections; those beyond ``max_waiting`` are closed at once.
    """

    noisy = False
    protocol = _Visit  # type: ignore[assignment]  # without HTTP/2
    requestFactory = _Bodiless

    def __init__(
        self,
        gateway: Gateway,
        bridge: IBridge,
        checks: Mapping[str, Check],
        clock: IReactorTime,
        timeout: float = 60.0,
        details: Mapping[str, Detail] | None = None,
    ) -> None:
        """
        :param checks: further things that must be well, by name, e.g. ``store``.
        :param timeout: seconds a connection may be silent.
        :param details: further figures for ``/health``, by name.
        """
        root = _Root()
        root.putChild(b"health", _Health(gateway, bridge, checks, details or {}))
        root.putChild(b"ready", _Ready(gateway))
        root.putChild(b"alive", _Fixed(200, status="alive"))
        for path in gateway.edge.settings.gateway.paths:
            _plant(root, path.strip("/").encode(), _UpgradeOnly())
        super().__init__(root, reactor=clock, timeout=timeout)
        self.visits = 0
        self.edge = gateway.edge
        self._most = gateway.edge.settings.gateway.max_waiting

    def buildProtocol(self, addr: IAddress | None) -> Any:
        return super().buildProtocol(addr) if self.visits < self._most else None

    def log(self, request: HttpRequest) -> None:
        """Nothing: see above."""


def _plant(root: Resource, path: bytes, leaf: Resource) -> None:
    *parents, last = path.split(b"/")
    for name in parents:
        known = root.children.get(name)
        if known is None or known.isLeaf:
            known = _Root()
            root.putChild(name, known)
        root = known
    root.putChild(last, leaf)
