"""A file written in parts that gets its name once complete."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from twisted.internet.defer import Deferred, DeferredLock
from zope.interface import implementer

from xiaozhi.base.errors import StoreError
from xiaozhi.interfaces import IFileWriter, Offload


def private_directory(path: Path) -> None:
    """Make a directory and its missing parents, accessible by the owner only.

    :raises OSError: it cannot be made. An existing directory of another user is not
        changed.
    """
    # Path.mkdir does not apply its mode to parents.
    for each in (*reversed(path.parents), path):
        if not each.is_dir():
            each.mkdir(mode=0o700, exist_ok=True)
    if path.stat().st_mode & 0o077:
        with suppress(PermissionError):
            path.chmod(0o700)


@implementer(IFileWriter)
class GrowingFile:
    """See :class:`~xiaozhi.interfaces.IFileWriter`. Made with the first write."""

    def __init__(self, part: Path, path: Path, offload: Offload) -> None:
        """:param part: path while it is written; ``path``: final path, in the same directory."""
        self._part = part
        self._path = path
        self._offload = offload
        # One call at a time, in order.
        self._turn = DeferredLock()

    def write(self, data: bytes) -> Deferred[None]:
        """See :class:`~xiaozhi.interfaces.IFileWriter`."""
        return self._turn.run(self._offload, self._write, data)

    def close(self) -> Deferred[None]:
        """See :class:`~xiaozhi.interfaces.IFileWriter`."""
        return self._turn.run(self._offload, self._close)

    def _write(self, data: bytes) -> None:
        self._checked(lambda: self._append(data))

    def _append(self, data: bytes) -> None:
        private_directory(self._part.parent)
        handle = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(handle, "ab") as file:
            file.write(data)

    def _close(self) -> None:
        if self._part.exists():
            self._checked(lambda: os.replace(self._part, self._path))

    def _checked(self, work: Callable[[], None]) -> None:
        try:
            work()
        except OSError as error:
            raise StoreError(
                "files_unavailable", f"{self._part.parent}: cannot write a file: {error.strerror}"
            ) from error
