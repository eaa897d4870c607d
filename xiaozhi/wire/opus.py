"""Properties of an Opus packet, read without decoding it (RFC 6716, 3.1)."""

from __future__ import annotations

# Sample rates that a decoder supports, in Hz (§2.2).
SAMPLE_RATES = (8000, 12000, 16000, 24000, 48000)

_SILK = (10.0, 20.0, 40.0, 60.0)
_HYBRID = (10.0, 20.0)
_CELT = (2.5, 5.0, 10.0, 20.0)
_LONGEST = 120


def _frame_ms(config: int) -> float:
    if config < 12:
        return _SILK[config % 4]
    if config < 16:
        return _HYBRID[config % 2]
    return _CELT[config % 4]


# By first byte; 0 if the second byte has the number of frames.
_PACKET_MS = tuple((1, 2, 2, 0)[first & 3] * _frame_ms(first >> 3) for first in range(256))
_FRAME_MS = tuple(_frame_ms(first >> 3) for first in range(256))


# By first byte of a packet with one SILK layer in one frame: its number of 20 ms parts, each with
# its own voice flag; 0: it has no such flags, or has them elsewhere.
_FLAGS = tuple(
    0 if first & 3 or first >> 3 >= 16 else max(1, int(_frame_ms(first >> 3) // 20))
    for first in range(256)
)


def has_voice(packet: bytes) -> bool | None:
    """Return whether the encoder classified the sound as speech, read from the packet.

    A SILK layer begins with one voice-activity bit for each 20 ms, coded so that they are the first
    bits of the frame (RFC 6716, 4.2.3). Devices send mono with one frame in a packet; a packet of
    one byte (DTX) is silence.

    :return: None: the packet has no such bits, e.g. because it is CELT alone.
    """
    if len(packet) < 2:
        return False
    flags = _FLAGS[packet[0]]
    return packet[1] >> (8 - flags) != 0 if flags else None


def packet_ms(packet: bytes) -> float:
    """Return the ms of sound in a packet, 2.5 to 120; 0 if it cannot be an Opus packet."""
    if not packet:
        return 0.0
    first = packet[0]
    length = _PACKET_MS[first]
    if not length:
        if len(packet) < 2:
            return 0.0
        length = (packet[1] & 0x3F) * _FRAME_MS[first]
    return length if length <= _LONGEST else 0.0
