"""HTTP pages of the edge: health for people and for probes, messages posted to devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.http import Request as HttpRequest
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from xiaozhi.im.ingress.admission import http_error
from xiaozhi.im.ingress.gateway import Gateway
from xiaozhi.im.ingress.posts import BoundedRequest, DevicePosts
from xiaozhi.interfaces import IBridge
from xiaozhi.metrics.page import Metrics, MetricsPage
from xiaozhi.web import heads
from xiaozhi.web.insiders import Insiders
from xiaozhi.web.origins import Origins
from xiaozhi.web.posting import PREFIX, Posting
from xiaozhi.web.refusals import Refused

_METHODS = (b"GET", b"HEAD")
_LONGEST_BODY = 65_536
_NOT_FOUND = {"error": "not_found", "message": "see /health, /ready and /alive"}

Check = Callable[[], str]
"""Says what is wrong, in a few words; empty: nothing."""

Detail = Callable[[], Mapping[str, Any]]
"""Reports the state of a part, in numbers."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Parts that health reports besides gateway and bridge.

    :ivar vital: checks by name; devices suffer when one of them fails.
    :ivar useful: checks by name; without these connected devices go on undisturbed.
    :ivar details: further numbers, by name.
    :ivar nodes: all edges, this one among them.
    """

    vital: Mapping[str, Check] = field(default_factory=dict)
    useful: Mapping[str, Check] = field(default_factory=dict)
    details: Mapping[str, Detail] = field(default_factory=dict)
    nodes: Callable[[], list[dict[str, Any]]] = list


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
    """``/health``: 503 if devices are not served as they should be; ``degraded`` with
    200 if they are, but something is amiss. Strangers read the status alone."""

    def __init__(
        self, gateway: Gateway, bridge: IBridge, around: Surroundings, insiders: Insiders
    ) -> None:
        super().__init__()
        self._insiders = insiders
        self._gateway = gateway
        self._bridge = bridge
        self._around = around

    def page(self, request: Request) -> tuple[int, Mapping[str, Any]]:
        status = self._bridge.status()
        vital = {name: check() for name, check in self._around.vital.items()}
        useful = {name: check() for name, check in self._around.useful.items()}
        served = status.state == "connected" and not any(vital.values())
        well = "degraded" if any(useful.values()) else "healthy"
        health = {
            "status": well if served else "unhealthy",
            "node": self._gateway.node,
            "connections": self._gateway.connections,
            "grpc_status": status.state,
            "draining": self._gateway.draining,
            "refused": dict(self._gateway.entrance.refusals.counts),
            "bridge": {
                "streams": status.streams,
                "sessions": status.sessions,
                "detail": status.detail,
            },
            "checks": {name: wrong or "ok" for name, wrong in {**vital, **useful}.items()},
            "nodes": self._around.nodes(),
            **{name: detail() for name, detail in self._around.details.items()},
        }
        return 200 if served else 503, self._insiders.visible(request, health)


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
            edge = self.site.entrance
            due = edge.timers.clock.seconds() + edge.settings.gateway.head_timeout
            self._tick = edge.timers.timeouts.at(due, self._late)
        super().dataReceived(data)

    def lineReceived(self, line: bytes) -> None:
        # The first head came through the door; this is for those after it.
        if heads.is_clean_line(line):
            super().lineReceived(line)
            return
        peer = str(getattr(self.transport.getPeer(), "host", ""))
        self.site.entrance.refusals.add(Refused(heads.CODE, 400, self.counted_as or peer))
        self.transport.write(http_error(400, heads.CODE, heads.MESSAGE))
        self.transport.loseConnection()

    def requestDone(self, request: HttpRequest) -> None:
        self._in_time()
        super().requestDone(request)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._in_time()
        self.site.visits -= 1
        self.site.entrance.peers.leave(self.counted_as)
        super().connectionLost(reason)

    def _in_time(self) -> None:
        if self._tick is not None:
            self.site.entrance.timers.timeouts.cancel(self._tick, self._late)
            self._tick = None

    def _late(self) -> None:
        self._tick = None
        peer = str(getattr(self.transport.getPeer(), "host", ""))
        self.site.entrance.refusals.add(Refused("slow_request", 0, self.counted_as or peer))
        self.transport.abortConnection()


class EdgeSite(Site):
    """The web site behind the edge's port. No access log: a query can hold a token.

    :ivar edge: what it shares with the devices' links.
    :ivar origins: web pages that may read answers.
    :ivar visits: open connections; those beyond ``max_waiting`` are closed at once.
    :ivar longest_body: bytes of a body after which a connection is cut.
    """

    noisy = False
    protocol = _Visit  # type: ignore[assignment]  # without HTTP/2
    requestFactory = BoundedRequest
    longest_body = _LONGEST_BODY

    def __init__(
        self,
        gateway: Gateway,
        bridge: IBridge,
        around: Surroundings,
        posting: Posting,
        insiders: Insiders,
        clock: IReactorTime,
        timeout: float = 60.0,
        metrics: Metrics | None = None,
    ) -> None:
        """
        :param posting: what is posted to devices goes to it.
        :param insiders: may read the details of health.
        :param timeout: seconds a connection may be silent.
        :param metrics: what ``/metrics`` shows; None: there is no such page here.
        """
        root = _Root()
        root.putChild(b"health", _Health(gateway, bridge, around, insiders))
        root.putChild(b"ready", _Ready(gateway))
        root.putChild(b"alive", _Fixed(200, status="alive"))
        if metrics is not None:
            root.putChild(b"metrics", MetricsPage(metrics))
        self._pages = {name: name.decode() for name in root.children}
        _plant(root, PREFIX.strip("/").encode(), DevicePosts(posting))
        for path in gateway.entrance.settings.gateway.paths:
            _plant(root, path.strip("/").encode(), _UpgradeOnly())
        super().__init__(root, reactor=clock, timeout=timeout)
        self.visits = 0
        self.origins = Origins(gateway.entrance.settings.gateway.origins)
        self.entrance = gateway.entrance
        self._posting = posting
        self._most = gateway.entrance.settings.gateway.max_waiting

    def buildProtocol(self, addr: IAddress | None) -> Any:
        return super().buildProtocol(addr) if self.visits < self._most else None

    def room_for(self, path: bytes) -> int:
        """Bytes of a request's body that are kept."""
        return self._posting.max_bytes if path.startswith(PREFIX.encode()) else 0

    def log(self, request: HttpRequest) -> None:
        """Nothing but a count: see above."""
        posted = request.path.startswith(PREFIX.encode())
        page = "messages" if posted else self._pages.get(request.path.strip(b"/"), "other")
        self.entrance.counts.requests.add(page, str(request.code))


def _plant(root: Resource, path: bytes, leaf: Resource) -> None:
    *parents, last = path.split(b"/")
    for name in parents:
        known = root.children.get(name)
        if known is None or known.isLeaf:
            known = _Root()
            root.putChild(name, known)
        root = known
    root.putChild(last, leaf)
