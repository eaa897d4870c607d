"""Addresses for devices: the edge's, and the one for uploads of pictures.

A device's parser reads the first ``:`` after ``://`` as the port separator (§1.2), so an
address has an explicit port, a path and no other colon.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from xiaozhi.ai.http.settings import OtaSettings
from xiaozhi.base.errors import ConfigError, ProtocolError
from xiaozhi.web.request import WebRequest

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_IPV4 = re.compile(r"[0-9.]+")
_PORTS = {"ws": 80, "wss": 443, "http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class ServiceAddress:
    """The address at which a client reached this service.

    :ivar host: host without port.
    :ivar port: None: the client sent none; firmware omits it (§1.2).
    :ivar secure: whether the client used TLS to a trusted proxy.
    :ivar proxied: whether a trusted proxy forwarded the request.
    """

    host: str
    port: int | None
    secure: bool = False
    proxied: bool = False


def device_url(url: str, key: str, schemes: tuple[str, str], path: str = "/") -> str:
    """Normalise an address to a form that every device can parse, with its port.

    :param key: the setting, for errors.
    :param path: default path.
    :raises ConfigError: devices cannot use the address; the message names ``key``.
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


def service_address(request: WebRequest, trust_proxy: bool) -> ServiceAddress:
    """Return the address at which the client reached this service.

    :raises ProtocolError: ``bad_host``: the request names no host that a device can use.
    """
    forwarded = request.header("X-Forwarded-Host") if trust_proxy else ""
    named = _split_host(forwarded or request.header("Host"))
    if named is None:
        if not _IPV4.fullmatch(request.server):
            raise ProtocolError("bad_host", "the Host header names no host a device could reach")
        named = (request.server, None)
    host, port = named
    if not trust_proxy:
        return ServiceAddress(host, port)
    scheme, outer = request.header("X-Forwarded-Proto"), request.header("X-Forwarded-Port")
    if port is None and outer.isascii() and outer.isdigit() and 0 < int(outer[:6]) < 65536:
        port = int(outer)
    return ServiceAddress(host, port, scheme.lower() == "https", bool(scheme or forwarded))


def edge_url(settings: OtaSettings, client: ServiceAddress) -> str:
    """Return the edge's WebSocket address for a device."""
    if settings.websocket_url:
        return device_url(
            settings.websocket_url, "http.ota.websocket_url", ("ws", "wss"), settings.edge_path
        )
    if client.secure:
        return f"wss://{client.host}:{client.port or 443}{settings.edge_path}"
    return f"ws://{client.host}:{settings.edge_port}{settings.edge_path}"


def service_url(request: WebRequest, client: ServiceAddress, path: str) -> str:
    """Return the address of a path of this service, as the client can reach it."""
    if client.proxied:
        scheme = "https" if client.secure else "http"
        return f"{scheme}://{client.host}:{client.port or _PORTS[scheme]}{path}"
    return f"http://{client.host}:{client.port or request.server_port or 80}{path}"


def _split_host(text: str) -> tuple[str, int | None] | None:
    """Split a ``Host`` header into host and port; None if devices cannot use it."""
    host, colon, port = text.split(",")[0].strip().partition(":")
    if not _HOST.fullmatch(host):
        return None
    if not colon:
        return host, None
    if not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
        return None
    return host, int(port)
