"""Conversion between messages and protobuf, for the bridge. Pure, and total both ways.

Every :data:`~xiaozhi.wire.messages.Uplink` message becomes a ``ChatRequest`` and comes back equal,
every :data:`~xiaozhi.wire.messages.Downlink` message a ``ChatResponse``. JSON payloads are kept as
the bytes that were received.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, TypeVar

from xiaozhi._pb import ai_service_pb2 as pb
from xiaozhi.base.errors import ProtocolError
from xiaozhi.wire import bounds
from xiaozhi.wire import messages as m

FromEdge = m.Uplink | m.SessionOpen | m.SessionClose
FromAI = m.Downlink | m.SessionClose

_REQUEST_AUDIO = pb.MESSAGE_TYPE_AUDIO
_RESPONSE_AUDIO = pb.RESPONSE_TYPE_AUDIO

E_ = TypeVar("E_", bound=Enum)


def request(message: FromEdge, session_id: str, sequence: int) -> pb.ChatRequest:
    """:param sequence: the message's place in its session and direction, from 1."""
    if type(message) is m.Audio:
        return pb.ChatRequest(
            type=_REQUEST_AUDIO,
            session_id=session_id,
            sequence=sequence,
            audio={"payload": message.payload, "timestamp": message.timestamp},
        )
    kind, name, fields = _REQUEST[type(message)]
    item = pb.ChatRequest(type=kind, session_id=session_id, sequence=sequence)
    if name:
        getattr(item, name).SetInParent()
        fields(getattr(item, name), message)
    if type(message) is m.SessionOpen:
        item.device_id = message.device.device_id
    return item


def response(message: FromAI, session_id: str, sequence: int) -> pb.ChatResponse:
    """:param sequence: as for :func:`request`."""
    if type(message) is m.Audio:
        return pb.ChatResponse(
            type=_RESPONSE_AUDIO,
            session_id=session_id,
            sequence=sequence,
            audio={
                "payload": message.payload,
                "timestamp": message.timestamp,
                "turn": message.turn,
            },
        )
    kind, name, fields = _RESPONSE[type(message)]
    item = pb.ChatResponse(type=kind, session_id=session_id, sequence=sequence)
    getattr(item, name).SetInParent()
    fields(getattr(item, name), message)
    return item


class AudioWriter:
    """Writes a session's packets as the bytes of an item, without a protobuf message.

    Almost all items are audio, and a protobuf message for each costs several times as much as
    writing its bytes. A test compares both forms.

    :param kind: ``_REQUEST_AUDIO`` or ``_RESPONSE_AUDIO``.
    """

    __slots__ = ("_head",)

    def __init__(self, kind: int, session_id: str) -> None:
        name = session_id.encode()
        self._head = b"\x18%b\x2a%b%b\x30" % (varint(kind), varint(len(name)), name)

    def __call__(self, audio: m.Audio, sequence: int) -> bytes:
        """:raises ValueError: a number is negative."""
        payload = audio.payload
        body = b"\x0a%b%b" % (varint(len(payload)), payload)
        if audio.timestamp:
            body += b"\x10" + varint(audio.timestamp)
        if audio.turn:
            body += b"\x18" + varint(audio.turn)
        return b"%b%b\x42%b%b" % (self._head, varint(sequence), varint(len(body)), body)


def request_audio(session_id: str) -> AudioWriter:
    """Make the writer of packets to the AI service."""
    return AudioWriter(_REQUEST_AUDIO, session_id)


def response_audio(session_id: str) -> AudioWriter:
    """Make the writer of packets to the edge."""
    return AudioWriter(_RESPONSE_AUDIO, session_id)


def varint(number: int) -> bytes:
    """Encode an integer as protobuf does.

    :raises ValueError: it is negative.
    """
    if number < 0:
        raise ValueError(f"{number} is negative")
    if number < len(_VARINTS):
        return _VARINTS[number]
    low = bytes((number & 0x7F | 0x80,))
    return low + varint(number >> 7)


_VARINTS: list[bytes] = [bytes((number,)) for number in range(128)]
_VARINTS += [bytes((number & 0x7F | 0x80, number >> 7)) for number in range(128, 2048)]


def read_request(item: pb.ChatRequest) -> FromEdge:
    """Convert an item from an edge that we trust.

    :raises ProtocolError: no content, or a content that this version does not know.
    """
    if item.type == _REQUEST_AUDIO:
        audio = item.audio
        return m.Audio(audio.payload, audio.timestamp)
    if item.type == pb.MESSAGE_TYPE_PING:
        return m.Ping()
    name = item.WhichOneof("content")
    if name == "hello":
        return _read_open(item)
    reader = _READ.get(name or "")
    if reader is None:
        raise ProtocolError("bad_request", f"request of type {item.type} with content {name}")
    return reader(getattr(item, name))  # type: ignore[no-any-return]


def accept_uplink(item: pb.ChatRequest) -> m.Uplink | m.SessionClose:
    """Convert an item inside a session, from an untrusted peer.

    :raises ProtocolError: as :func:`read_request`; also for an opening, and for a value out
        of bounds (``wire.bounds``).
    """
    if item.type == _REQUEST_AUDIO:
        audio = item.audio
        payload = audio.payload
        if len(payload) > bounds.LONGEST_PACKET:
            raise ProtocolError("bad_field", f"a packet has {len(payload)} bytes")
        return m.Audio(payload, audio.timestamp)
    message = read_request(item)
    if isinstance(message, m.SessionOpen):
        raise ProtocolError("bad_request", "an opening inside a session")
    bounds.check(message)
    return message


def accept_request(item: pb.ChatRequest) -> FromEdge:
    """Convert an item that may open a session, from an untrusted peer.

    :raises ProtocolError: as :func:`accept_uplink`, but not for an opening.
    """
    if item.type == _REQUEST_AUDIO or item.WhichOneof("content") != "hello":
        return accept_uplink(item)
    message = read_request(item)
    bounds.check(message)
    return message


def read_response(item: pb.ChatResponse) -> FromAI:
    """Convert an item from the AI service.

    :raises ProtocolError: no content, or a content that this version does not know.
    """
    if item.type == _RESPONSE_AUDIO:
        audio = item.audio
        return m.Audio(audio.payload, audio.timestamp, audio.turn)
    name = item.WhichOneof("content")
    reader = _READ.get(name or "")
    if reader is None:
        raise ProtocolError("bad_response", f"response of type {item.type} with content {name}")
    return reader(getattr(item, name))  # type: ignore[no-any-return]


# --- writing ---------------------------------------------------------------------


def _copy(*names: str) -> Callable[[Any, Any], None]:
    """Make a writer that copies these fields; enumerations by their value."""

    def write(content: Any, message: Any) -> None:
        for name in names:
            value = getattr(message, name)
            setattr(content, name, value.value if isinstance(value, Enum) else value)

    return write


def _write_open(content: Any, opening: m.SessionOpen) -> None:
    hello = opening.hello
    content.version = hello.version
    content.transport = hello.transport
    content.features.mcp = hello.features.mcp
    content.features.aec = hello.features.aec
    content.features.glyph_push = hello.features.glyph_push
    _AUDIO_PARAMS(content.audio, hello.audio)
    _AUDIO_PARAMS(content.downlink, opening.downlink)
    content.client_id = opening.device.client_id
    content.user_id = opening.device.user_id
    content.guest = opening.device.guest
    content.host = opening.host
    content.incarnation = opening.incarnation
    content.restored.extend(request(message, "", 0) for message in opening.restored)


_AUDIO_PARAMS = _copy("format", "sample_rate", "channels", "frame_duration")

_Writer = tuple[Any, str, Callable[[Any, Any], None]]

_REQUEST: dict[type, _Writer] = {
    m.SessionOpen: (pb.MESSAGE_TYPE_HELLO, "hello", _write_open),
    m.SessionClose: (pb.MESSAGE_TYPE_CLOSE, "close", _copy("code", "message")),
    m.Listen: (pb.MESSAGE_TYPE_LISTEN, "listen", _copy("state", "mode", "text", "turn", "packets")),
    m.Chat: (pb.MESSAGE_TYPE_CHAT, "chat", _copy("text")),
    m.Abort: (pb.MESSAGE_TYPE_ABORT, "abort", _copy("reason")),
    m.Mcp: (pb.MESSAGE_TYPE_MCP, "mcp", _copy("payload")),
    m.Vision: (pb.MESSAGE_TYPE_VISION, "vision", _copy("command", "payload")),
    m.Image: (pb.MESSAGE_TYPE_IMAGE, "image", _copy("text", "format", "data", "url")),
    m.Iot: (pb.MESSAGE_TYPE_IOT, "iot", _copy("payload")),
    m.Ping: (pb.MESSAGE_TYPE_PING, "", _copy()),
    m.Goodbye: (pb.MESSAGE_TYPE_GOODBYE, "goodbye", _copy("reason")),
    m.Unknown: (pb.MESSAGE_TYPE_OTHER, "other", _copy("type", "payload")),
    m.Say: (pb.MESSAGE_TYPE_SAY, "say", _copy("text")),
    m.Leave: (pb.MESSAGE_TYPE_LEAVE, "leave", _copy()),
    m.Playback: (pb.MESSAGE_TYPE_PLAYBACK, "playback", _copy("turn", "state", "played_ms")),
}

_RESPONSE: dict[type, _Writer] = {
    m.Stt: (pb.RESPONSE_TYPE_TEXT, "stt", _copy("text", "turn")),
    m.Tts: (pb.RESPONSE_TYPE_TEXT, "tts", _copy("state", "text", "turn", "aside")),
    m.Llm: (pb.RESPONSE_TYPE_TEXT, "llm", _copy("emotion", "text", "turn")),
    m.Alert: (pb.RESPONSE_TYPE_STATUS, "alert", _copy("status", "message", "emotion")),
    m.System: (pb.RESPONSE_TYPE_STATUS, "system", _copy("command")),
    m.Error: (pb.RESPONSE_TYPE_ERROR, "error", _copy("code", "message")),
    m.Pong: (pb.RESPONSE_TYPE_STATUS, "pong", _copy("timestamp")),
    m.Image: (pb.RESPONSE_TYPE_IMAGE, "image", _copy("text", "format", "data", "url")),
    m.Mcp: (pb.RESPONSE_TYPE_MCP, "mcp", _copy("payload")),
    m.Iot: (pb.RESPONSE_TYPE_IOT, "iot", _copy("payload")),
    m.Goodbye: (pb.RESPONSE_TYPE_STATUS, "goodbye", _copy("reason")),
    m.Unknown: (pb.RESPONSE_TYPE_OTHER, "other", _copy("type", "payload")),
    m.Flush: (pb.RESPONSE_TYPE_FLUSH, "flush", _copy("turn")),
    m.Pause: (pb.RESPONSE_TYPE_PAUSE, "pause", _copy("turn", "paused")),
    m.Language: (pb.RESPONSE_TYPE_LANGUAGE, "language", _copy("language")),
    m.SessionClose: (pb.RESPONSE_TYPE_CLOSE, "close", _copy("code", "message")),
}


# --- reading ---------------------------------------------------------------------


def _enum(kind: type[E_], text: str, where: str) -> E_:
    try:
        return kind(text)
    except ValueError:
        raise ProtocolError("bad_field", f"{where} is unknown: {text!r}") from None


# Parameters of a peer that announces none.
_UPLINK = m.AudioParams()
_DOWNLINK = m.AudioParams(sample_rate=24000)


def _read_params(content: pb.AudioParams) -> m.AudioParams:
    return m.AudioParams(
        content.format, content.sample_rate, content.channels, content.frame_duration
    )


def _read_open(item: pb.ChatRequest) -> m.SessionOpen:
    content = item.hello
    features = content.features
    return m.SessionOpen(
        session_id=item.session_id,
        device=m.Device(item.device_id, content.client_id, content.user_id, content.guest),
        hello=m.Hello(
            version=content.version,
            features=m.Features(features.mcp, features.aec, features.glyph_push),
            transport=content.transport,
            audio=_read_params(content.audio) if content.HasField("audio") else _UPLINK,
        ),
        downlink=_read_params(content.downlink) if content.HasField("downlink") else _DOWNLINK,
        host=content.host,
        incarnation=content.incarnation or 1,
        restored=tuple(_read_uplink(message) for message in content.restored),
    )


def _read_uplink(item: pb.ChatRequest) -> m.Uplink:
    message = read_request(item)
    if isinstance(message, m.SessionOpen | m.SessionClose):
        raise ProtocolError("bad_request", "an opening can restore only messages of devices")
    return message


def _read_listen(content: pb.Listen) -> m.Listen:
    return m.Listen(
        _enum(m.ListenState, content.state, "listen.state"),
        _enum(m.ListenMode, content.mode, "listen.mode"),
        content.text,
        content.turn,
        content.packets,
    )


def _read_playback(content: pb.Playback) -> m.Playback:
    state = _enum(m.PlaybackState, content.state, "playback.state")
    return m.Playback(content.turn, state, content.played_ms)


def _read_tts(content: pb.Tts) -> m.Tts:
    state = _enum(m.TtsState, content.state, "tts.state")
    return m.Tts(state, content.text, content.turn, content.aside)


# One table for both directions: a content name means the same in each.
_READ: dict[str, Callable[[Any], Any]] = {
    "listen": _read_listen,
    "chat": lambda c: m.Chat(c.text),
    "abort": lambda c: m.Abort(c.reason),
    "mcp": lambda c: m.Mcp(c.payload),
    "vision": lambda c: m.Vision(c.command, c.payload),
    "image": lambda c: m.Image(c.text, c.format, c.data, c.url),
    "iot": lambda c: m.Iot(c.payload),
    "goodbye": lambda c: m.Goodbye(c.reason),
    "other": lambda c: m.Unknown(c.type, c.payload),
    "say": lambda c: m.Say(c.text),
    "leave": lambda _: m.Leave(),
    "playback": _read_playback,
    "close": lambda c: m.SessionClose(c.code, c.message),
    "stt": lambda c: m.Stt(c.text, c.turn),
    "tts": _read_tts,
    "llm": lambda c: m.Llm(c.emotion, c.text, c.turn),
    "alert": lambda c: m.Alert(c.status, c.message, c.emotion),
    "system": lambda c: m.System(c.command),
    "error": lambda c: m.Error(c.code, c.message),
    "pong": lambda c: m.Pong(c.timestamp),
    "flush": lambda c: m.Flush(c.turn),
    "pause": lambda c: m.Pause(c.turn, c.paused),
    "language": lambda c: m.Language(c.language),
}
