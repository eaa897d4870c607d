"""The child's end of a :class:`~xiaozhi.providers.kit.process.worker.Worker`.

Frames both ways on pipes: payload length (4 bytes), request id (4), kind (1), payload. Imports
little, so that a child starts within milliseconds.
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
#: From the child: ``DATA``, then exactly one of these; ``DONE`` also confirms a ``CANCEL``.
DONE, ERROR = 5, 6

#: The longest payload that either side accepts; more means that the stream is out of sync.
MAX_PAYLOAD = 1 << 24

_HEADER = struct.Struct(">IIB")

Frame = tuple[int, int, bytes]


def pack(request_id: int, kind: int, payload: bytes = b"") -> bytes:
    """Make a frame."""
    return _HEADER.pack(len(payload), request_id, kind) + payload


class FrameReader:
    """Splits bytes into frames as they arrive."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """Read bytes. :raises ValueError: a payload is too long."""
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
    """A request cannot be processed; the child continues.

    :ivar code: of the :class:`~xiaozhi.base.errors.ProviderError` that the caller receives.
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
        """Wait for a frame. None: the parent has exited or ends the child."""
        while self._open and not self._frames:
            self._read()
        return self._frames.popleft() if self._frames else None

    def cancelled(self, request_id: int) -> bool:
        """Return whether a request was cancelled. Does not wait."""
        while self._open and select.select([self._source], [], [], 0)[0]:
            self._read()
        return not self._open or any(
            frame[0] == request_id and frame[1] == CANCEL for frame in self._frames
        )

    def send(self, request_id: int, kind: int, payload: bytes = b"") -> None:
        """Write a frame; waits until the parent has read it."""
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
            # After the end of file, queued requests are useless.
            self._frames.clear()


class Service:
    """Handlers of the frames in a child process; override the needed ones.

    ``WorkRefused`` ends the request; any other exception ends the child.
    """

    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    def opened(self, request_id: int, payload: bytes) -> None:
        """Begin a request."""

    def data(self, request_id: int, payload: bytes) -> None:
        """Process more of a request."""

    def ended(self, request_id: int) -> None:
        """Process the end of a request."""

    def cancelled(self, request_id: int) -> None:
        """Forget a request; send nothing for it. Also called for finished requests."""


def serve(service: Service) -> None:
    """Process frames until the parent exits."""
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
    # Output of libraries must not mix with the frames.
    os.dup2(2, 1)
    # Ctrl-C in a terminal also reaches children, but the parent ends them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(BrokenPipeError):
        serve(make(Channel(0, sink)))
