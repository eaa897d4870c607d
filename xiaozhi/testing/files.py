"""A file store without files."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from xiaozhi.interfaces import IFileStore


@implementer(IFileStore)
class MemoryFiles:
    """:ivar kept: by area and key."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], bytes] = {}

    def put(self, area: str, key: str, data: bytes) -> Deferred[str]:
        self.kept[area, key] = data
        return succeed(key)

    def get(self, area: str, key: str) -> Deferred[bytes | None]:
        return succeed(self.kept.get((area, key)))
