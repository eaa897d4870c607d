"""Recordings of the traffic between devices and this edge, for people and for
``xiaozhi-device replay``.

A file is JSON lines. The first is an object: ``version``, ``started`` (ISO 8601),
``session_id``, ``device_id``, ``framing`` (the ``Protocol-Version`` header). Each further line
is an array: seconds since the connection, ``up`` or ``down``, a kind (``text``, ``sound``,
``close``), and the text, the bytes in base64, or the code and reason. An array with
``dropped`` or ``full`` marks missing entries.

A recording contains people's speech. Tokens are removed: members with such names, and JWTs.
"""

from __future__ import annotations

import re
from binascii import b2a_base64
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from xiaozhi.im.websocket import closecodes
from xiaozhi.im.websocket.channel import Socket, WebSocketChannel
from xiaozhi.interfaces import IFileStore, IFileWriter

#: The area of the file store.
AREA = "recordings"

# Seconds between two writes, and maximum bytes of one session that wait for the next; more
# are dropped and counted in the file.
_INTERVAL = 0.5
_WAITING = 1 << 20

# A member of an object; \2 is the escape of its quotes in JSON within a JSON string.
_TOKEN = re.compile(
    r'((?<!\\)(\\*)"(?:token|secret|password|api_?key)\2"\s*:\s*\2").*?(?<!\\)\2"', re.I | re.S
)
# A signed or encrypted token (RFC 7519): base64url parts. The first is a JSON object, so it
# begins with "{" and a quote or white space. Dots may be escaped, as in a URL or in JSON.
_DOT, _PART = r"(?:\.|%2[eE]|\\+u002[eE])", r"[A-Za-z0-9_=-]"
_JWT = re.compile(
    rf"e(?:y[A-DI-L]|w[k-r0-3]){_PART}{{5,}}{_DOT}{_PART}{{2,}}(?:{_DOT}{_PART}*){{1,3}}"
)
_JWT_IN_BYTES = re.compile(_JWT.pattern.encode())
# Sent as text by browser clients, which cannot set headers (§4.1).
_HEADER = re.compile(r"\s*(?:authorization|proxy-authorization|cookie)\s*:", re.I)


class Recorder:
    """Writes the recordings of all sessions in a thread.

    :ivar dropped: number of messages missing from the recordings.
    """

    _log = Logger()

    def __init__(
        self,
        files: IFileStore,
        clock: IReactorTime,
        max_session_bytes: int,
        seconds: Callable[[], float],
    ) -> None:
        """:param seconds: wall clock: seconds since the epoch."""
        self._files = files
        self._clock = clock
        self._limit = max_session_bytes
        self._seconds = seconds
        # Bound: one per connection.
        self._open: set[Recording] = set()
        self._due: IDelayedCall | None = None
        self._failing = False
        self.dropped = 0

    def recording(self) -> Recording:
        """Start a recording for a new connection."""
        recording = Recording(self, self._files.writer(AREA), self._clock, self._limit)
        self._open.add(recording)
        if self._due is None:
            self._due = self._clock.callLater(_INTERVAL, self._write)
        return recording

    def now(self) -> str:
        """Return the time in the format of the files."""
        return datetime.fromtimestamp(self._seconds(), UTC).isoformat(timespec="milliseconds")

    def stop(self) -> Deferred[Any]:
        """Write everything; the Deferred fires when it is written."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        return DeferredList([recording.close() for recording in list(self._open)])

    def closed(self, recording: Recording) -> None:
        """Remove a complete recording."""
        self._open.discard(recording)

    def failed(self, failure: Failure) -> None:
        """Log that a file cannot be written; consecutive failures are logged once."""
        if not self._failing:
            self._failing = True
            self._log.error("sessions are not recorded: {error}", error=failure.getErrorMessage())

    def worked(self) -> None:
        """End a series of failures: a file was written."""
        self._failing = False

    def _write(self) -> None:
        self._due = None
        for recording in list(self._open):
            recording.write()
        if self._open:
            self._due = self._clock.callLater(_INTERVAL, self._write)


class Recording:
    """The recording of one session."""

    def __init__(
        self, recorder: Recorder, writer: IFileWriter, clock: IReactorTime, limit: int
    ) -> None:
        self._recorder = recorder
        self._writer = writer
        self._clock = clock
        self._began = clock.seconds()
        self._left = limit
        # Bound: see _WAITING.
        self._waiting = bytearray()
        self._missing = 0
        self._writing = False
        self._closing: Deferred[None] | None = None

    def begin(self, **head: Any) -> None:
        """Write the first line."""
        self._put(msgspec.json.encode({"version": 1, "started": self._recorder.now(), **head}))

    def text(self, direction: str, text: str) -> None:
        """Record a text message."""
        if not _HEADER.match(text):
            self._note(direction, "text", _JWT.sub("…", _TOKEN.sub(r'\1…\2"', text)))

    def sound(self, direction: str, data: bytes) -> None:
        """Record a binary message."""
        # Sound could match by chance, but so rarely that it does not matter.
        data = _JWT_IN_BYTES.sub("…".encode(), data)
        self._note(direction, "sound", b2a_base64(data, newline=False).decode())

    def closes(self, direction: str, code: int, reason: str) -> None:
        """Record a Close frame, or the end of TCP."""
        self._note(direction, "close", [code, _JWT.sub("…", reason)])

    def _note(self, direction: str, kind: str, what: object) -> None:
        seconds = round(self._clock.seconds() - self._began, 4)
        self._put(msgspec.json.encode((seconds, direction, kind, what)))

    def _put(self, line: bytes) -> None:
        if self._closing is not None:
            return
        if len(self._waiting) + len(line) > _WAITING:
            self._missing += 1
            self._recorder.dropped += 1
            return
        self._mark_missing()
        self._left -= len(line)
        if self._left < 0:
            line = msgspec.json.encode((0, "", "full", None))
        self._waiting += line + b"\n"
        if self._left < 0:
            # Close it now: an open file without writes would be purged as a dead process's.
            self.close()

    def _mark_missing(self) -> None:
        if self._missing:
            self._waiting += msgspec.json.encode((0, "", "dropped", self._missing)) + b"\n"
            self._missing = 0

    def write(self) -> None:
        """Write the queue, unless a write is running."""
        if self._waiting and not self._writing:
            self._writing = True
            data = bytes(self._waiting)
            self._waiting.clear()
            self._writer.write(data).addCallbacks(self._written, self._recorder.failed).addBoth(
                self._free
            )

    def close(self) -> Deferred[None]:
        """Finish the recording.

        :return: fires when the file is complete.
        """
        if self._closing is not None:
            return self._closing
        self._mark_missing()
        if self._waiting:
            data = bytes(self._waiting)
            self._waiting.clear()
            self._writer.write(data).addErrback(self._recorder.failed)
        closing = self._closing = self._writer.close()
        closing.addErrback(self._recorder.failed)
        closing.addCallback(lambda _: self._recorder.closed(self))
        return closing

    def _written(self, _: object) -> None:
        self._recorder.worked()

    def _free(self, _: object) -> None:
        self._writing = False


class RecordedSocket:
    """A device's socket whose outgoing messages are recorded."""

    def __init__(self, socket: Socket, recording: Recording) -> None:
        self._socket = socket
        self._recording = recording

    def send_text(self, text: str) -> None:
        self._recording.text("down", text)
        self._socket.send_text(text)

    def send_binary(self, data: bytes) -> None:
        self._recording.sound("down", data)
        self._socket.send_binary(data)

    def close(self, code: int, reason: str) -> None:
        self._recording.closes("down", code, reason)
        self._socket.close(code, reason)

    def ping(self) -> None:
        self._socket.ping()

    def pause(self) -> None:
        self._socket.pause()

    def resume(self) -> None:
        self._socket.resume()


class RecordedChannel(WebSocketChannel):
    """A channel whose traffic is recorded."""

    __slots__ = ("_framing", "_recording")

    def __init__(self, recording: Recording, socket: Socket, announced: int) -> None:
        super().__init__(RecordedSocket(socket, recording), announced)
        self._recording = recording
        self._framing = announced

    def began(self, session_id: str, device_id: str) -> None:
        self._recording.begin(session_id=session_id, device_id=device_id, framing=self._framing)

    def text_received(self, text: str) -> None:
        self._recording.text("up", text)
        super().text_received(text)

    def binary_received(self, data: bytes) -> None:
        self._recording.sound("up", data)
        super().binary_received(data)

    def connection_lost(self, reason: str, code: int = closecodes.ABNORMAL) -> None:
        super().connection_lost(reason, code)
        self._recording.closes("up", code, reason)
        self._recording.close()
