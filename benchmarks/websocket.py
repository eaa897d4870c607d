"""A minimal WebSocket client, to keep the load generator cheap.

It sends prepared frames and reads complete, unmasked, unfragmented frames, the only
kind that both servers send.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

_MASK = b"\x37\xfa\x21\x3d"
_TEXT, _BINARY = 1, 2


def masked(opcode: int, payload: bytes) -> bytes:
    """Make a client's frame of up to 65535 bytes."""
    size = len(payload)
    head = bytes((0x80 | opcode,))
    if size < 126:
        head += bytes((0x80 | size,))
    else:
        head += b"\xfe" + size.to_bytes(2, "big")
    mask = _MASK * (size // 4 + 1)
    return head + _MASK + bytes(a ^ b for a, b in zip(payload, mask, strict=False))


def text_frame(text: str) -> bytes:
    return masked(_TEXT, text.encode())


def binary_frame(payload: bytes) -> bytes:
    return masked(_BINARY, payload)


class Socket(Protocol):
    """One connection.

    :param request: the upgrade request.
    :param on_text: receives texts, as ``on_binary`` receives packets; replaceable.
    :param on_end: receives the reason when the connection fails or ends, at most once.
    """

    transport: Any

    def __init__(
        self,
        request: bytes,
        on_open: Callable[[], None],
        on_text: Callable[[bytes], None],
        on_binary: Callable[[bytes], None],
        on_end: Callable[[str], None],
    ) -> None:
        self._request = request
        self._rest = b""
        self._is_open = False
        self._on_open = on_open
        self.on_text = on_text
        self.on_binary = on_binary
        self._on_end: Callable[[str], None] | None = on_end

    def send(self, frames: bytes) -> None:
        """Send whole frames."""
        self.transport.write(frames)

    def drop(self) -> None:
        self._on_end = None
        if self.transport is not None:
            self.transport.abortConnection()

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self.transport.write(self._request)

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._ended("the server closed the connection")

    def dataReceived(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        if not self._is_open:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self._rest = head
                return
            self._rest = b""
            if b" 101 " not in head.partition(b"\r\n")[0]:
                self._ended(f"refused: {(head + end + data)[:300]!r}")
                return
            self._is_open = True
            self._on_open()
        self._frames(data)

    def _frames(self, data: bytes) -> None:
        at, size = 0, len(data)
        while size - at >= 2:
            start, length = at + 2, data[at + 1]
            if length == 126:
                start, length = at + 4, int.from_bytes(data[at + 2 : at + 4], "big")
            if size < start + length:
                break
            payload = data[start : start + length]
            opcode = data[at] & 15
            if opcode == _BINARY:
                self.on_binary(payload)
            elif opcode == _TEXT:
                self.on_text(payload)
            elif opcode == 8:
                self._ended(f"closed: {payload!r}")
            at = start + length
        self._rest = data[at:]

    def _ended(self, why: str) -> None:
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(why)
