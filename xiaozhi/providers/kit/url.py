"""A vendor's address as written in a configuration."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from xiaozhi.base.errors import ConfigError
from xiaozhi.runtime.connecting import ascii_host

_PORTS = {"http": 80, "https": 443}
# Endpoints in vendors' documentation, which people enter instead of the base.
_ENDPOINTS = re.compile(
    r"/(?:chat/completions|completions|responses|models|embeddings"
    r"|audio/(?:speech|transcriptions|translations))/*$",
    re.IGNORECASE,
)
_PATH_SAFE = "/:@!$&'()*+,;=-._~%"
_QUERY_SAFE = _PATH_SAFE + "?"


@dataclass(frozen=True, slots=True)
class VendorUrl:
    """A parsed base URL, without the endpoint that people append to it.

    :ivar root: scheme, host and port, ready for a request.
    :ivar path: up to and including the version, without a slash at the end.
    :ivar query: sent with each request, e.g. ``?api-version=2024-10-21``; or empty.
    :ivar user: and ``password``: for Basic authentication; or empty.
    """

    root: str
    path: str = ""
    query: str = ""
    user: str = ""
    password: str = ""

    @classmethod
    def parse(cls, text: str, key: str = "base_url") -> VendorUrl:
        """Parse a configured URL.

        Surrounding blanks, trailing slashes, an endpoint such as ``/chat/completions`` and the
        scheme's case are ignored.

        :param key: names the setting in errors.
        :raises ConfigError: not an address; never quotes the text, which may contain a password.
        """
        text = text.strip()
        if re.search(r"[\x00-\x20\x7f\\<>\"{}|^`]|\s", text):
            raise ConfigError(f"{key}: has a blank or another character that is not valid in a URL")
        if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text):
            raise ConfigError(f"{key}: must begin with http:// or https://")
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            raise ConfigError(f"{key}: has no valid host and port") from None
        if parts.scheme not in _PORTS:
            raise ConfigError(f"{key}: must begin with http:// or https://")
        if parts.hostname in _PORTS:
            raise ConfigError(f"{key}: has http:// twice")
        if port == 0:
            raise ConfigError(f"{key}: the port must be between 1 and 65535")
        if parts.fragment:
            raise ConfigError(f"{key}: must have no fragment (#…)")
        try:
            host = ascii_host(_host(parts.netloc))
        except ValueError as problem:
            raise ConfigError(f"{key}: {problem}") from None
        shown = f"[{host}]" if ":" in host else host
        if port is not None and port != _PORTS[parts.scheme]:
            shown += f":{port}"
        path = _ENDPOINTS.sub("", parts.path.rstrip("/")).rstrip("/")
        query = f"?{quote(parts.query, safe=_QUERY_SAFE)}" if parts.query else ""
        return cls(
            f"{parts.scheme}://{shown}",
            quote(path, safe=_PATH_SAFE),
            query,
            unquote(parts.username or ""),
            unquote(parts.password or ""),
        )

    @property
    def place(self) -> str:
        """The name in logs: without query and password."""
        return self.root + self.path

    def to(self, path: str) -> bytes:
        """Return the URL of an endpoint.

        :param path: below the base, e.g. ``/chat/completions``.
        """
        return f"{self.root}{self.path}{path}{self.query}".encode("ascii")


def _host(netloc: str) -> str:
    """Return the host of an authority, in brackets if it is written so."""
    host = netloc.rpartition("@")[2]
    if not host.startswith("["):
        return host.partition(":")[0]
    inside, bracket, port = host.partition("]")
    return inside + bracket if not port or port.startswith(":") else host
