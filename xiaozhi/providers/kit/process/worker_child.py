"""The child's end of a :class:`~xiaozhi.providers.kit.process.worker.Worker`.

Frames both ways on pipes: payload length (4 bytes), request id (4), kind (1),
payload. Imports little, so that a child is there within milliseconds.
"""

from __future__ import annotations

import json
import os
import select
import signal
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress

#: To the child: a request, more of it, its end, its cancellation.
OPEN, DATA, END, CANCEL = 1, 2, 3, 4
#: From the child: ``DATA``, then exactly one of these; ``DONE`` to a ``CANCEL``, too.
DONE, ERROR = 5, 6

#: Longest payload either side accepts; more means the stream is out of step.
MAX_PAYLOAD = 1 << 24

_HEADER = struct.Struct(">IIB")

Frame = tuple[int, int, bytes]


def pack(request_id: int, kind: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return _HEADER.pack(len(payload), request_id, kind) + payload


class FrameReader:
    """Frames from bytes as they arrive."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """:raises ValueError: a payload is too long to be true."""
        waiting = self._waiting
        waiting += data
        frames = []
        at = 0
        while len(waiting) - at >= _HEADER.size:
            size, request_id, kind = _HEADER.unpack_from(waiting, at)
            if size > MAX_PAYLOAD:
                raise ValueError(f"a frame of {size} bytes")
            end = at + _HEADER.size + size
            if len(waiting) < end:
                break
            frames.append((request_id, kind, bytes(waiting[at + _HEADER.size : end])))
            at = end
        del waiting[:at]
        return frames


class WorkRefused(Exception):
    """A request cannot be done; the child goes on.

    :ivar code: of the :class:`~xiaozhi.base.errors.ProviderError` the caller gets.
    """

    def __init__(self, code: str, message: str, retryable: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retryable = retryable


class Channel:
    """The pipes to the parent."""

    def __init__(self, source: int, sink: int) -> None:
        self._source = source
        self._sink = sink
        self._reader = FrameReader()
        self._frames: deque[Frame] = deque()
        self._open = True

    def next(self) -> Frame | None:
        """Wait for a frame. None: the parent has gone or wants us gone."""
        while self._open and not self._frames:
            self._read()
        return self._frames.popleft() if self._frames else None

    def cancelled(self, request_id: int) -> bool:
        """Whether a request need not be finished. Does not wait."""
        while self._open and select.select([self._source], [], [], 0)[0]:
            self._read()
        return not self._open or any(
            frame[0] == request_id and frame[1] == CANCEL for frame in self._frames
        )

    def send(self, request_id: int, kind: int, payload: bytes = b"") -> None:
        """Write a frame, waiting for the parent to take it."""
        data = memoryview(pack(request_id, kind, payload))
        while data:
            data = data[os.write(self._sink, data) :]

    def refuse(self, request_id: int, code: str, message: str, retryable: bool) -> None:
        """End a request with an error."""
        body = {"code": code, "message": message, "retryable": retryable}
        self.send(request_id, ERROR, json.dumps(body).encode())

    def _read(self) -> None:
        data = os.read(self._source, 1 << 16)
        if data:
            self._frames.extend(self._reader.feed(data))
        else:
            self._open = False
            # What was asked before the end of file is of no use to anybody now.
            self._frames.clear()


class Service:
    """Handlers of the frames in a child process; override those needed.

    ``WorkRefused`` ends the request; any other exception ends the child.
    """

    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    def opened(self, request_id: int, payload: bytes) -> None:
        """A request begins."""

    def data(self, request_id: int, payload: bytes) -> None:
        """More of it."""

    def ended(self, request_id: int) -> None:
        """It is complete."""

    def cancelled(self, request_id: int) -> None:
        """Forget it; nothing is to be answered. Also comes for finished ones."""


def serve(service: Service) -> None:
    """Serve one request's frames after the other's until the parent goes."""
    channel = service.channel
    while (frame := channel.next()) is not None:
        request_id, kind, payload = frame
        try:
            if kind == DATA:
                service.data(request_id, payload)
            elif kind == OPEN:
                service.opened(request_id, payload)
            elif kind == END:
                service.ended(request_id)
            elif kind == CANCEL:
                service.cancelled(request_id)
                channel.send(request_id, DONE)
        except WorkRefused as error:
            service.cancelled(request_id)
            channel.refuse(request_id, error.code, error.message, error.retryable)


def main(make: Callable[[Channel], Service]) -> None:
    """Run a child on its standard input and output."""
    sink = os.dup(1)
    # Whatever a library prints must not get between the frames.
    os.dup2(2, 1)
    # Ctrl-C in a terminal reaches children, too: the parent decides when they end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(BrokenPipeError):
        serve(make(Channel(0, sink)))
