"""Pages of both services: health, and metrics, on the service's port or a separate one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.interfaces import IReactorTime

from xiaozhi.metrics.registry import CONTENT_TYPE, Metrics
from xiaozhi.web.guards import Insiders
from xiaozhi.web.limits.visitors import BoundedVisitors
from xiaozhi.web.options import SiteLimits, SiteStyle
from xiaozhi.web.replies import Reply, json_reply
from xiaozhi.web.request import WebRequest
from xiaozhi.web.routes import Handler, Routes
from xiaozhi.web.site import WebSite

Health = Callable[[], Mapping[str, Any]]
"""Returns a report; its member ``status`` is ``healthy``, ``degraded`` or ``unhealthy``."""

# For the separate port of metrics; scrapers use one or two.
_MAX_CONNECTIONS = 100


def health_page(health: Health, insiders: Insiders) -> Handler:
    """``GET /health``: 503 if unhealthy, else 200. Only insiders see more than the status."""

    def show(request: WebRequest) -> Reply:
        report = health()
        status = 503 if report.get("status") == "unhealthy" else 200
        return json_reply(insiders.visible(request, report), status)

    return show


def metrics_page(metrics: Metrics) -> Handler:
    """``GET /metrics``, for Prometheus."""

    def show() -> Reply:
        return Reply(200, metrics.text(), CONTENT_TYPE)

    return show


def metrics_site(metrics: Metrics, clock: IReactorTime) -> WebSite:
    """Return a site with only ``/metrics``."""
    routes = Routes()
    routes.get("/metrics", metrics_page(metrics))
    visitors = BoundedVisitors(_MAX_CONNECTIONS)
    limits = SiteLimits(cut=True)
    return WebSite(routes, visitors, clock, limits, SiteStyle(not_found="see /metrics"))
