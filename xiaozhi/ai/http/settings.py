"""Settings of the AI service's HTTP. Times in seconds, sizes in bytes."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Annotated, Literal

from msgspec import Meta, Struct

from xiaozhi.web.limits.origins import Origins

Port = Annotated[int, Meta(ge=1, le=65535)]
Seconds = Annotated[float, Meta(gt=0, le=3600)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Size = Annotated[int, Meta(ge=1024, le=1 << 30)]


class OtaSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The configuration that a device receives when it boots (§7).

    :ivar websocket_url: ``ws://`` or ``wss://``; empty: the host of the device's request, with
        ``edge_port`` and ``edge_path``.
    :ivar edge_port: port of the edge.
    :ivar edge_path: WebSocket path of the edge.
    :ivar trust_proxy: believe ``X-Forwarded-Proto``, ``-Host`` and ``-Port``; only behind a
        proxy that sets them.
    :ivar framing: binary framing that devices must use (§3.1).
    :ivar token_ttl: lifetime of a device's token.
    :ivar timezone_offset: minutes east of UTC; absent: the machine's.
    :ivar registration: who may register a device id without an owner. ``open``: the first
        client that requests it; ``approve``: a client that a person approves; ``list``: as
        ``open``, for the ids in ``listed``; ``closed``: nobody. Known devices are not affected.
    :ivar listed: device ids that may register with ``list``.
    :ivar edge_check: URL that the diagnosis page requests to check the edge; empty: none.
    """

    websocket_url: str = ""
    edge_port: Port = 8000
    edge_path: Annotated[str, Meta(pattern=r"^/[A-Za-z0-9/._~-]*$")] = "/xiaozhi/v1/"
    trust_proxy: bool = False
    framing: Literal[1, 2, 3] = 1
    token_ttl: Annotated[float, Meta(ge=60, le=3_153_600_000)] = 2592000.0
    timezone_offset: Annotated[int, Meta(ge=-840, le=840)] | None = None
    registration: Literal["open", "approve", "list", "closed"] = "open"
    listed: tuple[str, ...] = ()
    edge_check: str = "http://127.0.0.1:8000/alive"


class VisionHttpSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Photos that devices upload with a question (§6).

    :ivar url: the address for devices; empty: the host of their own WebSocket, with our
        port. Behind a proxy it must be set.
    :ivar token_ttl: lifetime of the upload token; as long as a connection may last.
    :ivar max_bytes: maximum size of a request.
    :ivar max_pixels: maximum width × height, read from the picture's header.
    :ivar max_question: maximum characters; the rest is cut off.
    :ivar timeout: timeout of the model; a device waits 30 s and cannot listen meanwhile.
    :ivar concurrent: maximum pictures in progress; more are answered as busy.
    """

    url: str = ""
    token_ttl: Annotated[float, Meta(ge=60, le=3_153_600_000)] = 86400.0
    max_bytes: Size = 5 * 1024 * 1024
    max_pixels: Annotated[int, Meta(ge=1, le=1 << 30)] = 40_000_000
    max_question: Count = 2000
    timeout: Annotated[float, Meta(gt=0, lt=30)] = 25.0
    concurrent: Count = 16


class HttpListenSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The address at which devices request their configuration and upload pictures.

    :ivar port: 0: any free port.
    """

    host: str = "0.0.0.0"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8080


class HttpSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The section ``http``.

    :ivar head_timeout: time for a request's head, from the connection or its first byte;
        slower clients are answered 408 or dropped.
    :ivar request_time: time from a request's head to the end of its body, and between two
        requests of a connection; slower clients are dropped.
    :ivar max_body: maximum body of requests other than pictures.
    :ivar max_held: maximum bytes of all request bodies in memory; beyond that, requests are
        answered 503.
    :ivar max_connections: maximum connections; further ones are closed at once.
    :ivar origins: ``Origin`` of web pages that may read answers; devices send none: see
        :class:`~xiaozhi.web.limits.origins.Origins`.
    :ivar max_per_address: maximum connections from one address (IPv6: one network), which may
        be a whole building's; further ones are closed at once.
    :ivar max_waiting_per_address: how many of these may not have sent a head yet.
    :ivar address_rate: sustained requests per second from one address; more are answered 429
        with ``Retry-After``.
    :ivar address_burst: requests from one address that may come at once.
    :ivar max_per_site: as ``max_per_address``, for a whole IPv6 /48.
    :ivar max_waiting_per_site: as ``max_waiting_per_address``, for a whole IPv6 /48.
    :ivar site_rate: as ``address_rate``, for a whole IPv6 /48.
    :ivar site_burst: as ``address_burst``, for a whole IPv6 /48.
    :ivar trusted_proxies: networks whose ``X-Forwarded-For`` is trusted; they are not limited
        themselves.
    :ivar unlimited: networks without limits.
    :ivar trust_loopback: whether requests from this machine that did not pass a proxy may read
        the details of ``/health``; False: only with the management token.
    :ivar log_interval: refusals of one kind, and requests beyond a few per second, are logged
        in one line for this long after the first.
    :ivar linger: time for a client that sent ``Connection: close`` to close first (§13); 0: we
        close.
    :ivar max_lingering: maximum connections that linger; beyond that, we close.
    """

    listen: HttpListenSettings = HttpListenSettings()
    ota: OtaSettings = OtaSettings()
    vision: VisionHttpSettings = VisionHttpSettings()
    request_time: Seconds = 60.0
    max_body: Size = 64 * 1024
    max_held: Size = 64 * 1024 * 1024
    max_connections: Count = 1000
    origins: tuple[str, ...] = ()
    head_timeout: Seconds = 10.0
    max_per_address: Count = 500
    max_waiting_per_address: Count = 200
    address_rate: Annotated[float, Meta(ge=0.001, le=1_000_000)] = 50.0
    address_burst: Count = 1000
    max_per_site: Count = 800
    max_waiting_per_site: Count = 300
    site_rate: Annotated[float, Meta(ge=0.001, le=1_000_000)] = 100.0
    site_burst: Count = 2000
    trusted_proxies: tuple[str, ...] = ()
    unlimited: tuple[str, ...] = ("127.0.0.0/8", "::1")
    trust_loopback: bool = True
    log_interval: Seconds = 10.0
    linger: Annotated[float, Meta(ge=0, le=30)] = 2.0
    max_lingering: Count = 200

    def __post_init__(self) -> None:
        Origins(self.origins)  # raises a ValueError with a complete message
        for network in (*self.trusted_proxies, *self.unlimited):
            ip_network(network, strict=False)  # raises a ValueError with a complete message
