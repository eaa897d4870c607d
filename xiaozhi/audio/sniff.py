"""Detection of an audio format by its bytes, regardless of the requested or announced format."""

from __future__ import annotations

from enum import Enum

from xiaozhi.audio.mpeg import confirmed, tag_size
from xiaozhi.base.values import Encoding

#: Bytes after which the format is decided, even if text or MPEG is still possible.
LONGEST = 8192
#: Text can be distinguished from samples only in this many bytes, or in a whole stream.
_TEXT = 256
# Bytes that suffice to detect every container.
_MAGIC_SIZE = 12

_CONTROL = frozenset({*range(32), 127}) - {9, 10, 13}


class SoundKind(Enum):
    """Formats that can be decoded, and others that are certainly not raw PCM."""

    PCM = "plain samples"
    WAV = "WAV"
    MPEG = "MP3 or ADTS"
    OGG_OPUS = "Ogg Opus"
    OGG = "another Ogg stream"
    FLAC = "FLAC"
    MP4 = "MP4"
    MATROSKA = "WebM or Matroska"
    AIFF = "AIFF"
    AU = "AU"
    AMR = "AMR"
    CAF = "CAF"
    TEXT = "text"
    OTHER = "no sound"


# Offset and bytes of the signature.
_MAGIC = (
    (SoundKind.FLAC, 0, b"fLaC"),
    (SoundKind.MP4, 4, b"ftyp"),
    (SoundKind.MATROSKA, 0, b"\x1a\x45\xdf\xa3"),
    (SoundKind.AMR, 0, b"#!AMR"),
    (SoundKind.CAF, 0, b"caff\x00\x01"),
    (SoundKind.AU, 0, b".snd\x00\x00"),
    (SoundKind.OTHER, 0, b"RIFX"),
    (SoundKind.OTHER, 0, b"\x89PNG\r\n\x1a\n"),
    (SoundKind.OTHER, 0, b"GIF8"),
    (SoundKind.OTHER, 0, b"\xff\xd8\xff\xe0\x00\x10JFIF"),
    (SoundKind.OTHER, 0, b"PK\x03\x04"),
    (SoundKind.OTHER, 0, b"%PDF-"),
    (SoundKind.OTHER, 0, b"\x1f\x8b\x08"),
    (SoundKind.OTHER, 0, b"\x28\xb5\x2f\xfd"),
)


def is_text(data: bytes) -> bool:
    """Return whether bytes are text in UTF-8, GBK or similar; samples soon have zeros and 0xFF."""
    return bool(data) and not any(byte in _CONTROL or byte == 0xFF for byte in data)


def sniff(head: bytes, expected: Encoding, complete: bool) -> SoundKind | None:
    """Detect the format of a stream.

    :param head: its first bytes.
    :param expected: the announced format: PCM must not be mistaken for a container by chance, and a
        container may begin with junk.
    :param complete: no more data follows.
    :return: None: more bytes are needed, at most :data:`LONGEST`.
    """
    complete = complete or len(head) >= LONGEST
    kind = _container(head, complete)
    if kind is None:
        kind = _mpeg(head, complete)
    if kind is None and not complete and _unsure(head):
        return None
    if kind is None and is_text(head):
        kind = SoundKind.TEXT
    return kind or _EXPECTED[expected]


_EXPECTED = {
    Encoding.PCM: SoundKind.PCM,
    Encoding.WAV: SoundKind.WAV,
    Encoding.MP3: SoundKind.MPEG,
    Encoding.OGG_OPUS: SoundKind.OGG_OPUS,
}


def _container(head: bytes, complete: bool) -> SoundKind | None:
    for kind, at, magic in _MAGIC:
        if head[at : at + len(magic)] == magic:
            return kind
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        return SoundKind.WAV
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return SoundKind.AIFF
    if head[:5] == b"OggS\0" and len(head) >= 27:
        first = 27 + head[26]
        if len(head) < first + 8 and not complete:
            return None
        opus = head[first : first + 8] == b"OpusHead"
        return SoundKind.OGG_OPUS if opus or len(head) < first + 8 else SoundKind.OGG
    return None


def _mpeg(head: bytes, complete: bool) -> SoundKind | None:
    if tag_size(head):
        return SoundKind.MPEG
    return SoundKind.MPEG if confirmed(head, complete) else None


def _unsure(head: bytes) -> bool:
    """Return whether more bytes may reveal a container, MPEG frames or the end of text."""
    if len(head) < _MAGIC_SIZE or head[:5] == b"OggS\0":
        return True
    if confirmed(head, complete=False) is None:
        return True
    return len(head) < _TEXT and is_text(head)
