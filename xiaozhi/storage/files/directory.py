"""Directories of files with a maximum age and total size."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

from twisted.internet.defer import Deferred
from zope.interface import implementer

from xiaozhi.base.errors import StoreError
from xiaozhi.interfaces import IFileStore, IFileWriter, Offload
from xiaozhi.storage.files.growing import GrowingFile, private_directory

# Being written; the remains of a killed process's file are removed later.
_PART = ".part"
_PART_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Area:
    """Retention of one area of files; the least recently used are removed first.

    :ivar max_age: seconds since a file's last write or read; 0: no limit.
    :ivar max_bytes: total size; 0: no limit.
    :ivar suffix: of their names: ``.jpg``.
    """

    max_age: float
    max_bytes: int
    suffix: str = ""


@implementer(IFileStore)
class DirectoryFiles:
    """A directory per area, readable by its owner only, that processes may share.

    A file is written beside its place and renamed, so it is complete or absent. It is not
    synced: a power cut may lose or empty the last ones. A name is the digest of the key, so
    it contains no outside input.

    :ivar removed: files that retention has removed.
    """

    def __init__(
        self,
        directory: Path,
        areas: Mapping[str, Area],
        offload: Offload,
        seconds: Callable[[], float] = time.time,
    ) -> None:
        """:param seconds: the clock of the file system: seconds since the epoch."""
        self._directory = directory
        self._areas = areas
        self._offload = offload
        self._seconds = seconds
        self.removed = 0

    def put(self, area: str, key: str, data: bytes) -> Deferred[str]:
        """See :class:`~xiaozhi.interfaces.IFileStore`."""
        return self._offload(self._put, area, self._name(area, key), data)

    def get(self, area: str, key: str) -> Deferred[bytes | None]:
        """See :class:`~xiaozhi.interfaces.IFileStore`."""
        return self._offload(self._get, area, self._name(area, key))

    def writer(self, area: str) -> IFileWriter:
        """See :class:`~xiaozhi.interfaces.IFileStore`."""
        directory, suffix = self._directory / area, self._areas[area].suffix
        began = datetime.fromtimestamp(self._seconds(), UTC)
        stem = f"{began:%Y%m%dT%H%M%S}-{uuid4().hex[:12]}"
        part = directory / f"{stem}{suffix}{_PART}"
        return GrowingFile(part, directory / f"{stem}{suffix}", self._offload)

    def purge(self, most: int) -> Deferred[int]:
        """Remove files that are too old or too many, and unfinished ones.

        :param most: files to remove at once.
        :return: number removed; less than ``most``: all are removed.
        """
        return self._offload(self._purge, most)

    def _name(self, area: str, key: str) -> str:
        # An unknown area is a programming error.
        return sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:40] + (
            self._areas[area].suffix
        )

    # --- in a worker thread -------------------------------------------------------

    def _put(self, area: str, name: str, data: bytes) -> str:
        directory = self._directory / area
        part = directory / f"{name}.{uuid4().hex}{_PART}"
        try:
            private_directory(directory)
            handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                os.replace(part, directory / name)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise StoreError(
                "files_unavailable", f"{directory}: cannot write a file: {error.strerror}"
            ) from error
        return name

    def _get(self, area: str, name: str) -> bytes | None:
        path = self._directory / area / name
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(
                "files_unavailable", f"{path.parent}: cannot read a file: {error.strerror}"
            ) from error
        now = self._seconds()
        # Read-only, or just removed: it only counts as older than it is.
        with suppress(OSError):
            os.utime(path, (now, now))
        return data

    def _purge(self, most: int) -> int:
        gone = 0
        for name, area in self._areas.items():
            for path in self._superfluous(self._directory / name, area):
                if gone >= most:
                    return gone
                try:
                    path.unlink()
                    gone += 1
                    self.removed += 1
                except FileNotFoundError:
                    # Another process removed it first.
                    continue
                except OSError as error:
                    raise StoreError(
                        "files_unavailable", f"{path}: cannot remove it: {error.strerror}"
                    ) from error
        return gone

    def _superfluous(self, directory: Path, area: Area) -> list[Path]:
        now = self._seconds()
        kept: list[tuple[float, int, Path]] = []
        gone: list[Path] = []
        try:
            entries = list(os.scandir(directory))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(
                "files_unavailable", f"{directory}: cannot be read: {error.strerror}"
            ) from error
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            age = now - status.st_mtime
            limit = _PART_SECONDS if entry.name.endswith(_PART) else area.max_age
            if limit and age > limit:
                gone.append(Path(entry.path))
            elif not entry.name.endswith(_PART):
                kept.append((status.st_mtime, status.st_size, Path(entry.path)))
        total = sum(size for _, size, _ in kept)
        kept.sort()
        for _, size, path in kept:
            if not area.max_bytes or total <= area.max_bytes:
                break
            total -= size
            gone.append(path)
        return gone
