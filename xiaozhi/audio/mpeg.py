"""Extraction of MPEG audio frames (MP3, MP2, MP1) and ADTS frames (AAC) from streams with tags."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

# kbit/s by index, ISO 11172-3 2.4.2.3 and ISO 13818-3 2.4.2.3; 0 is free, 15 forbidden.
_RATES_1 = {
    1: (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    2: (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
}
_RATES_2 = {
    1: (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    3: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_HERTZ = (44100, 48000, 32000)
_DIVISOR = {3: 1, 2: 2, 0: 4}  # of the sample rate, by version
_HEADER = 7  # bytes that contain the frame length, for every kind of header
#: Consecutive frames after which chance is ruled out: noise passes for a header in 1 of 2^20 cases.
_CONFIRM = 3


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame's header.

    :ivar codec: libav's name of the codec.
    :ivar form: equal for all frames of one stream.
    """

    codec: str
    form: tuple[int, ...]
    size: int


def header(data: bytes | bytearray, at: int = 0) -> Frame | None:
    """Read the frame header at an offset; ``data`` has at least 7 bytes from there."""
    if data[at] != 0xFF or data[at + 1] & 0xE0 != 0xE0:
        return None
    layer_bits = data[at + 1] >> 1 & 3
    version = data[at + 1] >> 3 & 3
    if not layer_bits:
        return _adts(data, at)
    layer = 4 - layer_bits
    rate, hertz = data[at + 2] >> 4, data[at + 2] >> 2 & 3
    if version == 1 or rate in (0, 15) or hertz == 3 or data[at + 3] & 3 == 2:
        return None
    bits = (_RATES_1 if version == 3 else _RATES_2)[layer][rate] * 1000
    samples = _HERTZ[hertz] // _DIVISOR[version]
    padding = data[at + 2] >> 1 & 1
    if layer == 1:
        size = (12 * bits // samples + padding) * 4
    else:
        size = (72 if layer == 3 and version != 3 else 144) * bits // samples + padding
    return Frame(f"mp{layer}float", (version, layer, hertz), size)


def _adts(data: bytes | bytearray, at: int) -> Frame | None:
    if data[at + 1] & 0xF6 != 0xF0:
        return None
    hertz = data[at + 2] >> 2 & 15
    size = (data[at + 3] & 3) << 11 | data[at + 4] << 3 | data[at + 5] >> 5
    if hertz > 12 or size < 9:
        return None
    return Frame("aac", (data[at + 1] & 0xF8, data[at + 2] >> 6, hertz), size)


def tag_size(data: bytes | bytearray, at: int = 0) -> int:
    """Return the size of the ID3v2, ID3v1 or APE tag at an offset; 0: no tag, or less than its
    header.
    """
    start = data[at : at + 3]
    if start == b"ID3" and len(data) >= at + 10:
        sizes = data[at + 6 : at + 10]
        if data[at + 3] < 0xFF and data[at + 4] < 0xFF and max(sizes) < 0x80:
            size = sizes[0] << 21 | sizes[1] << 14 | sizes[2] << 7 | sizes[3]
            return 10 + size + (10 if data[at + 5] & 0x10 else 0)
    if start == b"TAG":
        return 128
    if data[at : at + 8] == b"APETAGEX" and len(data) >= at + 32:
        return 32 + int.from_bytes(data[at + 12 : at + 16], "little") % (1 << 24)
    return 0


def confirmed(data: bytes, complete: bool) -> bool | None:
    """Return whether a stream begins with frames.

    :param complete: no more data follows, so fewer frames suffice if they fill it.
    :return: None: undecided; more bytes are needed.
    """
    at, form = 0, None
    for _ in range(_CONFIRM):
        if len(data) < at + _HEADER:
            if complete:
                return bool(form) and at <= len(data)
            return None if data[at : at + 1] in (b"", b"\xff") else False
        frame = header(data, at)
        if frame is None or (form is not None and frame.form != form):
            return bool(form) and tag_size(data, at) > 0
        form, at = frame.form, at + frame.size
    return True


class MpegFrames:
    """Splits a stream into frames; input arrives in pieces of any size.

    Several files in a row, with tags before, between and after them, are one stream. Data that is
    neither a frame nor a tag is skipped.

    :ivar fruitless: bytes since the last frame.
    """

    def __init__(self) -> None:
        self._waiting = bytearray()
        self._skip = 0
        self._form: tuple[int, ...] | None = None
        self.fruitless = 0

    def feed(self, data: bytes) -> Iterator[tuple[str, bytes]]:
        """Read a piece of the stream.

        :return: codec and bytes of each complete frame.
        """
        self._waiting += data
        return self._frames(complete=False)

    def finish(self) -> Iterator[tuple[str, bytes]]:
        """End the stream.

        :return: frames that only the end of the stream confirms.
        """
        return self._frames(complete=True)

    def _frames(self, complete: bool) -> Iterator[tuple[str, bytes]]:
        waiting, at = self._waiting, 0
        while True:
            if self._skip:
                taken = min(self._skip, len(waiting) - at)
                at, self._skip = at + taken, self._skip - taken
            if len(waiting) - at < (_HEADER if complete else 32):
                break
            if size := tag_size(waiting, at):
                self._skip, self._form = size, None
                continue
            frame = header(waiting, at)
            if frame is None:
                at, self._form = self._resynchronized(at), None
                continue
            end = at + frame.size
            if len(waiting) < end and not complete:
                break
            if frame.form != self._form:
                # Not synchronised: accept a frame only if another one follows it.
                sure = self._follows(end, frame, complete)
                if sure is None:
                    break
                if not sure:
                    at, self._form = at + 1, None
                    self.fruitless += 1
                    continue
            if len(waiting) < end:
                break  # truncated
            self._form, self.fruitless = frame.form, 0
            yield frame.codec, bytes(waiting[at:end])
            at = end
        del waiting[:at]

    def _resynchronized(self, at: int) -> int:
        """Return the next offset at which a frame or a tag could begin."""
        found = [self._waiting.find(start, at + 1) for start in (b"\xff", b"ID3")]
        place = min((each for each in found if each >= 0), default=len(self._waiting) - 2)
        place = max(place, at + 1)
        self.fruitless += place - at
        return place

    def _follows(self, end: int, frame: Frame, complete: bool) -> bool | None:
        waiting = self._waiting
        if len(waiting) < end + _HEADER:
            return (complete and len(waiting) >= end) or (False if complete else None)
        following = header(waiting, end)
        return (following is not None and following.form == frame.form) or bool(
            tag_size(waiting, end)
        )
