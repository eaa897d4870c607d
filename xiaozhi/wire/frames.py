"""Binary WebSocket messages: one Opus packet, framed as the device announced (§3.1)."""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct

from xiaozhi.base.errors import ProtocolError
from xiaozhi.wire.messages import Audio

# version, type, reserved, timestamp in ms, payload size; big-endian
_V2 = Struct(">HHIII")
# type, reserved, payload size
_V3 = Struct(">BBH")
_OPUS = 0


def framing_of(announced: int) -> int:
    """Return the framing for a device that announced this number.

    Any number except 2 and 3 means raw packets (§3.1).
    """
    return announced if announced in (2, 3) else 1


def pack_v1(audio: Audio) -> bytes:
    return audio.payload


def pack_v2(audio: Audio) -> bytes:
    payload = audio.payload
    return _V2.pack(2, _OPUS, 0, audio.timestamp, len(payload)) + payload


def pack_v3(audio: Audio) -> bytes:
    """Frame a packet.

    :raises ProtocolError: the packet is longer than 65535 bytes.
    """
    payload = audio.payload
    if len(payload) > 0xFFFF:
        raise ProtocolError("frame_too_big", f"{len(payload)} bytes do not fit a version 3 frame")
    return _V3.pack(_OPUS, 0, len(payload)) + payload


def unpack_v1(data: bytes) -> Audio:
    return Audio(data)


def unpack_v2(data: bytes) -> Audio:
    """Return the packet in a frame.

    :raises ProtocolError: header and length disagree, or the payload is not Opus.
    """
    if len(data) < _V2.size:
        if not data:
            return Audio(data)
        raise ProtocolError(
            "bad_frame", f"{len(data)} bytes are not a version 2 frame (header: 16)"
        )
    version, kind, _, timestamp, size = _V2.unpack_from(data)
    if version != 2 or kind != _OPUS:
        raise ProtocolError(
            "bad_frame", f"version 2 frame says version {version}, type {kind}; 2 and 0 expected"
        )
    _check_size(data, _V2.size, size)
    return Audio(data[_V2.size : _V2.size + size], timestamp)


def unpack_v3(data: bytes) -> Audio:
    """Return the packet in a frame.

    :raises ProtocolError: header and length disagree, or the payload is not Opus.
    """
    if len(data) < _V3.size:
        if not data:
            return Audio(data)
        raise ProtocolError("bad_frame", f"{len(data)} bytes are not a version 3 frame (header: 4)")
    kind, _, size = _V3.unpack_from(data)
    if kind != _OPUS:
        raise ProtocolError("bad_frame", f"version 3 frame of type {kind}; 0 (Opus) expected")
    _check_size(data, _V3.size, size)
    return Audio(data[_V3.size : _V3.size + size])


def _check_size(data: bytes, header: int, size: int) -> None:
    # Tolerate bytes after the payload, as devices do.
    if size > len(data) - header:
        raise ProtocolError(
            "bad_frame", f"frame says {size} bytes of payload, {len(data) - header} are there"
        )


Pack = Callable[[Audio], bytes]
Unpack = Callable[[bytes], Audio]

_PACK: dict[int, Pack] = {1: pack_v1, 2: pack_v2, 3: pack_v3}
_UNPACK: dict[int, Unpack] = {1: unpack_v1, 2: unpack_v2, 3: unpack_v3}


def codec(framing: int) -> tuple[Pack, Unpack]:
    """Return the pair of functions for framing 1, 2 or 3.

    An empty message is valid in each of them: a browser ends a recording with one (§13).
    """
    return _PACK[framing], _UNPACK[framing]
