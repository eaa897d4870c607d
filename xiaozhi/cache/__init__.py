"""Presence: which device is connected where, in this process or through Redis."""

from __future__ import annotations

from typing import Any

from xiaozhi.cache.connection import RedisAddress
from xiaozhi.cache.local import LocalPresence
from xiaozhi.cache.redis import RedisPresence
from xiaozhi.errors import StoreError
from xiaozhi.interfaces import IPresence

__all__ = ["LocalPresence", "RedisAddress", "RedisPresence", "presence_from_url"]


def presence_from_url(url: str, reactor: Any, node: str) -> IPresence:
    """The presence at an address, not started.

    :param url: ``memory:`` for a single process, or
        ``redis://[[user]:password@]host[:port][/db]``.
    :param node: name of this edge process, unlike any other's.
    :raises StoreError: ``bad_presence_url``; the message never repeats the address,
        which may hold a password.
    """
    if url == "memory:":
        return LocalPresence()
    try:
        return RedisPresence(RedisAddress.parse(url), reactor, node)
    except ValueError:
        raise StoreError(
            "bad_presence_url",
            "presence.url: must be memory: or redis://:password@host:port/db",
        ) from None
