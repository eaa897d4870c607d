"""``/metrics`` over HTTP."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.registry import Collector as _RegistryCollector
from twisted.internet.interfaces import IReactorTime
from twisted.web.http import Request as HttpRequest
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from xiaozhi.metrics.families import Collector, Family

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The content type of :meth:`Metrics.text`."""


class _Adapter(_RegistryCollector):
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def collect(self) -> list[Family]:
        return list(self._collector.collect())


class Metrics:
    """The metrics of one service."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()

    def add(self, collector: Collector) -> None:
        """Show the metrics of a collector."""
        self._registry.register(_Adapter(collector))

    def families(self) -> list[Family]:
        """All that is shown, as it stands."""
        return list(self._registry.collect())

    def text(self) -> bytes:
        """All of it as Prometheus reads it. Takes some milliseconds, and never waits."""
        return generate_latest(self._registry)


class MetricsPage(Resource):
    """``GET /metrics``."""

    isLeaf = True

    def __init__(self, metrics: Metrics) -> None:
        super().__init__()
        self._metrics = metrics

    def render_GET(self, request: Request) -> bytes:
        """The page; Twisted answers HEAD with it, too."""
        if any(request.postpath or ()):
            request.setResponseCode(404)
            return b"see /metrics\n"
        request.setHeader(b"content-type", CONTENT_TYPE.encode())
        request.setHeader(b"cache-control", b"no-store")
        return self._metrics.text()


class MetricsSite(Site):
    """A port for the page alone."""

    noisy = False

    def __init__(self, metrics: Metrics, clock: IReactorTime, timeout: float = 60.0) -> None:
        """:param timeout: seconds a connection may be silent."""
        root = Resource()
        root.putChild(b"metrics", MetricsPage(metrics))
        super().__init__(root, reactor=clock, timeout=timeout)

    def log(self, request: HttpRequest) -> None:
        """Nothing: it is asked every few seconds."""
