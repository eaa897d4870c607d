"""The AI service's web site: what stands at which path, and its limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.logger import Logger
from twisted.web import http
from twisted.web.server import Request, Site

from xiaozhi.ai.http.answers import HttpAnswer, failure, json_answer
from xiaozhi.ai.http.channel import DeviceChannel, DeviceRequest
from xiaozhi.ai.http.edge import EdgeCheck
from xiaozhi.ai.http.endpoint import Endpoint, Responder
from xiaozhi.ai.http.ota import ActivationEndpoint, OtaEndpoint
from xiaozhi.ai.http.posts import PostEndpoint
from xiaozhi.ai.http.registration import OpenRegistrar, Registrar
from xiaozhi.ai.http.settings import HttpSettings
from xiaozhi.ai.http.vision import VisionEndpoint, VisionOffer
from xiaozhi.ai.http.visitors import Visitors
from xiaozhi.interfaces import IDeviceTokens, IVisionModel
from xiaozhi.metrics.instruments import Tally
from xiaozhi.metrics.page import CONTENT_TYPE, Metrics
from xiaozhi.web.insiders import Insiders
from xiaozhi.web.origins import Origins
from xiaozhi.web.posting import PREFIX, Posting

_log = Logger()

Health = Callable[[], Mapping[str, Any]]


class HealthEndpoint(Endpoint):
    """``GET /health``: 503 if ``status`` is ``unhealthy``, otherwise 200. Strangers
    read the status alone."""

    def __init__(self, health: Health, insiders: Insiders) -> None:
        super().__init__(body_limit=0)
        self._health = health
        self._insiders = insiders

    def responders(self) -> dict[bytes, Responder]:
        """See :class:`Endpoint`."""
        return {b"GET": self._get}

    async def _get(self, request: Request) -> HttpAnswer:
        health = self._health()
        visible = self._insiders.visible(request, health)
        return json_answer(visible, 503 if health.get("status") == "unhealthy" else 200)


class MetricsEndpoint(Endpoint):
    """``GET /metrics``, for Prometheus."""

    def __init__(self, metrics: Metrics) -> None:
        super().__init__(body_limit=0)
        self._metrics = metrics

    def responders(self) -> dict[bytes, Responder]:
        """See :class:`Endpoint`."""
        return {b"GET": self._get}

    async def _get(self, request: Request) -> HttpAnswer:
        return HttpAnswer(200, self._metrics.text(), CONTENT_TYPE)


class Missing(Endpoint):
    """Any other path: 404 in JSON."""

    def responders(self) -> dict[bytes, Responder]:
        """See :class:`Endpoint`."""
        return {b"GET": self._answer, b"POST": self._answer}

    async def _answer(self, request: Request) -> HttpAnswer:
        return failure("not_found", "there is nothing at this path", 404)


class DeviceSite(Site):
    """Finds the endpoint of a path, with or without slashes at its end.

    :param endpoints: by path, e.g. ``/api/ota``.
    :param folders: for all paths below one, e.g. ``/api/devices``.
    :ivar origins: web pages that may read answers.
    :ivar held: bytes of request bodies in memory; at most ``max_held``, beyond
        that requests are answered 503.
    :ivar connections: open now; further than ``max_connections`` are closed.
    :ivar lingering: connections kept so that the client closes first.
    :ivar visitors: who asks, by address.
    :ivar requests: answered, by path and status.
    """

    _log = Logger()

    protocol = DeviceChannel  # type: ignore[assignment]  # without HTTP/2
    requestFactory = DeviceRequest

    def __init__(
        self,
        endpoints: Mapping[str, Endpoint],
        settings: HttpSettings,
        reactor: IReactorTime,
        folders: Mapping[str, Endpoint] | None = None,
        requests: Tally | None = None,
    ) -> None:
        self.requests = Tally() if requests is None else requests
        self.settings = settings
        self.origins = Origins(settings.origins)
        self.visitors = Visitors(settings, reactor)
        self.held = 0
        self.connections = 0
        self.lingering = 0
        self._endpoints = {path.rstrip("/").encode(): each for path, each in endpoints.items()}
        self._folders = {f"{path}/".encode(): each for path, each in (folders or {}).items()}
        self._missing = Missing(settings.max_body)
        # The channel has a deadline of its own, which a trickle does not put off.
        super().__init__(self._missing, timeout=None, reactor=reactor)

    def endpoint(self, path: bytes) -> Endpoint:
        """What stands at a path."""
        found = self._endpoints.get(path.rstrip(b"/"))
        if found is None:
            within = (each for top, each in self._folders.items() if path.startswith(top))
            found = next(within, self._missing)
        return found

    def getResourceFor(self, request: Request) -> Endpoint:
        """See ``Site``."""
        request.site = self
        return self.endpoint(request.path)

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """See ``IProtocolFactory``. None, which closes, at the limit."""
        host = str(getattr(addr, "host", ""))
        if self.connections >= self.settings.max_connections:
            self.visitors.refuse("too_many_connections", 0, host)
            return None
        key = self.visitors.arrive(host)
        if key is None:
            return None
        channel: Any = super().buildProtocol(addr)
        channel.counted_as = key
        return channel

    def hold(self, size: int) -> bool:
        """Account for bytes of a body; False if they do not fit."""
        if self.held + size > self.settings.max_held:
            return False
        self.held += size
        return True

    def release(self, size: int) -> None:
        """Take :meth:`hold` back."""
        self.held -= size

    def startFactory(self) -> None:
        """No log file and no ticking clock for its time stamps: see :meth:`log`."""

    def stopFactory(self) -> None:
        """Tell what was not told yet."""
        self.visitors.stop()

    def acceptableProtocols(self) -> list[bytes]:
        """Devices speak HTTP/1.1 only."""
        return [b"http/1.1"]

    def log(self, request: http.Request) -> None:
        """The access log; never a query, which may hold a token."""
        path = request.path.rstrip(b"/")
        page = path.decode() if path in self._endpoints else "other"
        self.requests.add(page, str(request.code))
        if page == "/metrics":
            return  # asked every few seconds, by a machine
        self.visitors.log(
            page,
            request.code,
            method=_plain(request.method, 16),
            path=_plain(request.path, 120),
            size=request.sentLength,
            peer=getattr(request.client, "host", "-"),
            agent=_plain(request.requestHeaders.getRawHeaders(b"User-Agent", [b"-"])[0], 80),
        )


def make_site(
    settings: HttpSettings,
    tokens: IDeviceTokens,
    model: Callable[[], IVisionModel | None],
    health: Health,
    posting: Posting,
    insiders: Insiders,
    reactor: Any,
    requests: Tally | None = None,
    metrics: Metrics | None = None,
    registrar: Registrar | None = None,
) -> tuple[DeviceSite, VisionOffer]:
    """Put the whole site together.

    :param model: gives the vision model in use, None if there is none.
    :param posting: what is posted to devices goes to it.
    :param insiders: may read the details of health.
    :param reactor: clock and TCP.
    :param requests: where requests are counted.
    :param metrics: what ``/metrics`` shows; None: there is no such page here.
    :param registrar: whose device ids are; None: whoever asks gets one.
    :return: the site, and what tells sessions where their device uploads pictures.
    :raises ConfigError: an address that devices could not read.
    """
    registrar = registrar or OpenRegistrar()
    offer = VisionOffer(settings.vision, tokens, settings.listen.port)
    if not settings.vision.url and (
        settings.ota.trust_proxy or settings.ota.websocket_url.startswith("wss:")
    ):
        _log.warn(
            "http.vision.url is empty: devices are told to upload photos by plain HTTP to port"
            " {port} of the host their WebSocket is at; set it to the proxy's address",
            port=settings.listen.port,
        )
    check = EdgeCheck(reactor, settings.ota.edge_check) if settings.ota.edge_check else None
    ota = OtaEndpoint(settings.ota, tokens, registrar, reactor, settings.max_body, check)
    activation = ActivationEndpoint(registrar, settings.max_body)
    vision = VisionEndpoint(settings.vision, tokens, model, reactor)
    endpoints: dict[str, Endpoint] = {
        "/api/ota": ota,
        "/xiaozhi/ota": ota,
        "/api/ota/activate": activation,
        "/xiaozhi/ota/activate": activation,
        "/api/vision": vision,
        "/mcp/vision/explain": vision,
        "/health": HealthEndpoint(health, insiders),
    }
    if metrics is not None:
        endpoints["/metrics"] = MetricsEndpoint(metrics)
    folders = {PREFIX: PostEndpoint(posting)}
    return DeviceSite(endpoints, settings, reactor, folders, requests), offer


def _plain(value: bytes, longest: int) -> str:
    """Printable ASCII, so that no request can forge a line of the log."""
    text = value[:longest].decode("latin-1")
    return "".join(c if " " < c <= "~" else "?" for c in text)
