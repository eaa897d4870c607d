"""Packets like those of devices: 150 bytes, and a first byte that says 60 ms of sound."""

from __future__ import annotations

from functools import cache

FRAME_SECONDS = 0.06
FRAME_BYTES = 150

# Packet numbers wrap after half a minute of sound.
NUMBERS = 512

# An Opus packet of one frame of 60 ms (RFC 6716, 3.1); nothing reads the rest.
_TOC = 0x18


@cache
def packet(number: int) -> bytes:
    """Return packet ``number``, which :func:`number_of` decodes."""
    return bytes((_TOC,)) + (number % NUMBERS).to_bytes(2, "big") + bytes(FRAME_BYTES - 3)


def number_of(packet: bytes) -> int:
    return int.from_bytes(packet[1:3], "big")
