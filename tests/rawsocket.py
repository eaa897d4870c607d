"""A raw WebSocket on a blocking socket.

Unlike a library, it sends exactly the given bytes, right or wrong.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame from the server."""

    opcode: int
    payload: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The content of a text frame."""
        assert self.opcode == TEXT, self
        content: dict[str, Any] = json.loads(self.payload)
        return content

    @property
    def close(self) -> tuple[int, str]:
        """Code and reason of a Close frame."""
        assert self.opcode == CLOSE, self
        return int.from_bytes(self.payload[:2], "big"), self.payload[2:].decode()


@dataclass(frozen=True, slots=True)
class Refused:
    """An HTTP answer other than 101."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def error(self) -> str:
        """The code in the JSON body."""
        assert self.headers["content-type"] == "application/json", self
        content = json.loads(self.body)
        assert set(content) == {"success", "error", "message", "code"}, self
        assert content["message"], self
        return str(content["error"])


def firmware_head(host: str, path: str, headers: Mapping[str, str]) -> bytes:
    """Return the firmware's request, with headers sorted by name (§1.2)."""
    fixed = {
        "Connection": "Upgrade",
        "Protocol-Version": "1",
        "Sec-WebSocket-Key": b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Version": "13",
        "Upgrade": "websocket",
    }
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in sorted({**fixed, **headers}.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class RawSocket:
    """One connection. Every wait ends after ``timeout`` seconds with TimeoutError.

    :ivar refused: the answer to the upgrade request if it was not 101.
    """

    def __init__(self, port: int, request: bytes, timeout: float = 10.0) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._timeout = timeout
        self._data = b""
        self._socket.sendall(request)
        self.refused = self._answer()

    def _answer(self) -> Refused | None:
        until = time.monotonic() + self._timeout
        while b"\r\n\r\n" not in self._data:
            self._fill(until)
        head, _, self._data = self._data.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        if status.startswith("HTTP/1.1 101"):
            return None
        headers = {name.lower(): value for name, value in (each.split(": ", 1) for each in lines)}
        while len(self._data) < int(headers["content-length"]):
            self._fill(until)
        body, self._data = self._data, b""
        return Refused(int(status.split()[1]), headers, body)

    def _fill(self, until: float) -> None:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError("nothing came")
        self._socket.settimeout(left)
        data = self._socket.recv(65536)
        if not data:
            raise EOFError("the server closed TCP")
        self._data += data

    def send(self, opcode: int, payload: bytes, times: int = 1) -> None:
        """Send one whole frame, masked; or the same one repeatedly, as fast as possible."""
        size = len(payload)
        if size < 126:
            head = struct.pack(">BB", 0x80 | opcode, 0x80 | size)
        elif size < 65536:
            head = struct.pack(">BBH", 0x80 | opcode, 0x80 | 126, size)
        else:
            head = struct.pack(">BBQ", 0x80 | opcode, 0x80 | 127, size)
        # A mask of zeros leaves the payload as it is.
        self.send_bytes((head + bytes(4) + payload) * times)

    def send_bytes(self, data: bytes) -> None:
        """Send any bytes."""
        self._socket.settimeout(self._timeout)
        self._socket.sendall(data)

    def text(self, **content: Any) -> None:
        """Send a JSON text."""
        self.send(TEXT, json.dumps(content).encode())

    def hello(self, version: int = 1, **more: Any) -> str:
        """Say hello. :return: the session id of the answer."""
        self.text(type="hello", version=version, transport="websocket", **more)
        return str(self.until(lambda frame: frame.opcode == TEXT).json["session_id"])

    def receive(self, timeout: float | None = None) -> Frame:
        """Return the next frame.

        :raises EOFError: the server closed TCP.
        """
        until = time.monotonic() + (self._timeout if timeout is None else timeout)
        head = self._take(2, until)
        assert head[0] & 0xF0 == 0x80 and head[1] < 128, "fragmented, masked or RSV"
        size = head[1]
        if size >= 126:
            size = int.from_bytes(self._take(2 if size == 126 else 8, until), "big")
        return Frame(head[0] & 0x0F, self._take(size, until))

    def _take(self, size: int, until: float) -> bytes:
        while len(self._data) < size:
            self._fill(until)
        taken, self._data = self._data[:size], self._data[size:]
        return taken

    def until(self, wanted: Callable[[Frame], bool]) -> Frame:
        """Return the next frame for which a condition holds; drop those before it."""
        while True:
            frame = self.receive()
            if wanted(frame):
                return frame

    def until_text(self, type_: str, **fields: Any) -> dict[str, Any]:
        """Return the next text of this type with these fields."""
        wanted = {"type": type_, **fields}

        def fits(frame: Frame) -> bool:
            return frame.opcode == TEXT and wanted.items() <= frame.json.items()

        return self.until(fits).json

    def until_close(self) -> tuple[int, str]:
        """Wait for a Close frame and return its code and reason; then TCP must end without our
        echo.
        """
        told = self.until(lambda frame: frame.opcode == CLOSE).close
        try:
            self.receive()
        except (EOFError, ConnectionResetError):
            return told
        raise AssertionError("something came after the Close frame")

    def for_a_while(self, seconds: float) -> list[Frame]:
        """Return all frames received within a time."""
        until, frames = time.monotonic() + seconds, []
        try:
            while True:
                frames.append(self.receive(max(0.0, until - time.monotonic())))
        except TimeoutError:
            return frames

    def close(self) -> None:
        """Close TCP without a Close frame, as devices do (§1.1)."""
        self._socket.close()
