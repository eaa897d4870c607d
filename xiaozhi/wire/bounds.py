"""Bounds of a peer's messages, checked once when the AI service reads them.

Protobuf guarantees types and UTF-8, nothing else. A value outside these bounds is a
:class:`~xiaozhi.base.errors.ProtocolError`: in an opening it refuses the session; in any other
message, that message is skipped. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container
from typing import Any

from xiaozhi.base.errors import ProtocolError
from xiaozhi.wire import messages as m
from xiaozhi.wire.jsontext import deeper_than
from xiaozhi.wire.opus import SAMPLE_RATES

#: Bytes of one Opus packet: 120 ms at the highest rate are 61 KB (RFC 6716, 3.2.1).
LONGEST_PACKET = 65_536

_LONGEST_TEXT = 65_536  # characters
_LONGEST_JSON = 1 << 20  # bytes
_LONGEST_NAME = 255
_MOST_RESTORED = 64
# Levels of JSON. An edge accepts 32 by default and may be configured to accept more.
_DEEPEST = 64

_SESSION_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_HOST = re.compile(r"[A-Za-z0-9._:-]{0,255}")

# ms of sound in one packet to a device; packets from devices may have any duration of Opus.
_DOWNLINK_MS = (20, 40, 60)
_UPLINK_MS = range(1, 121)
_UPLINK_HZ = range(SAMPLE_RATES[0], SAMPLE_RATES[-1] + 1)


def is_session_id(text: str) -> bool:
    """Return whether a text is a valid session id (§2.2)."""
    return _SESSION_ID.fullmatch(text) is not None


def check(message: object) -> None:
    """Check any message of an edge except audio, whose only bound is ``LONGEST_PACKET``.

    :raises ProtocolError: ``bad_field`` or ``too_deep``; names the field.
    """
    checks = _CHECKS.get(type(message))
    if checks is not None:
        checks(message)


def _bad(field: str, wrong: str) -> ProtocolError:
    return ProtocolError("bad_field", f"{field} {wrong}")


def _text(field: str, text: str, most: int = _LONGEST_TEXT) -> None:
    if len(text) > most:
        raise _bad(field, f"has more than {most} characters")


def _name(field: str, text: str, *, needed: bool = False) -> None:
    if needed and not text:
        raise _bad(field, "is missing")
    _text(field, text, _LONGEST_NAME)
    if not text.isprintable():
        raise _bad(field, "has unprintable characters")


def _ascii(field: str, text: str, *, needed: bool = False) -> None:
    _name(field, text, needed=needed)
    if not text.isascii():
        raise _bad(field, "is not ASCII")


def _json(field: str, payload: bytes) -> None:
    if len(payload) > _LONGEST_JSON:
        raise _bad(field, f"has more than {_LONGEST_JSON} bytes")
    if not payload.lstrip().startswith(b"{"):
        raise _bad(field, "is not a JSON object")
    if deeper_than(payload.decode("utf-8", "replace"), _DEEPEST):
        raise ProtocolError("too_deep", f"{field} is nested deeper than {_DEEPEST}")


def _audio_params(
    field: str, params: m.AudioParams, rates: Container[int], durations: Container[int]
) -> None:
    if params.format.lower() != "opus":
        _name(f"{field}.format", params.format)
        raise _bad(f"{field}.format", f"is {params.format!r}, not opus")
    if params.sample_rate not in rates:
        raise _bad(f"{field}.sample_rate", f"is {params.sample_rate} Hz")
    if params.frame_duration not in durations:
        raise _bad(f"{field}.frame_duration", f"is {params.frame_duration} ms")


def _opening(opening: m.SessionOpen) -> None:
    if not is_session_id(opening.session_id):
        raise _bad("session_id", "is not 1-128 letters, digits, _ and -")
    _ascii("device_id", opening.device.device_id, needed=True)
    _ascii("client_id", opening.device.client_id)
    _name("user_id", opening.device.user_id)
    _name("hello.transport", opening.hello.transport)
    _audio_params("hello.audio", opening.hello.audio, _UPLINK_HZ, _UPLINK_MS)
    if opening.hello.audio.channels not in (1, 2):
        raise _bad("hello.audio.channels", f"is {opening.hello.audio.channels}")
    _audio_params("hello.downlink", opening.downlink, SAMPLE_RATES, _DOWNLINK_MS)
    if opening.downlink.channels != 1:
        raise _bad("hello.downlink.channels", f"is {opening.downlink.channels}")
    if _HOST.fullmatch(opening.host) is None:
        raise _bad("hello.host", "is neither a name nor an address")
    if len(opening.restored) > _MOST_RESTORED:
        raise _bad("hello.restored", f"has more than {_MOST_RESTORED} messages")
    for message in opening.restored:
        check(message)


def _listen(message: m.Listen) -> None:
    _text("listen.text", message.text)


def _vision(message: m.Vision) -> None:
    _name("vision.command", message.command)
    _json("vision.payload", message.payload)


def _image(message: m.Image) -> None:
    _text("image.text", message.text)
    _text("image.url", message.url)
    _name("image.format", message.format)


def _unknown(message: m.Unknown) -> None:
    _name("other.type", message.type)
    _json("other.payload", message.payload)


_CHECKS: dict[type, Callable[[Any], None]] = {
    m.SessionOpen: _opening,
    m.SessionClose: lambda message: _text("close.message", message.code + message.message),
    m.Listen: _listen,
    m.Chat: lambda message: _text("chat.text", message.text),
    m.Say: lambda message: _text("say.text", message.text),
    m.Abort: lambda message: _text("abort.reason", message.reason),
    m.Goodbye: lambda message: _text("goodbye.reason", message.reason),
    m.Mcp: lambda message: _json("mcp.payload", message.payload),
    m.Iot: lambda message: _json("iot.payload", message.payload),
    m.Vision: _vision,
    m.Image: _image,
    m.Unknown: _unknown,
}
