"""Text WebSocket messages: conversion between JSON in two dialects and values.

Flat, as devices send it: ``{"type": "stt", "text": "…", "session_id": "…"}``.

Enveloped: ``{"type": "stt", "data": {"text": "…"}, "timestamp": 1640995200000}``.

A device must send only the type. Unknown keys and types are accepted, and ``null`` counts as
absent, as it does on devices (§4). A value of the wrong type is an error that names the field.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from xiaozhi.base.errors import ProtocolError
from xiaozhi.wire import messages as m

MAX_DEPTH = 32
_E = TypeVar("_E", bound=Enum)
_object = msgspec.json.Decoder(dict[str, Raw])
_string = msgspec.json.Decoder(str)
_integer = msgspec.json.Decoder(int)
_boolean = msgspec.json.Decoder(bool)
_encode = msgspec.json.Encoder().encode


class JsonDialect(Enum):
    FLAT = "flat"
    ENVELOPED = "enveloped"


def parse_device(text: str, max_depth: int = MAX_DEPTH) -> tuple[m.DeviceText, JsonDialect]:
    """Parse a device's message.

    :raises ProtocolError: ``bad_json``, ``too_deep``, ``bad_type`` or ``bad_field``.
    """
    kind, fields, dialect = _open(text, max_depth)
    reader = _FROM_DEVICE.get(kind)
    return (reader(fields) if reader else m.Unknown(kind, fields.rest())), dialect


def parse_server(text: str, max_depth: int = MAX_DEPTH) -> tuple[m.ServerText, JsonDialect]:
    """Parse a server's message, as a device does. Errors as :func:`parse_device`."""
    kind, fields, dialect = _open(text, max_depth)
    reader = _FROM_SERVER.get(kind)
    return (reader(fields) if reader else m.Unknown(kind, fields.rest())), dialect


def render(
    message: m.DeviceText | m.ServerText, dialect: JsonDialect, session_id: str, now_ms: int
) -> str:
    """Render a message.

    :param session_id: omitted if empty, or if the message has its own.
    :param now_ms: for the envelope's ``timestamp``.
    :raises ProtocolError: a payload is not a JSON object. That of
        :class:`~xiaozhi.wire.messages.Mcp` is not checked.
    """
    kind, fields = _fields_of(message)
    if session_id:
        fields.setdefault("session_id", session_id)
    if dialect is JsonDialect.FLAT:
        # Again at the end: an unchanged payload may have a member of that name.
        whole = {"type": kind} | fields | {"type": kind}
    else:
        whole = {"type": kind, "data": fields, "timestamp": now_ms}
    return _encode(whole).decode()


# --- opening a message ------------------------------------------------------------


def _open(text: str, max_depth: int) -> tuple[str, _Fields, JsonDialect]:
    if deeper_than(text, max_depth):
        raise ProtocolError("too_deep", f"JSON is nested deeper than {max_depth}")
    try:
        whole = _object.decode(text)
    except msgspec.ValidationError:
        raise ProtocolError("bad_json", "the message is JSON but not an object") from None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ProtocolError("bad_json", f"the message is not JSON: {error}") from None
    kind = _Fields(whole, "message").text("type")
    if not kind:
        raise ProtocolError("bad_type", "the message has no type")
    data = whole.get("data")
    if data is not None and bytes(data).lstrip().startswith(b"{"):
        fields = _Fields({"session_id": whole.get("session_id", _NULL)} | _members(data), kind)
        return kind, fields, JsonDialect.ENVELOPED
    return kind, _Fields(whole, kind), JsonDialect.FLAT


def deeper_than(text: str, limit: int) -> bool:
    """Return whether brackets outside strings nest deeper. Most texts never reach the loop."""
    if text.count("{") + text.count("[") <= limit:
        return False
    depth = 0
    in_string = escaped = False
    for char in text:
        if in_string:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                in_string = False
        elif char == '"':
            in_string = True
        elif char in "{[":
            depth += 1
            if depth > limit:
                return True
        elif char in "}]":
            depth -= 1
    return False


_NULL = Raw(b"null")


def _members(raw: Raw | bytes) -> dict[str, Raw]:
    try:
        return _object.decode(raw)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ProtocolError("bad_json", f"the message is not JSON: {error}") from None


class _Fields:
    """A message's members, read one by one; errors name the member."""

    def __init__(self, members: Mapping[str, Raw], where: str) -> None:
        self._members = members
        self._where = where

    def _read(self, key: str, decoder: Any, default: Any, expected: str) -> Any:
        raw = self._members.get(key)
        if raw is None or bytes(raw) == b"null":
            return default
        try:
            return decoder.decode(raw)
        except (msgspec.DecodeError, UnicodeError):
            raise self.bad(key, f"is not {expected}") from None

    def bad(self, key: str, what: str) -> ProtocolError:
        return ProtocolError("bad_field", f"{self._where}.{key} {what}")

    def text(self, key: str, default: str = "") -> str:
        return self._read(key, _string, default, "a string")  # type: ignore[no-any-return]

    def flag(self, key: str) -> bool:
        return self._read(key, _boolean, False, "true or false")  # type: ignore[no-any-return]

    def number(self, key: str, default: int) -> int:
        value: int = self._read(key, _integer, default, "an integer")
        if not 0 <= value < 2**31:
            raise self.bad(key, "is out of range")
        return value

    def time_ms(self, key: str) -> int:
        value: int = self._read(key, _integer, 0, "an integer")
        if not 0 <= value < 2**53:
            raise self.bad(key, "is out of range")
        return value

    def choice(self, key: str, kind: type[_E], default: _E | None = None) -> _E:
        text = self.text(key)
        if not text and default is not None:
            return default
        try:
            return kind(text)
        except ValueError:
            allowed = ", ".join(str(member.value) for member in kind)
            raise self.bad(key, f"is not one of: {allowed}") from None

    def inner(self, key: str) -> _Fields:
        raw = self._members.get(key)
        if raw is None or bytes(raw) == b"null":
            return _Fields({}, f"{self._where}.{key}")
        return _Fields(_members(self.object(key)), f"{self._where}.{key}")

    def object(self, key: str) -> bytes:
        raw = bytes(self._members.get(key, _NULL)).strip()
        if not raw.startswith(b"{"):
            raise self.bad(key, "is not an object")
        # Raw members are parsed only superficially; payloads that we forward must be JSON.
        try:
            msgspec.json.decode(raw, type=dict[str, Raw])
        except (msgspec.DecodeError, UnicodeError):
            raise self.bad(key, "is not an object") from None
        return raw

    def has(self, key: str) -> bool:
        return key in self._members

    def rest(self) -> bytes:
        """Return everything but the envelope, as one object."""
        kept = {k: v for k, v in self._members.items() if k not in ("type", "session_id")}
        return _encode(kept)


# --- device → server ----------------------------------------------------------------


def _audio_params(fields: _Fields, default: m.AudioParams) -> m.AudioParams:
    return m.AudioParams(
        fields.text("format", default.format),
        fields.number("sample_rate", default.sample_rate),
        fields.number("channels", default.channels),
        fields.number("frame_duration", default.frame_duration),
    )


def _hello(fields: _Fields) -> m.Hello:
    features = fields.inner("features")
    return m.Hello(
        # 0: absent; the Protocol-Version header may have it instead.
        version=fields.number("version", 0),
        features=m.Features(
            features.flag("mcp"), features.flag("aec"), features.flag("glyph_push")
        ),
        transport=fields.text("transport", "websocket"),
        audio=_audio_params(fields.inner("audio_params"), m.AudioParams()),
    )


def _listen(fields: _Fields) -> m.Listen:
    # One known server has the state "text"; it is a detect.
    if fields.text("state") == "text":
        state = m.ListenState.DETECT
    else:
        state = fields.choice("state", m.ListenState)
    mode = fields.choice("mode", m.ListenMode, m.ListenMode.AUTO)
    return m.Listen(state, mode, fields.text("text"))


def _image(fields: _Fields) -> m.Image:
    source = fields.inner("image_data") if fields.has("image_data") else fields
    try:
        data = b64decode(source.text("data"), validate=True)
    except (binascii.Error, ValueError):
        raise source.bad("data", "is not base64") from None
    url = source.text("url")
    if not data and not url:
        raise source.bad("data", "is missing; send data or url")
    return m.Image(fields.text("text"), source.text("format"), data, url)


def _mcp(fields: _Fields) -> m.Mcp:
    if not fields.has("payload") and fields.has("jsonrpc"):
        return m.Mcp(fields.rest())
    return m.Mcp(fields.object("payload"))


def _chat(fields: _Fields) -> m.Chat:
    text = fields.text("text")
    if not text:
        raise fields.bad("text", "is missing")
    return m.Chat(text)


_FROM_DEVICE: dict[str, Callable[[_Fields], m.DeviceText]] = {
    "hello": _hello,
    "listen": _listen,
    "chat": _chat,
    "abort": lambda f: m.Abort(f.text("reason")),
    "mcp": _mcp,
    "vision": lambda f: m.Vision(f.text("cmd"), f.rest()),
    "image": _image,
    "iot": lambda f: m.Iot(f.rest()),
    "ping": lambda f: m.Ping(),
    "goodbye": lambda f: m.Goodbye(f.text("reason")),
}

#: Types that a device may send, other than :class:`~xiaozhi.wire.messages.Unknown`.
DEVICE_TYPES = frozenset(_FROM_DEVICE)


# --- server → device ----------------------------------------------------------------


def _server_hello(fields: _Fields) -> m.ServerHello:
    # A device assumes 24000 Hz and 60 ms (§2.2).
    default = m.AudioParams(sample_rate=24000)
    return m.ServerHello(
        fields.text("session_id"),
        _audio_params(fields.inner("audio_params"), default),
        fields.text("transport"),
    )


_FROM_SERVER: dict[str, Callable[[_Fields], m.ServerText]] = {
    "hello": _server_hello,
    "stt": lambda f: m.Stt(f.text("text")),
    "tts": lambda f: m.Tts(f.choice("state", m.TtsState), f.text("text")),
    "llm": lambda f: m.Llm(f.text("emotion"), f.text("text")),
    "alert": lambda f: m.Alert(f.text("status"), f.text("message"), f.text("emotion")),
    "system": lambda f: m.System(f.text("command")),
    "error": lambda f: m.Error(f.text("code"), f.text("message")),
    "pong": lambda f: m.Pong(f.time_ms("timestamp")),
    "mcp": _mcp,
    "image": _image,
    "iot": lambda f: m.Iot(f.rest()),
    "goodbye": lambda f: m.Goodbye(f.text("reason")),
}

#: The same of a server.
SERVER_TYPES = frozenset(_FROM_SERVER)


# --- writing ------------------------------------------------------------------------


def _params(audio: m.AudioParams) -> dict[str, Any]:
    return {
        "format": audio.format,
        "sample_rate": audio.sample_rate,
        "channels": audio.channels,
        "frame_duration": audio.frame_duration,
    }


def _some(**fields: Any) -> dict[str, Any]:
    """Return the fields that are not empty: absent beats null or "" (§9, 13)."""
    return {key: value for key, value in fields.items() if value not in ("", None, False)}


def _fields_of(message: m.DeviceText | m.ServerText) -> tuple[str, dict[str, Any]]:
    kind, fields = _WRITE[type(message)]
    return (message.type if isinstance(message, m.Unknown) else kind), fields(message)


def _write_hello(hello: m.Hello) -> dict[str, Any]:
    features = hello.features
    return {
        "version": hello.version,
        "transport": hello.transport,
        "features": _some(mcp=features.mcp, aec=features.aec, glyph_push=features.glyph_push),
        "audio_params": _params(hello.audio),
    }


def _write_server_hello(hello: m.ServerHello) -> dict[str, Any]:
    return {
        "transport": hello.transport,
        "session_id": hello.session_id,
        "audio_params": _params(hello.audio),
        **hello.more,
    }


def _write_listen(listen: m.Listen) -> dict[str, Any]:
    mode = listen.mode.value if listen.state is m.ListenState.START else ""
    return _some(state=listen.state.value, mode=mode, text=listen.text)


def _write_image(image: m.Image) -> dict[str, Any]:
    data = b64encode(image.data).decode()
    return {
        **_some(text=image.text),
        "image_data": _some(data=data, url=image.url, format=image.format),
    }


_WRITE: dict[type, tuple[str, Callable[[Any], dict[str, Any]]]] = {
    m.Hello: ("hello", _write_hello),
    m.Listen: ("listen", _write_listen),
    m.Chat: ("chat", lambda v: {"text": v.text}),
    m.Abort: ("abort", lambda v: _some(reason=v.reason)),
    m.Image: ("image", _write_image),
    m.Vision: ("vision", lambda v: {**_members(v.payload), "cmd": v.command}),
    m.Ping: ("ping", lambda v: {}),
    m.ServerHello: ("hello", _write_server_hello),
    m.Stt: ("stt", lambda v: {"text": v.text}),
    m.Tts: ("tts", lambda v: _some(state=v.state.value, text=v.text)),
    m.Llm: ("llm", lambda v: _some(emotion=v.emotion, text=v.text)),
    m.Alert: (
        "alert",
        lambda v: {"status": v.status, "message": v.message, "emotion": v.emotion},
    ),
    m.System: ("system", lambda v: {"command": v.command}),
    m.Error: ("error", lambda v: {"code": v.code, "message": v.message}),
    m.Pong: ("pong", lambda v: {"timestamp": v.timestamp}),
    m.Mcp: ("mcp", lambda v: {"payload": Raw(v.payload)}),
    m.Iot: ("iot", lambda v: _members(v.payload)),
    m.Goodbye: ("goodbye", lambda v: _some(reason=v.reason)),
    m.Unknown: ("", lambda v: _members(v.payload)),
}
