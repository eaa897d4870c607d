"""The SQL stores, executing in the calling thread."""

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
    """A pool without threads: the Deferreds it returns have already fired."""

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
    """Make a SQLite session store that works synchronously. Start it before use."""
    reactor: Any = MemoryReactorClock  # not annotated
    return SessionStore(Sqlite(path), reactor(), connections=INLINE, migrations=migrations)


def memory_dialogues(path: str = ":memory:") -> SqlDialogueStore:
    """Make a dialogue store, as :func:`memory_store`."""
    reactor: Any = MemoryReactorClock  # not annotated
    return SqlDialogueStore(Sqlite(path), reactor(), name="dialogue store", connections=INLINE)


def memory_tool_values(path: str = ":memory:") -> SqlToolStore:
    """Make a store of tools' values, as :func:`memory_store`."""
    reactor: Any = MemoryReactorClock  # not annotated
    return SqlToolStore(Sqlite(path), reactor(), name="store of tools' values", connections=INLINE)


def memory_devices(path: str = ":memory:") -> SqlDeviceRegistry:
    """Make a device registry, as :func:`memory_store`."""
    reactor: Any = MemoryReactorClock  # not annotated
    return SqlDeviceRegistry(Sqlite(path), reactor(), name="device registry", connections=INLINE)


def inline_spool(directory: Path, limit: int = 1 << 24) -> Spool:
    """Make a spool that works synchronously."""
    reactor: Any = MemoryReactorClock  # not annotated
    return Spool(directory, reactor(), limit=limit, pool=InlinePool)
