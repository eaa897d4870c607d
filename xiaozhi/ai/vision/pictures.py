"""Read a picture's format and size from its header, without decoding it."""

from __future__ import annotations

from struct import error as StructError
from struct import unpack_from

from xiaozhi.base.errors import ProtocolError
from xiaozhi.base.values import Picture

_MOST_SEGMENTS = 1024  # of a JPEG before its size; keeps the search short
_PLAIN_MARKERS = frozenset({0x01, *range(0xD0, 0xD8)})  # without a length
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def sent_picture(data: bytes, max_pixels: int) -> Picture:
    """Check the picture of an ``image`` message.

    :param data: empty: the message has a URL instead.
    :raises ProtocolError: as :func:`read_picture`, or ``unsupported``.
    """
    if not data:
        raise ProtocolError("unsupported", "image.url: send the picture as data")
    try:
        return read_picture(data, max_pixels)
    except ProtocolError as error:
        raise ProtocolError(error.code, f"image.data: {error.message}") from None


def read_picture(data: bytes, max_pixels: int) -> Picture:
    """Check a picture before it is decoded.

    :param max_pixels: largest width × height; a few bytes can claim to be
        gigabytes of pixels.
    :raises ProtocolError: ``not_a_picture``, ``bad_picture`` or
        ``picture_too_large``.
    """
    media_type = media_type_of(data)
    if media_type is None:
        raise ProtocolError("not_a_picture", "the file is not JPEG, PNG, GIF, WebP or BMP")
    try:
        width, height = _SIZES[media_type](data)
    except (StructError, IndexError):
        raise ProtocolError("bad_picture", "the picture's header is incomplete") from None
    if width < 1 or height < 1:
        raise ProtocolError("bad_picture", f"the picture's header claims {width}x{height} pixels")
    if width * height > max_pixels:
        raise ProtocolError(
            "picture_too_large",
            f"the picture has {width}x{height} pixels, more than {max_pixels} in total",
        )
    return Picture(data=data, media_type=media_type, width=width, height=height)


def media_type_of(data: bytes) -> str | None:
    """Return the media type by the magic bytes; None: unknown."""
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data.startswith(b"BM"):
        return "image/bmp"
    return None


def _bad() -> ProtocolError:
    return ProtocolError("bad_picture", "the picture's header cannot be read")


def _jpeg(data: bytes) -> tuple[int, int]:
    """ITU T.81, B.2: segments up to the first start of frame."""
    at = 2
    for _ in range(_MOST_SEGMENTS):
        if data[at] != 0xFF:
            raise _bad()
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in _PLAIN_MARKERS:
            at += 2
        elif marker in _FRAME_MARKERS:
            height, width = unpack_from(">HH", data, at + 5)
            return width, height
        else:
            (length,) = unpack_from(">H", data, at + 2)
            if length < 2 or marker in (0xD9, 0xDA):
                raise _bad()
            at += 2 + length
    raise _bad()


def _png(data: bytes) -> tuple[int, int]:
    length, kind, width, height = unpack_from(">I4sII", data, 8)
    if length != 13 or kind != b"IHDR":
        raise _bad()
    return width, height


def _gif(data: bytes) -> tuple[int, int]:
    width, height = unpack_from("<HH", data, 6)
    return width, height


def _webp(data: bytes) -> tuple[int, int]:
    """RFC 9649: a lossy, a lossless or an extended first chunk."""
    kind = data[12:16]
    if kind == b"VP8 ":
        start, width, height = unpack_from("<3sHH", data, 23)
        if start != b"\x9d\x01\x2a":
            raise _bad()
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        signature, bits = unpack_from("<BI", data, 20)
        if signature != 0x2F:
            raise _bad()
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        unpack_from("<10s", data, 20)  # all of it must be there
        return (
            int.from_bytes(data[24:27], "little") + 1,
            int.from_bytes(data[27:30], "little") + 1,
        )
    raise _bad()


def _bmp(data: bytes) -> tuple[int, int]:
    (header,) = unpack_from("<I", data, 14)
    width: int
    height: int
    if header == 12:
        width, height = unpack_from("<HH", data, 18)
        return width, height
    if not 40 <= header <= 124:
        raise _bad()
    width, height = unpack_from("<ii", data, 18)
    return width, abs(height)  # negative: rows from the top


_SIZES = {
    "image/jpeg": _jpeg,
    "image/png": _png,
    "image/gif": _gif,
    "image/webp": _webp,
    "image/bmp": _bmp,
}
