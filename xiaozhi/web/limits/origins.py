"""Origins of the web pages that may use a service.

Devices and programs send no ``Origin`` and are not affected. A browser sends the origin of its
page with every WebSocket upgrade and every cross-origin request (RFC 6454, RFC 6455 §10.2),
and a page cannot change it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_HOST = re.compile(r"\[[0-9a-f:.]+\]|[a-z0-9_]([a-z0-9._-]*[a-z0-9_.-])?")
_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_ANY, _NULL = "*", "null"


class Origins:
    """A list of allowed origins; empty: none.

    :param given: ``scheme://host[:port]``, ``null`` (pages from files and sandboxes), or
        ``*`` for any. Case, default ports and a trailing slash are ignored.
    :raises ValueError: no browser would send an entry.
    """

    def __init__(self, given: Iterable[str]) -> None:
        self._allowed = frozenset(_entry(each) for each in given)
        self._any = _ANY in self._allowed

    def allows(self, origin: str | None) -> bool:
        """Return whether a request with this header may be served; None: without the header."""
        if origin is None or self._any:
            return True
        try:
            return _normal(origin) in self._allowed
        except ValueError:
            return False

    def headers(self, origin: str | None) -> dict[str, str]:
        """Return the CORS headers of a reply; empty: the page may not read it."""
        if origin is None or not self.allows(origin):
            return {}
        return {
            "Access-Control-Allow-Origin": _ANY if self._any else origin.strip(),
            "Access-Control-Allow-Headers": "client-id, content-type, device-id, authorization",
            "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
            "Access-Control-Max-Age": "86400",
            "Vary": "Origin",
        }


def _entry(text: str) -> str:
    if text.strip() == _ANY:
        return _ANY
    try:
        return _normal(text)
    except ValueError as error:
        raise ValueError(
            f"origins: {text!r} {error}; write http://host:port of the page, null or *"
        ) from None


def _normal(text: str) -> str:
    """Normalise an origin.

    :raises ValueError: the text is not an origin.
    """
    text = text.strip()
    if text.lower() == _NULL or text.lower().startswith("file:"):
        # Browsers send one or the other for a page from a file.
        return _NULL
    if not text.isprintable() or "://" not in text:
        raise ValueError("is not an origin")
    parts = urlsplit(text)
    if parts.path not in ("", "/") or parts.query or parts.fragment or text[-1] in "?#":
        raise ValueError("has more than scheme, host and port")
    host, port = _address(parts.netloc)
    if not _SCHEME.fullmatch(parts.scheme) or not _HOST.fullmatch(host):
        raise ValueError("is not an origin")
    if port is not None and port != _DEFAULT_PORTS.get(parts.scheme):
        host = f"{host}:{port}"
    return f"{parts.scheme}://{host}"


def _address(netloc: str) -> tuple[str, int | None]:
    host, colon, port = netloc.rpartition(":")
    if not colon or netloc.endswith("]"):
        host, port = netloc, ""
    elif not (port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 65_536):
        raise ValueError("has an invalid port")
    if not host.isascii():
        # Browsers send the ASCII form.
        host = host.encode("idna").decode()
    return host.lower(), int(port) if port else None
