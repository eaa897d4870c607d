"""The addresses devices are told: where the edge is, and where pictures go.

A device's parser takes the first ``:`` after ``://`` for the port (§1.2), so an
address has an explicit port, a path, and no other colon.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from twisted.internet.address import IPv4Address
from twisted.web.server import Request

from xiaozhi.ai.http.headers import header
from xiaozhi.ai.http.settings import OtaSettings
from xiaozhi.base.errors import ConfigError, ProtocolError

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_PORTS = {"ws": 80, "wss": 443, "http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Asked:
    """How a client reached us.

    :ivar host: without port.
    :ivar port: None: the client did not say; firmware leaves it out (§1.2).
    :ivar secure: by TLS, at a proxy that is trusted.
    :ivar proxied: a trusted proxy spoke.
    """

    host: str
    port: int | None
    secure: bool = False
    proxied: bool = False


def device_url(url: str, key: str, schemes: tuple[str, str], path: str = "/") -> str:
    """An address as every device can read it, with its port.

    :param path: for an address that has none.
    :raises ConfigError: naming ``key`` and what devices would stumble over.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigError(f"{key}: the port is not a number between 1 and 65535") from None
    if parts.scheme not in schemes:
        raise ConfigError(f"{key}: must begin with {schemes[0]}:// or {schemes[1]}://")
    host = parts.hostname or ""
    if not _HOST.fullmatch(host) or parts.username is not None or port == 0:
        raise ConfigError(f"{key}: needs a host name or an IPv4 address, and no user name")
    rest = parts._replace(scheme="", netloc="", fragment="").geturl()
    rest = rest if parts.path else path + rest
    if ":" in rest or parts.fragment or not rest.isascii():
        raise ConfigError(f"{key}: devices misread a ':', '#' or non-ASCII character in a path")
    return f"{parts.scheme}://{host}:{port or _PORTS[parts.scheme]}{rest}"


def asked(request: Request, trust_proxy: bool) -> Asked:
    """By which name the client knows this service.

    :raises ProtocolError: ``bad_host``: it gave none that a device could use.
    """
    forwarded = header(request, "X-Forwarded-Host") if trust_proxy else ""
    named = _split_host(forwarded or header(request, "Host"))
    if named is None:
        local = request.getHost()
        if not isinstance(local, IPv4Address):
            raise ProtocolError("bad_host", "the Host header names no host a device could reach")
        named = (local.host, None)
    host, port = named
    if not trust_proxy:
        return Asked(host, port)
    scheme, outer = header(request, "X-Forwarded-Proto"), header(request, "X-Forwarded-Port")
    if port is None and outer.isascii() and outer.isdigit() and 0 < int(outer[:6]) < 65536:
        port = int(outer)
    return Asked(host, port, scheme.lower() == "https", bool(scheme or forwarded))


def edge_url(settings: OtaSettings, client: Asked) -> str:
    """Where the device finds the edge."""
    if settings.websocket_url:
        return device_url(
            settings.websocket_url, "http.ota.websocket_url", ("ws", "wss"), settings.edge_path
        )
    if client.secure:
        return f"wss://{client.host}:{client.port or 443}{settings.edge_path}"
    return f"ws://{client.host}:{settings.edge_port}{settings.edge_path}"


def service_url(request: Request, client: Asked, path: str) -> str:
    """Something of this service, as the client would reach it."""
    if client.proxied:
        scheme = "https" if client.secure else "http"
        return f"{scheme}://{client.host}:{client.port or _PORTS[scheme]}{path}"
    port = getattr(request.getHost(), "port", 80)
    return f"http://{client.host}:{client.port or port}{path}"


def _split_host(text: str) -> tuple[str, int | None] | None:
    """Host and port of a ``Host`` header, or None if devices could not use it."""
    host, colon, port = text.split(",")[0].strip().partition(":")
    if not _HOST.fullmatch(host):
        return None
    if not colon:
        return host, None
    if not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
        return None
    return host, int(port)
