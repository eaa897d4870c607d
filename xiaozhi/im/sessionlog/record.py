"""Session log rows of a device's messages: one per text, one per utterance."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from xiaozhi.base.values import LogDirection
from xiaozhi.im.counts import EdgeCounts
from xiaozhi.im.sessionlog.log import SessionLog
from xiaozhi.wire import messages as m

_MOST = 4096


class _Call(msgspec.Struct):
    method: str = ""
    id: int | str | None = None


_call = msgspec.json.Decoder(_Call)


class Record:
    """Writes the rows of a session for its device's messages.

    :ivar frames: packets so far of the current utterance.
    :ivar octets: their bytes on the wire.
    """

    __slots__ = ("_counts", "_frame_ms", "_heard", "_log", "_session_id", "frames", "octets")

    def __init__(
        self,
        log: SessionLog,
        counts: EdgeCounts,
        session_id: str,
        heard: Callable[[str, int, int], None],
    ) -> None:
        """:param heard: called with ``audio``, bytes and packets for each utterance."""
        self._log = log
        self._counts = counts
        self._session_id = session_id
        self._heard = heard
        self._frame_ms = 0
        self.frames = 0
        self.octets = 0

    def close(self) -> None:
        """Stop: the connection is over; only :meth:`event` follows."""
        self._heard = _ignore

    def event(self, kind: str, **data: object) -> None:
        """Log an event of the connection."""
        self._log.event(self._session_id, kind, data)

    def greeted(self, hello: m.Hello) -> None:
        """Log the hello, and use its packet length."""
        self._frame_ms = hello.audio.frame_duration
        self.message(hello)

    def message(self, message: m.DeviceText) -> None:
        """Log a text."""
        self._log.message(
            self._session_id, type_of(message), LogDirection.INBOUND, content_of(message)
        )

    def packet(self, size: int) -> None:
        """Count a packet of the current utterance."""
        self.frames += 1
        self.octets += size
        counts = self._counts
        counts.frames_up += 1
        counts.bytes_up += size

    def utterance_over(self) -> None:
        """Write one row for all packets since the last call, if any."""
        if self.frames:
            content = audio_content(self.frames, self.octets, self.frames * self._frame_ms)
            self._log.message(self._session_id, "audio", LogDirection.INBOUND, content)
            self._heard("audio", self.octets, self.frames)
            self.frames = self.octets = 0


def _ignore(kind: str, size: int, frames: int) -> None:
    """Stand in for the listener of a closed connection."""


def audio_content(frames: int, octets: int, ms: int) -> str:
    """Return a row's content for an utterance or a turn."""
    return f'{{"frames":{frames},"bytes":{octets},"ms":{ms}}}'


def type_of(message: m.DeviceText | m.ServerText) -> str:
    """Return a message's wire type for ``message_logs``."""
    if isinstance(message, m.Unknown):
        # The column has 50 characters.
        return message.type[:50]
    if isinstance(message, m.ServerHello):
        return "hello"
    return type(message).__name__.lower()


def label_of(message: m.DeviceText | m.ServerText) -> str:
    """Return a message's wire type as a label; unknown types share one."""
    return "unknown" if isinstance(message, m.Unknown) else type_of(message)


def content_of(message: m.DeviceText | m.ServerText) -> str | None:
    """Return the part of a message that a log row keeps: words and states, but nothing that
    may contain a token (hello of browsers, MCP ``initialize``, unknown types)."""
    match message:
        case m.Stt() | m.Chat():
            return message.text
        case m.Listen() | m.Tts():
            return f"{message.state.value} {message.text}".rstrip()
        case m.Llm():
            return message.emotion
        case m.Abort() | m.Goodbye():
            return message.reason
        case m.Alert() | m.Error():
            return message.message
        case m.System() | m.Vision():
            return message.command
        case m.Image():
            return f"{message.format or 'image'}, {len(message.data)} bytes: {message.text}"
        case m.Mcp():
            return _rpc(message.payload)
        case m.Iot():
            return message.payload[:_MOST].decode("utf-8", "replace")
        case _:
            return None


def _rpc(payload: bytes) -> str:
    try:
        call = _call.decode(payload)
    except msgspec.DecodeError:
        return f"{len(payload)} bytes"
    return f"{call.method or 'answer'} {'' if call.id is None else call.id}".rstrip()
