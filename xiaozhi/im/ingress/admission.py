"""Admission: reads the credentials in a device's upgrade request; refusals."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from xiaozhi.base.errors import AuthError
from xiaozhi.im.language.languages import preferred
from xiaozhi.web.replies import error_body

# Columns of the session log have 255 characters.
_LONGEST_ID = 255
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")

_DEVICE_KEYS = ("device-id", "device_id", "mac_address")
_CLIENT_KEYS = ("client-id", "client_id")
_TOKEN_KEYS = ("token", "authorization")


class Refusal(Exception):
    """Refusal of a connection before the 101 (§1.4).

    :ivar status: HTTP status.
    :ivar code: stable error code for clients and logs.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{message} [{code}]")
        self.status = status
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Credentials:
    """The identity that a connection claims.

    :ivar token: as sent, with or without ``Bearer``; never to be logged.
    :ivar framing: the ``Protocol-Version`` header; 0: none.
    :ivar host: host name by which the device reached us, without a port; empty: none, or an
        invalid one.
    :ivar language: preferred language, see :func:`~xiaozhi.im.language.languages.preferred`.
    """

    token: str | None
    device_id: str
    client_id: str
    framing: int
    host: str = ""
    language: str = ""

    def __repr__(self) -> str:
        return f"<Credentials of {self.device_id!r}>"


def credentials(headers: Mapping[str, str], query: Mapping[str, Sequence[str]]) -> Credentials:
    """Read headers, or the query for browsers, which cannot set headers (§1.4).

    :param headers: by lower-case name.
    :raises AuthError: 400, no usable device id.
    """
    asked = {key.lower(): values[0] for key, values in query.items() if values}
    device_id = _first(headers, asked, _DEVICE_KEYS)
    if not device_id:
        raise AuthError("no_device_id", "the Device-Id header is missing", 400)
    client_id = _first(headers, asked, _CLIENT_KEYS)
    for name, value in (("Device-Id", device_id), ("Client-Id", client_id)):
        if len(value) > _LONGEST_ID or not (value.isascii() and value.isprintable()):
            raise AuthError("bad_id", f"the {name} is too long or not printable ASCII", 400)
    token = headers.get("authorization", "").strip() or _among(asked, _TOKEN_KEYS)
    version = headers.get("protocol-version", "").strip()
    framing = int(version) if version.isascii() and version.isdigit() and len(version) < 5 else 0
    # Firmware omits the port, other clients do not (§1.2).
    host = headers.get("host", "").strip().partition(":")[0]
    host = host if _HOST.fullmatch(host) else ""
    language = preferred(headers.get("accept-language", ""))
    return Credentials(token or None, device_id, client_id, framing, host, language)


def _first(headers: Mapping[str, str], asked: Mapping[str, str], keys: Sequence[str]) -> str:
    return headers.get(keys[0], "").strip() or _among(asked, keys)


def _among(asked: Mapping[str, str], keys: Iterable[str]) -> str:
    return next((asked[key].strip() for key in keys if asked.get(key, "").strip()), "")


def http_error(status: int, code: str, message: str, *headers: tuple[str, str]) -> bytes:
    """Render a complete HTTP/1.1 response that closes the connection."""
    body = error_body(code, message)
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in headers),
        "",
        "",
    ]
    return "\r\n".join(lines).encode("latin-1") + body
