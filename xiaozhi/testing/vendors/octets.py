"""Bytes of scripted vendors: HTTP heads and bodies, events, WebSocket frames.

Each function returns bytes or steps, so that a test can also write them by hand.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import Any

CRLF = b"\r\n"
DONE = b"data: [DONE]\n\n"
CHUNKS_END = b"0\r\n\r\n"
# RFC 6455, 1.3.
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def head(
    media_type: str | None = "text/event-stream",
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """Return status line and headers.

    :param media_type: None for an answer without ``Content-Type``.
    :param headers: further headers; names are written as given.
    """
    lines = [f"HTTP/1.1 {status} X"]
    if media_type is not None:
        lines.append(f"Content-Type: {media_type}")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode("latin-1") + CRLF + CRLF


def chunk(data: bytes) -> bytes:
    """Return one chunk of a chunked body; nothing for no data, which would end the body."""
    return b"%X\r\n" % len(data) + data + CRLF if data else b""


def stream(
    *pieces: bytes,
    media_type: str | None = "text/event-stream",
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    pause: float = 0.0,
) -> list[bytes | float]:
    """Return a whole chunked answer as steps, each piece in a write of its own.

    :param pause: seconds before each piece.
    """
    first = head(media_type, status, {"Transfer-Encoding": "chunked", **(headers or {})})
    steps: list[bytes | float] = [first]
    for piece in pieces:
        steps += [pause, chunk(piece)] if pause else [chunk(piece)]
    return [*steps, CHUNKS_END]


def whole(
    body: bytes | dict[str, Any] | list[Any],
    media_type: str | None = "application/json",
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> list[bytes]:
    """Return a whole answer with ``Content-Length`` as steps; objects become JSON."""
    if not isinstance(body, bytes):
        body = json.dumps(body, ensure_ascii=False).encode()
    first = head(media_type, status, {"Content-Length": str(len(body)), **(headers or {})})
    return [first, body] if body else [first]


def until_close(body: bytes, media_type: str | None = None, status: int = 200) -> bytes:
    """Return an answer that ends with the connection; a ``HANG_UP`` must follow."""
    return head(media_type, status, {"Connection": "close"}) + body


def event(data: Any, end: bytes = b"\n\n", field: bytes = b"data: ") -> bytes:
    """Return a server-sent event; objects become JSON, bytes and texts are not changed."""
    if not isinstance(data, str | bytes):
        data = json.dumps(data, ensure_ascii=False)
    sent: bytes = data.encode() if isinstance(data, str) else data
    return field + sent + end


def pieces(data: bytes, size: int) -> list[bytes]:
    """Cut data into pieces of so many bytes."""
    return [data[at : at + size] for at in range(0, len(data), size)]


def choice(delta: dict[str, Any] | None = None, finish: Any = None, **more: Any) -> dict[str, Any]:
    """Return the JSON of one chat completion chunk.

    :param more: members of the choice, such as ``message``.
    """
    one = {"index": 0, "delta": {} if delta is None else delta, "finish_reason": finish, **more}
    return {"object": "chat.completion.chunk", "choices": [one]}


class Opcode(IntEnum):
    """Kinds of WebSocket frames."""

    MORE = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


def accept_head(key: str, headers: Mapping[str, str] | None = None) -> bytes:
    """Return the answer to a WebSocket handshake with this ``Sec-WebSocket-Key``."""
    proof = base64.b64encode(
        hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()
    ).decode()
    told = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": proof}
    return head(None, 101, told | dict(headers or {}))


def frame(
    payload: bytes | str | dict[str, Any], opcode: Opcode | None = None, final: bool = True
) -> bytes:
    """Return a server's frame. By default texts and objects are text frames, bytes binary ones."""
    if isinstance(payload, dict):
        payload = json.dumps(payload, ensure_ascii=False)
    if opcode is None:
        opcode = Opcode.BINARY if isinstance(payload, bytes) else Opcode.TEXT
    data = payload if isinstance(payload, bytes) else payload.encode()
    first = bytes([(0x80 if final else 0) | opcode])
    size = len(data)
    if size < 126:
        return first + bytes([size]) + data
    if size < 1 << 16:
        return first + bytes([126]) + size.to_bytes(2) + data
    return first + bytes([127]) + size.to_bytes(8) + data


def close_frame(code: int | None = 1000, reason: str = "") -> bytes:
    """Return a server's close; None: without a code."""
    payload = b"" if code is None else code.to_bytes(2) + reason.encode()
    return frame(payload, Opcode.CLOSE)


class FrameReader:
    """Assembles a client's frames: (kind, payload) of whole messages and control frames."""

    def __init__(self) -> None:
        self._data = b""
        self._kind = Opcode.MORE
        self._parts = b""

    def feed(self, data: bytes) -> Iterator[tuple[Opcode, bytes]]:
        """Read bytes. :return: the messages that they complete."""
        self._data += data
        while (read := self._read()) is not None:
            final, opcode, payload = read
            if opcode >= Opcode.CLOSE:
                yield opcode, payload
                continue
            if opcode is not Opcode.MORE:
                self._kind, self._parts = opcode, b""
            self._parts += payload
            if final:
                yield self._kind, self._parts

    def _read(self) -> tuple[bool, Opcode, bytes] | None:
        data = self._data
        if len(data) < 2:
            return None
        size, at = data[1] & 0x7F, 2
        if size >= 126:
            wide = 2 if size == 126 else 8
            size, at = int.from_bytes(data[2 : 2 + wide]), 2 + wide
        mask = b""
        if data[1] & 0x80:
            mask, at = data[at : at + 4], at + 4
        if len(data) < at + size:
            return None
        payload = data[at : at + size]
        self._data = data[at + size :]
        if mask:
            key = (mask * (size // 4 + 1))[:size]
            payload = (int.from_bytes(payload) ^ int.from_bytes(key)).to_bytes(size)
        return bool(data[0] & 0x80), Opcode(data[0] & 0x0F), payload
