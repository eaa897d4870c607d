"""A vendor that sends exactly the bytes a test says, over HTTP and WebSocket.

A script is a list of steps, played for one request: bytes (one write each), seconds to wait,
:data:`HANG_UP`, :data:`RESET`, :data:`NEXT`, or a function from the connection to further steps.
:mod:`xiaozhi.testing.vendors.octets` makes heads, bodies, events and frames.

The same vendor listens in memory on virtual time
(:class:`xiaozhi.testing.vendors.network.Network`), where each write arrives as one piece, or on a
real port, where each write gets a reactor turn and a segment of its own as far as the kernel
allows::

    vendor = ScriptedVendor(clock, stream(event({...}), DONE))
    network.listen(8000, vendor)                  # in ``trial xiaozhi``
    reactor.listenTCP(0, vendor, interface="127.0.0.1")   # in ``tests/``
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.python.failure import Failure

from xiaozhi.testing.vendors.octets import FrameReader, Opcode, accept_head, frame


class Mark(Enum):
    """A step other than bytes and delays.

    :cvar HANG_UP: close the connection after the written data (FIN). :cvar RESET: cut the
        connection at once (RST). :cvar NEXT: WebSocket: wait for the next message of the client, or
        its close. :cvar ACCEPT: WebSocket: answer the handshake; frames follow.
    """

    HANG_UP = "hang up"
    RESET = "reset"
    NEXT = "next"
    ACCEPT = "accept"


HANG_UP, RESET, NEXT, ACCEPT = Mark.HANG_UP, Mark.RESET, Mark.NEXT, Mark.ACCEPT

Step = bytes | float | Mark | Callable[["VendorConnection"], Iterable[Any]]
Script = Sequence[Step] | Callable[["VendorRequest"], Sequence[Step]]


@dataclass
class VendorRequest:
    """One request as it arrived.

    :ivar headers: the last of each name, lower case.
    :ivar messages: WebSocket: complete messages of the client, text as ``str``.
    :ivar pings: WebSocket: payloads of the client's pings.
    :ivar close_code: WebSocket: the client's close code, 1005 without one.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""
    messages: list[str | bytes] = field(default_factory=list)
    pings: list[bytes] = field(default_factory=list)
    close_code: int | None = None

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class VendorConnection(Protocol):
    """One connection: accepts requests and plays a script for each, one after the other.

    :ivar request: the current request.
    :ivar lost: why the connection ended.
    """

    factory: ScriptedVendor
    transport: Any

    def __init__(self) -> None:
        self.request: VendorRequest | None = None
        self.lost: Failure | None = None
        self._buffer = b""
        self._steps: deque[Any] = deque()
        self._playing = False
        self._timer: Any = None
        self._frames: FrameReader | None = None
        self._unread = 0
        self._awaiting = False

    def connectionMade(self) -> None:
        self.factory.connections.append(self)
        self.transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        if self._frames is not None:
            self._take_frames(data)
            return
        self._buffer += data
        self._take_request()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    @property
    def done(self) -> bool:
        """Whether the script was played to its end."""
        return not self._steps

    def send(self, *steps: Step) -> None:
        """Play more steps after the remaining ones: for tests that decide as they run."""
        self._steps.extend(steps)
        if not self._playing:
            self._playing = True
            self._play()

    def _take_request(self) -> None:
        if self._playing:
            return
        parsed = _parse(self._buffer)
        if parsed is None:
            return
        self.request, self._buffer = parsed
        self.factory.requests.append(self.request)
        self.send(*self.factory.script(self.request))

    def _play(self) -> None:
        self._timer = None
        if self.lost is not None:
            return
        if not self._steps:
            self._playing = False
            self._take_request()
            return
        step = self._steps[0]
        if step is NEXT and not self._unread:
            self._awaiting = True
            return
        self._steps.popleft()
        delay = 0.0
        if isinstance(step, bytes):
            self.transport.write(step)
        elif isinstance(step, Mark):
            self._mark(step)
        elif callable(step):
            self._steps.extendleft(reversed([*step(self)]))
        else:
            delay = float(step)
        # One turn of the clock for each write, so that a real socket keeps the segmentation.
        self._timer = self.factory.clock.callLater(delay, self._play)

    def _mark(self, mark: Mark) -> None:
        if mark is HANG_UP:
            self.transport.loseConnection()
        elif mark is RESET:
            self.transport.abortConnection()
        elif mark is NEXT:
            self._unread -= 1
        else:
            assert self.request is not None
            self.transport.write(accept_head(self.request.headers.get("sec-websocket-key", "")))
            self._frames = FrameReader()
            data, self._buffer = self._buffer, b""
            self._take_frames(data)

    def _take_frames(self, data: bytes) -> None:
        assert self._frames is not None and self.request is not None
        for opcode, payload in self._frames.feed(data):
            if opcode is Opcode.PING:
                self.request.pings.append(payload)
                if self.factory.answers_pings:
                    self.transport.write(frame(payload, Opcode.PONG))
            elif opcode is Opcode.CLOSE:
                self.request.close_code = int.from_bytes(payload[:2]) if payload else 1005
                self._heard()
            elif opcode is not Opcode.PONG:
                text = opcode is Opcode.TEXT
                self.request.messages.append(payload.decode() if text else payload)
                self._heard()

    def _heard(self) -> None:
        self._unread += 1
        if self._awaiting:
            self._awaiting = False
            self._play()


class ScriptedVendor(ServerFactory):
    """Plays a script for each request, and repeats the last one.

    :param clock: the reactor, or a virtual clock.
    :ivar scripts: scripts still to be played.
    :ivar requests: all requests, in order.
    :ivar connections: all connections, in order.
    :ivar answers_pings: WebSocket: whether pings get their pong.
    """

    protocol: Any = VendorConnection
    noisy = False

    def __init__(self, clock: Any, *scripts: Script) -> None:
        self.clock = clock
        self.scripts: deque[Script] = deque(scripts)
        self.requests: list[VendorRequest] = []
        self.connections: list[VendorConnection] = []
        self.answers_pings = True

    @property
    def last(self) -> VendorRequest:
        """The newest request."""
        return self.requests[-1]

    def play(self, *scripts: Script) -> None:
        """Replace the scripts still to be played."""
        self.scripts = deque(scripts)

    def script(self, request: VendorRequest) -> Sequence[Step]:
        """Return the steps that answer a request; none: it gets no answer."""
        if not self.scripts:
            return ()
        script = self.scripts[0] if len(self.scripts) == 1 else self.scripts.popleft()
        return script(request) if callable(script) else script

    def hang_up(self) -> None:
        """Close all connections, for the end of a test."""
        for connection in self.connections:
            if connection.lost is None:
                connection.transport.loseConnection()


def _parse(data: bytes) -> tuple[VendorRequest, bytes] | None:
    """Return the first whole request and the data after it; None: it is not complete yet."""
    head, separator, rest = data.partition(b"\r\n\r\n")
    if not separator:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    pairs = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    request = VendorRequest(method, path, headers)
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return _parse_chunked(request, rest)
    length = int(headers.get("content-length", "0"))
    if len(rest) < length:
        return None
    request.body = rest[:length]
    return request, rest[length:]


def _parse_chunked(request: VendorRequest, rest: bytes) -> tuple[VendorRequest, bytes] | None:
    body = b""
    while True:
        size, separator, rest = rest.partition(b"\r\n")
        if not separator:
            return None
        length = int(size.partition(b";")[0], 16)
        if len(rest) < length + 2:
            return None
        body, rest = body + rest[:length], rest[length + 2 :]
        if not length:
            request.body = body
            return request, rest
