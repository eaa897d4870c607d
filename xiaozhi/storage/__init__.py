"""The session log, dialogues, the device registry and tools' values, in SQLite or PostgreSQL."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from xiaozhi.base.errors import StoreError
from xiaozhi.interfaces import IDeviceRegistry, IDialogueStore, ISessionStore, IToolStore
from xiaozhi.storage.database import Connections
from xiaozhi.storage.devices import SqlDeviceRegistry
from xiaozhi.storage.dialects import Postgresql, SqlDialect, Sqlite
from xiaozhi.storage.dialogues import SqlDialogueStore
from xiaozhi.storage.direct import DirectRegistry
from xiaozhi.storage.memory import MemoryDialogueStore
from xiaozhi.storage.spool import Spool
from xiaozhi.storage.store import SessionStore
from xiaozhi.storage.toolvalues import MemoryToolStore, SqlToolStore

__all__ = [
    "DirectRegistry",
    "Spool",
    "devices_from_url",
    "dialogues_from_url",
    "direct_registry",
    "store_from_url",
    "tool_values_from_url",
]

_SQLITE = "sqlite:///"
_POSTGRESQL = ("postgresql://", "postgres://")


def store_from_url(url: str, reactor: Any, *, pool_size: int = 4) -> ISessionStore:
    """Make the session store at an address, not started.

    :param url: ``sqlite:///relative/path``, ``sqlite:////absolute/path``,
        ``sqlite:///:memory:`` or ``postgresql://user:password@host:port/database``,
        the latter with libpq's parameters after a ``?``.
    :param pool_size: connections to PostgreSQL.
    :raises StoreError: ``bad_store_url``; the message never repeats the address,
        which may hold a password.
    """
    return SessionStore(_dialect(url), reactor, connections=Connections(pool_size))


def dialogues_from_url(url: str, reactor: Any, *, pool_size: int = 2) -> IDialogueStore:
    """Make the dialogue store at an address, not started.

    :param url: as :func:`store_from_url`, or ``memory:`` for this process alone.
    :raises StoreError: as :func:`store_from_url`.
    """
    if url == "memory:":
        return MemoryDialogueStore()
    return SqlDialogueStore(
        _dialect(url), reactor, name="dialogue store", connections=Connections(pool_size)
    )


def tool_values_from_url(url: str, reactor: Any, *, pool_size: int = 2) -> IToolStore:
    """Make the store of tools' values; it opens at its first use.

    :param url: as :func:`dialogues_from_url`.
    :raises StoreError: as :func:`store_from_url`.
    """
    if url == "memory:":
        return MemoryToolStore()
    return SqlToolStore(
        _dialect(url), reactor, name="store of tools' values", connections=Connections(pool_size)
    )


def devices_from_url(url: str, reactor: Any, *, pool_size: int = 2) -> IDeviceRegistry:
    """Make the device registry, not started.

    :param url: as :func:`store_from_url`.
    :raises StoreError: as :func:`store_from_url`.
    """
    dialect = _registry_dialect(url)
    return SqlDeviceRegistry(
        dialect, reactor, name="device registry", connections=Connections(pool_size)
    )


def direct_registry(url: str) -> DirectRegistry:
    """Make the device registry for a program without a reactor.

    :param url: as :func:`store_from_url`.
    :raises StoreError: as :func:`store_from_url`.
    """
    return DirectRegistry(_registry_dialect(url))


def _registry_dialect(url: str) -> SqlDialect:
    try:
        return _dialect(url)
    except StoreError as error:
        named = error.message.replace("store.url", "devices.url")
        raise StoreError(error.code, named) from None


def _dialect(url: str) -> SqlDialect:
    if url.startswith(_POSTGRESQL):
        return Postgresql(url)
    path = unquote(url[len(_SQLITE) :]) if url.startswith(_SQLITE) else ""
    if path:
        return Sqlite(path)
    raise StoreError(
        "bad_store_url",
        "store.url: must be sqlite:///path/to/file or"
        " postgresql://user:password@host:port/database",
    )
