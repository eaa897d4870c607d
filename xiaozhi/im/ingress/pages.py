"""HTTP pages of the edge: health for people and probes, messages posted to devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from xiaozhi.im.ingress.entrance import Entrance
from xiaozhi.im.ingress.gateway import Gateway
from xiaozhi.interfaces import IBridge
from xiaozhi.metrics.registry import Metrics
from xiaozhi.web.guards import Insiders
from xiaozhi.web.limits.refusals import Refused
from xiaozhi.web.options import SiteLimits, SiteStyle
from xiaozhi.web.pages import Health, health_page, metrics_page
from xiaozhi.web.posting import Posting
from xiaozhi.web.replies import HttpError, Reply, json_reply
from xiaozhi.web.request import WebRequest
from xiaozhi.web.routes import Routes
from xiaozhi.web.site import WebSite

# The pages for probes, named in replies to unknown requests.
_SEE = "see /health, /ready and /alive"

Check = Callable[[], str]
"""Returns the problem in a few words; empty: no problem."""

Detail = Callable[[], Mapping[str, Any]]
"""Returns the state of a part, in numbers."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Parts that health reports besides gateway and bridge.

    :ivar vital: checks by name; a failure affects devices.
    :ivar useful: checks by name; a failure does not affect connected devices.
    :ivar details: further numbers, by name.
    :ivar nodes: all edges, including this one.
    """

    vital: Mapping[str, Check] = field(default_factory=dict)
    useful: Mapping[str, Check] = field(default_factory=dict)
    details: Mapping[str, Detail] = field(default_factory=dict)
    nodes: Callable[[], list[dict[str, Any]]] = list


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgePages:
    """The parts that the pages use.

    :ivar posting: delivers messages that are posted to devices.
    :ivar insiders: decides which requests may read the details of health.
    :ivar metrics: content of ``/metrics``; None: there is no such page.
    """

    gateway: Gateway
    bridge: IBridge
    around: Surroundings
    posting: Posting
    insiders: Insiders
    metrics: Metrics | None = None


def edge_site(pages: EdgePages, clock: IReactorTime) -> WebSite:
    """Return the site behind the edge's port, for requests other than upgrades.

    The port limits connections and handles slow first heads. There is no access log, because
    a device's query can contain a token.
    """
    edge = pages.gateway.entrance
    gateway = edge.settings.gateway
    limits = SiteLimits(head_time=gateway.head_timeout, cut=True)
    style = SiteStyle(origins=gateway.origins, not_found=_SEE)
    return WebSite(_routes(pages), _EdgeVisitors(edge), clock, limits, style)


class _EdgeVisitors:
    """A ``VisitorPolicy`` behind the port, which has admitted and counted the connection."""

    def __init__(self, edge: Entrance) -> None:
        self._edge = edge

    def arrive(self, host: str, connections: int) -> str | None:
        return "" if connections < self._edge.settings.gateway.max_waiting else None

    def served(self, key: str) -> None:
        """Do nothing: the port has read the first head."""

    def leave(self, key: str) -> None:
        self._edge.peers.leave(key)

    def refuse(self, reason: str, status: int, host: str) -> None:
        self._edge.refusals.add(Refused(reason, status, host))

    def admit(self, request: WebRequest, key: str, done: Deferred[None]) -> None:
        """Admit every request."""

    def answered(self, request: WebRequest, page: str, status: int, size: int) -> None:
        self._edge.counts.requests.add(page, str(status))

    def stop(self) -> None:
        """Do nothing: the gateway owns the refusals."""


def _routes(pages: EdgePages) -> Routes:
    routes = Routes()
    routes.get("/health", health_page(_report(pages), pages.insiders), page="health")
    routes.get("/ready", _ready_page(pages.gateway), page="ready")
    routes.get("/alive", _alive, page="alive")
    if pages.metrics is not None:
        routes.get("/metrics", metrics_page(pages.metrics), page="metrics")
    pages.posting.add_to(routes, page="messages")
    for path in pages.gateway.entrance.settings.gateway.paths:
        if routes.find(path) is None:
            routes.get(path, _upgrade_only, page="other")
    return routes


def _report(pages: EdgePages) -> Health:
    """Return the health report: ``unhealthy`` if a failure affects devices, ``degraded`` if only
    a useful part fails."""
    gateway, around = pages.gateway, pages.around

    def report() -> Mapping[str, Any]:
        status = pages.bridge.status()
        vital = {name: check() for name, check in around.vital.items()}
        useful = {name: check() for name, check in around.useful.items()}
        served = status.state == "connected" and not any(vital.values())
        well = "degraded" if any(useful.values()) else "healthy"
        return {
            "status": well if served else "unhealthy",
            "node": gateway.node,
            "connections": gateway.connections,
            "grpc_status": status.state,
            "draining": gateway.draining,
            "refused": dict(gateway.entrance.refusals.counts),
            "bridge": {
                "streams": status.streams,
                "sessions": status.sessions,
                "detail": status.detail,
            },
            "checks": {name: wrong or "ok" for name, wrong in {**vital, **useful}.items()},
            "nodes": around.nodes(),
            **{name: detail() for name, detail in around.details.items()},
        }

    return report


def _ready_page(gateway: Gateway) -> Callable[[], Reply]:
    """``/ready``: whether a balancer should send new devices here; also while the AI is away,
    because the edge keeps devices connected until it returns."""

    def ready() -> Reply:
        if gateway.draining:
            return json_reply({"status": "draining"}, 503)
        return json_reply({"status": "ready"})

    return ready


def _alive() -> Reply:
    return json_reply({"status": "alive"})


def _upgrade_only() -> Reply:
    """Answer a request for a device's path without an upgrade, as from a browser."""
    headers = {"Upgrade": "websocket"}
    raise HttpError(426, "upgrade_required", "this path speaks WebSocket", headers)
