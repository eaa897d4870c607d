"""Replies of handlers, and the JSON form of errors.

A reply is a value; :mod:`xiaozhi.web.exchange` sends it. Devices need ``Content-Length``, no
chunks, no redirects and less than 6 KB (protocol notes, §6): send them a :class:`Reply`, never
a :class:`StreamReply`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import msgspec

from xiaozhi.base.errors import AuthError, BridgeError, ProviderError, StoreError, XiaozhiError

JSON = "application/json"
#: Code of an error of ours, status 500.
INTERNAL = "internal"
_LONGEST_MESSAGE = 500


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete reply.

    :ivar headers: further headers; ``Cache-Control`` is ``no-store`` by default.
    """

    status: int
    body: bytes = b""
    content_type: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StreamReply:
    """A reply whose body is produced while it is sent, for files and event streams.

    The site requests the next chunk when the connection accepts more, and closes the iterator
    when the client disconnects.

    :ivar length: total bytes; None: unknown, so the body is sent in chunks.
    """

    status: int
    chunks: AsyncIterator[bytes]
    content_type: str
    length: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class HttpError(XiaozhiError):
    """A request that cannot be served, with its status.

    :ivar headers: further headers, such as ``Allow`` or ``Retry-After``.
    """

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(code, message)
        self.status = status
        self.headers = headers or {}


_STATUSES: tuple[tuple[type[XiaozhiError], int], ...] = (
    (StoreError, 503),
    (BridgeError, 503),
    (ProviderError, 502),
)


def status_of(error: XiaozhiError) -> int:
    """Return the HTTP status of an error: its own, else that of its kind, else 400."""
    if isinstance(error, (AuthError, HttpError)):
        return error.status
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 400)


def error_body(code: str, message: str) -> bytes:
    """Render the one JSON form of errors.

    Devices forward it to the language model, which looks for ``success`` (protocol notes, §6).
    ``code`` is the former name of ``error`` in replies to devices, kept for one version.
    """
    members = {"success": False, "error": code, "message": message, "code": code}
    return msgspec.json.encode(members)


def error_reply(error: XiaozhiError) -> Reply:
    """Return an error as a reply, with its status."""
    status = status_of(error)
    headers = dict(error.headers) if isinstance(error, HttpError) else {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    body = error_body(error.code, error.message[:_LONGEST_MESSAGE])
    return Reply(status, body, JSON, headers)


def json_reply(value: Any, status: int = 200) -> Reply:
    """Return a JSON reply.

    :param value: anything that ``msgspec`` can encode.
    """
    return Reply(status, msgspec.json.encode(value), JSON)


def text_reply(text: str, status: int = 200) -> Reply:
    """Return a plain text for people."""
    return Reply(status, text.encode(), "text/plain; charset=utf-8")


def closing(reply: Reply) -> bytes:
    """Render a reply that closes its connection, for a request that could not be read."""
    head = (
        f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}\r\n"
        f"Content-Type: {reply.content_type}\r\n"
        f"Content-Length: {len(reply.body)}\r\n"
        "Cache-Control: no-store\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + reply.body
