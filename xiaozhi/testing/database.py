"""The real stores, run to completion in the calling thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, execute
from twisted.internet.testing import MemoryReactorClock

from xiaozhi.storage.database import Connections, Pool
from xiaozhi.storage.devices import SqlDeviceRegistry
from xiaozhi.storage.dialects import Sqlite
from xiaozhi.storage.dialogues import SqlDialogueStore
from xiaozhi.storage.schema import MIGRATIONS, Migration
from xiaozhi.storage.spool import Spool
from xiaozhi.storage.store import SessionStore
from xiaozhi.storage.toolvalues import SqlToolStore

T = TypeVar("T")


class InlinePool(Pool):
    """A pool without threads: every Deferred has fired when it is returned."""

    def start(self) -> None:
        self.running = True

    def runWithConnection(self, func: Callable[..., T], *args: Any, **kw: Any) -> Deferred[T]:
        return execute(self._runWithConnection, func, *args, **kw)

    def close(self) -> None:
        for connection in self.connections.values():
            connection.close()
        self.connections.clear()


INLINE = Connections(pool=InlinePool)


def memory_store(
    path: str = ":memory:", migrations: Sequence[Migration] = MIGRATIONS
) -> SessionStore:
    """A SQLite store whose methods are done when they return; start it first."""
    reactor: Any = MemoryReactorClock  # not annotated
    return SessionStore(Sqlite(path), reactor(), connections=INLINE, migrations=migrations)


def memory_dialogues(path: str = ":memory:") -> SqlDialogueStore:
    """As :func:`memory_store`, for dialogues."""
    reactor: Any = MemoryReactorClock  # not annotated
    return SqlDialogueStore(Sqlite(path), reactor(), name="dialogue store", connections=INLINE)


def memory_tool_values(path: str = ":memory:") -> SqlToolStore:
    """As :func:`memory_store`, for tools' values."""
    reactor: Any = MemoryReactorClock  # not annotated
    return SqlToolStore(Sqlite(path), reactor(), name="store of tools' values", connections=INLINE)


def memory_devices(path: str = ":memory:") -> SqlDeviceRegistry:
    """As :func:`memory_store`, for the device registry."""
    reactor: Any = MemoryReactorClock  # not annotated
    return SqlDeviceRegistry(Sqlite(path), reactor(), name="device registry", connections=INLINE)


def inline_spool(directory: Path, limit: int = 1 << 24) -> Spool:
    """A spool whose methods are done when they return."""
    reactor: Any = MemoryReactorClock  # not annotated
    return Spool(directory, reactor(), limit=limit, pool=InlinePool)
