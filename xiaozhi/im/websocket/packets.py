"""Fast path for the WebSocket frames of audio packets, which are nearly all traffic.

Autobahn's general parser costs three times as much as all other work on a packet of 150
bytes. Devices send complete, short, masked binary frames. These are parsed here; Autobahn
parses everything else with all its checks.
"""

from __future__ import annotations

# Maximum payload bytes: above those of Opus at 60 ms, below every message limit.
MOST = 1023

_FINAL_BINARY = 0x82
_MASKED = 0x80
_TWO_MORE_BYTES = _MASKED | 126


def packet_at(data: bytes, at: int) -> tuple[bytes, int] | None:
    """Return the payload of the frame at ``at``, and the index of the next frame.

    :return: None unless it is a complete, final, masked binary frame of at most :data:`MOST`
        bytes with its length in the shortest form.
    """
    if len(data) - at < 6 or data[at] != _FINAL_BINARY:
        return None
    size = data[at + 1]
    if size == _TWO_MORE_BYTES:
        size = data[at + 2] << 8 | data[at + 3]
        if not 126 <= size <= MOST:
            return None
        start = at + 8
    else:
        size -= _MASKED
        if not 0 <= size < 126:
            return None
        start = at + 6
    end = start + size
    if len(data) < end:
        return None
    return _unmasked(data[start - 4 : start], data[start:end]), end


def _unmasked(mask: bytes, payload: bytes) -> bytes:
    # XOR of two large integers is many times faster than byte by byte.
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")
