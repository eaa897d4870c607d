"""HTTP port of the AI service: routes and limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.logger import Logger

from xiaozhi.ai.http.agents import AgentHandlers
from xiaozhi.ai.http.edge import EdgeCheck
from xiaozhi.ai.http.ota import OtaHandlers
from xiaozhi.ai.http.registration import OpenRegistrar, Registrar
from xiaozhi.ai.http.settings import HttpSettings
from xiaozhi.ai.http.vision import VisionHandlers, VisionOffer
from xiaozhi.interfaces import IDeviceTokens, IVisionModel
from xiaozhi.metrics.instruments import Tally
from xiaozhi.metrics.registry import Metrics
from xiaozhi.web.guards import Insiders
from xiaozhi.web.limits.visitors import Visitors
from xiaozhi.web.options import SiteLimits, SiteStyle
from xiaozhi.web.pages import Health, health_page, metrics_page
from xiaozhi.web.posting import Posting
from xiaozhi.web.routes import Routes
from xiaozhi.web.site import WebSite

_log = Logger()

# Bytes of a refused body that are read, so that its sender can read the reply.
_DRAINED = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteParts:
    """The parts that the port's routes use.

    :ivar model: returns the vision model in use; None: pictures are not supported.
    :ivar posting: delivers messages that are posted to devices.
    :ivar insiders: decides which requests may read the details of health.
    :ivar requests: counts requests by page and status.
    :ivar metrics: content of ``/metrics``; None: there is no such page.
    :ivar agents: handlers for agents; None: there are no such routes.
    :ivar registrar: decides which devices are admitted; by default all.
    """

    tokens: IDeviceTokens
    model: Callable[[], IVisionModel | None]
    health: Health
    posting: Posting
    insiders: Insiders
    requests: Tally = field(default_factory=Tally)
    metrics: Metrics | None = None
    registrar: Registrar = field(default_factory=OpenRegistrar)
    agents: AgentHandlers | None = None


@dataclass(frozen=True, slots=True)
class DeviceSite:
    """The assembled port.

    :ivar site: the factory to listen with.
    :ivar visitors: limits clients by address.
    :ivar offer: returns the upload address and token for a session's device.
    """

    site: WebSite
    visitors: Visitors
    offer: VisionOffer


def make_site(settings: HttpSettings, parts: SiteParts, reactor: Any) -> DeviceSite:
    """Assemble the port.

    :param reactor: clock and TCP.
    :raises ConfigError: devices could not parse an address.
    """
    _warn_of_plain_uploads(settings)
    visitors = Visitors(settings, reactor, parts.requests)
    site = site_of(_routes(settings, parts, reactor), settings, visitors, reactor)
    offer = VisionOffer(settings.vision, parts.tokens, settings.listen.port)
    return DeviceSite(site, visitors, offer)


def site_of(routes: Routes, settings: HttpSettings, visitors: Visitors, reactor: Any) -> WebSite:
    """Return a site with the limits of this service."""
    limits = SiteLimits(
        head_time=settings.head_timeout,
        body_time=settings.request_time,
        idle_time=settings.request_time,
        max_body=settings.max_body,
        max_held=settings.max_held,
        drained=_DRAINED,
        linger=settings.linger,
        max_lingering=settings.max_lingering,
    )
    style = SiteStyle(
        origins=settings.origins,
        json_type="application/json; charset=utf-8",
        options=True,
    )
    return WebSite(routes, visitors, reactor, limits, style)


def _routes(settings: HttpSettings, parts: SiteParts, reactor: Any) -> Routes:
    check = EdgeCheck(reactor, settings.ota.edge_check) if settings.ota.edge_check else None
    ota = OtaHandlers(settings.ota, parts.tokens, parts.registrar, reactor, check)
    vision = VisionHandlers(settings.vision, parts.tokens, parts.model, reactor)
    routes = Routes()
    for path in ("/api/ota", "/xiaozhi/ota"):
        ota.add_to(routes, path)
    for path in ("/api/vision", "/mcp/vision/explain"):
        vision.add_to(routes, path)
    routes.get("/health", health_page(parts.health, parts.insiders))
    if parts.metrics is not None:
        routes.get("/metrics", metrics_page(parts.metrics))
    parts.posting.add_to(routes, page="other")
    if parts.agents is not None:
        parts.agents.add_to(routes)
    return routes


def _warn_of_plain_uploads(settings: HttpSettings) -> None:
    if not settings.vision.url and (
        settings.ota.trust_proxy or settings.ota.websocket_url.startswith("wss:")
    ):
        _log.warn(
            "http.vision.url is empty: devices upload photos by plain HTTP to port"
            " {port} of their WebSocket's host; set it to the proxy's address",
            port=settings.listen.port,
        )
