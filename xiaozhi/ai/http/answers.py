"""What a request is answered with, and how it goes out.

Devices need ``Content-Length``, no chunks, no redirects and less than 6 KB
(§6); pages in ``http.origins`` get the CORS headers (§7.4).
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec
from twisted.web.server import Request

from xiaozhi.base.errors import AuthError, XiaozhiError

#: Bytes of a body that a device reads safely; at about 8 KB it hangs for good.
DEVICE_BODY = 6000


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A whole answer.

    :ivar allow: with 405, the methods there are.
    :ivar retry_after: with 429, seconds; 0: not said.
    """

    status: int
    body: bytes
    content_type: str
    allow: str = ""
    retry_after: int = 0


def json_answer(value: Any, status: int = 200) -> HttpAnswer:
    """:param value: what ``msgspec`` can encode."""
    return HttpAnswer(status, msgspec.json.encode(value), "application/json; charset=utf-8")


def text_answer(text: str, status: int = 200) -> HttpAnswer:
    """Plain text for people."""
    return HttpAnswer(status, text.encode(), "text/plain; charset=utf-8")


def refusal(error: XiaozhiError, status: int = 400) -> HttpAnswer:
    """An error as JSON; an :class:`AuthError` brings its own status."""
    if isinstance(error, AuthError):
        status = error.status
    return failure(error.code, error.message, status)


def failure(code: str, message: str, status: int) -> HttpAnswer:
    """An error as JSON, in the form that readers of vision answers know."""
    return json_answer({"success": False, "code": code, "message": message[:500]}, status)


def whole(answer: HttpAnswer) -> bytes:
    """An answer as bytes that ends its connection, where no request could be read."""
    head = (
        f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\n"
        f"Content-Type: {answer.content_type}\r\n"
        f"Content-Length: {len(answer.body)}\r\n"
        "Cache-Control: no-store\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + answer.body


def deliver(request: Request, answer: HttpAnswer) -> None:
    """Send it, unless the client has gone."""
    if request._disconnected or request.finished:
        return
    request.setResponseCode(answer.status)
    headers = request.responseHeaders
    origin = request.getHeader(b"origin")
    page = None if origin is None else origin.decode("latin-1")
    channel: Any = request.channel
    for name, value in channel.site.origins.headers(page).items():
        headers.setRawHeaders(name, [value])
    headers.setRawHeaders("Cache-Control", ["no-store"])
    if answer.allow:
        headers.setRawHeaders("Allow", [answer.allow])
    if answer.retry_after:
        headers.setRawHeaders("Retry-After", [str(answer.retry_after)])
    if answer.status == 401:
        headers.setRawHeaders("WWW-Authenticate", ["Bearer"])
    if answer.status != 204:
        headers.setRawHeaders("Content-Type", [answer.content_type])
        headers.setRawHeaders("Content-Length", [str(len(answer.body))])
    request.write(answer.body)
    request.finish()
