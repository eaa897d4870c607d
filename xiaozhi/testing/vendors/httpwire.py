"""A raw HTTP client over an in-memory transport, for tests of the web site."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.http import HTTPFactory

CRLF = b"\r\n"


@dataclass(frozen=True)
class Reply:
    """One parsed answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, which must be JSON."""
        return json.loads(self.body)


class Wire:
    """A connection to a site."""

    def __init__(
        self, site: HTTPFactory, host: str = "192.0.2.1", port: int = 8080, peer: str = "192.0.2.99"
    ) -> None:
        self.transport = StringTransport(
            hostAddress=IPv4Address("TCP", host, port),
            peerAddress=IPv4Address("TCP", peer, 40000),
        )
        protocol: Any = site.buildProtocol(self.transport.getPeer())
        self.protocol = protocol
        self.protocol.makeConnection(self.transport)

    def send(self, *pieces: bytes) -> None:
        """Deliver pieces one after the other."""
        for piece in pieces:
            self.protocol.dataReceived(piece)

    def disconnect(self) -> None:
        """Close as the client."""
        self.protocol.connectionLost(Failure(ConnectionDone()))

    @property
    def closed(self) -> bool:
        """Whether the server has closed."""
        return bool(self.transport.disconnecting or self.transport.disconnected)

    def reply(self) -> Reply:
        """Return the next answer; it must be complete and have a Content-Length."""
        data = self.transport.value()
        head, separator, rest = data.partition(CRLF + CRLF)
        assert separator, f"no answer yet: {data!r}"
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        status = int(first.split()[1])
        length = 0 if status == 204 else int(headers["content-length"])
        assert len(rest) >= length, "the body is cut short"
        self.transport.clear()
        self.transport.write(rest[length:])
        return Reply(status, headers, rest[:length])


def request(
    method: str, path: str, headers: dict[str, str] | None = None, body: bytes | None = None
) -> bytes:
    """A request with ``Content-Length`` if there is a body."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 192.0.2.1"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + CRLF + CRLF + (body or b"")


def chunked_request(path: str, headers: dict[str, str], chunks: Iterable[bytes]) -> bytes:
    """Make a POST as the firmware sends it: chunked, without ``Content-Length``."""
    head = request("POST", path, {**headers, "Transfer-Encoding": "chunked"})
    return head + b"".join(chunk(piece) for piece in chunks) + b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """Make one chunk of a chunked body."""
    return b"%X\r\n" % len(data) + data + CRLF if data else b""


def form(parts: Iterable[tuple[str, bytes]], boundary: str = "----ESP32_CAMERA_BOUNDARY") -> bytes:
    """Make a multipart body; fields other than ``question`` are files."""
    body = b""
    for name, data in parts:
        extra = (
            b"" if name == "question" else b'; filename="camera.jpg"\r\nContent-Type: image/jpeg'
        )
        body += b"--" + boundary.encode() + CRLF
        body += b'Content-Disposition: form-data; name="' + name.encode() + b'"' + extra
        body += CRLF + CRLF + data + CRLF
    return body + b"--" + boundary.encode() + b"--" + CRLF
