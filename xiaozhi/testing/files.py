"""A file store in memory."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from xiaozhi.interfaces import IFileStore, IFileWriter


@implementer(IFileStore)
class MemoryFiles:
    """Keeps files in a dictionary.

    :ivar kept: contents by area and key.
    """

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], bytes] = {}

    def put(self, area: str, key: str, data: bytes) -> Deferred[str]:
        self.kept[area, key] = data
        return succeed(key)

    def writer(self, area: str) -> IFileWriter:
        return MemoryWriter(self, area)

    def get(self, area: str, key: str) -> Deferred[bytes | None]:
        return succeed(self.kept.get((area, key)))


@implementer(IFileWriter)
class MemoryWriter:
    """Writes one file."""

    def __init__(self, files: MemoryFiles, area: str) -> None:
        self._files = files
        self._area = area
        self._data = b""

    def write(self, data: bytes) -> Deferred[None]:
        self._data += data
        return succeed(None)

    def close(self) -> Deferred[None]:
        if self._data:
            self._files.kept[self._area, f"written {len(self._files.kept)}"] = self._data
        return succeed(None)
