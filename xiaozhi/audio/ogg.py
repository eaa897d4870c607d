"""Ogg pages (RFC 3533) to packets, and the header of an Opus stream (RFC 7845)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from xiaozhi.base.errors import ProviderError

#: The longest packet that may be assembled from pages; Opus audio stays far below.
_MAX_PACKET = 1 << 20

_HEADER = struct.Struct("<4sBBqIIIB")
_CONTINUED, _FIRST, _LAST = 1, 2, 4


def _bad(message: str) -> ProviderError:
    return ProviderError("bad_sound", message, retryable=False)


class OggPackets:
    """Extracts the packets of the first stream in an Ogg file; pages arrive in any pieces.

    A file that follows the first one is read too: some vendors send one for each sentence.
    Checksums are not verified: the transport below does that.

    :ivar file: the number of the file of the current packets, from 0.
    """

    def __init__(self) -> None:
        self._waiting = bytearray()
        self._partial = bytearray()
        self._serial: int | None = None
        self._begun = False
        self.file = 0

    def feed(self, data: bytes) -> Iterator[tuple[bytes, int | None]]:
        """Read a piece of the file.

        :return: each packet; with those of the stream's last page, the position in samples at 48
            kHz at which the stream ends.
        :raises ProviderError: ``bad_sound``, while iterating.
        """
        self._waiting += data
        while (page := self._page()) is not None:
            yield from page

    def _page(self) -> list[tuple[bytes, int | None]] | None:
        waiting = self._waiting
        if waiting[:4] != b"OggS"[: len(waiting)]:
            raise _bad("not an Ogg stream: no page at the expected offset")
        if len(waiting) < _HEADER.size:
            return None
        _, version, flags, position, serial, _, _, count = _HEADER.unpack_from(waiting)
        if version != 0:
            raise _bad(f"Ogg version {version} is not supported")
        body = _HEADER.size + count
        if len(waiting) < body:
            return None
        lacing = bytes(waiting[_HEADER.size : body])
        end = body + sum(lacing)
        if len(waiting) < end:
            return None
        content = bytes(waiting[body:end])
        del waiting[:end]
        first = bool(flags & _FIRST)
        if first and self._begun:
            self.file += 1
        if self._serial is None or (first and self._begun):
            self._serial, self._begun = serial, False
            self._partial.clear()
        # First pages of all streams of a file come before any other page.
        self._begun = self._begun or not first
        if serial != self._serial:
            return []
        if not flags & _CONTINUED:
            self._partial.clear()
        last = position if flags & _LAST and position >= 0 else None
        return [(packet, last) for packet in self._packets(lacing, content)]

    def _packets(self, lacing: bytes, content: bytes) -> Iterator[bytes]:
        at = 0
        for size in lacing:
            self._partial += content[at : at + size]
            at += size
            if len(self._partial) > _MAX_PACKET:
                raise _bad("an Ogg packet is longer than 1 MiB")
            if size < 255:
                yield bytes(self._partial)
                self._partial.clear()


@dataclass(frozen=True, slots=True)
class OpusHead:
    """The header of an Opus stream.

    :ivar pre_skip: samples at 48 kHz to skip at the start.
    """

    channels: int
    pre_skip: int


def parse_opus_head(packet: bytes) -> OpusHead:
    """Read the header of an Opus stream.

    :raises ProviderError: ``bad_sound``: not Opus, or more than two channels.
    """
    if len(packet) < 19 or packet[:8] != b"OpusHead":
        raise _bad("the Ogg stream does not contain Opus")
    version, channels, pre_skip, _, _, family = struct.unpack_from("<BBHIhB", packet, 8)
    if version >> 4:
        raise _bad(f"Ogg Opus version {version} is not supported")
    if family != 0 or not 1 <= channels <= 2:
        raise _bad(f"Ogg Opus with {channels} channels is not supported")
    return OpusHead(channels, pre_skip)
