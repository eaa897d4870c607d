"""Presence backends: the device state that edges share, in one process or in Redis."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from xiaozhi.base.errors import StoreError
from xiaozhi.cache.connection import RedisAddress
from xiaozhi.cache.hub import RedisHub
from xiaozhi.cache.local import LocalPresence
from xiaozhi.cache.localinbox import LocalInbox
from xiaozhi.cache.redis import RedisPresence
from xiaozhi.cache.redisinbox import RedisInbox
from xiaozhi.cache.registry import NodeRegistry
from xiaozhi.cache.settings import InboxSettings, PresenceAddress, PresenceSettings

Describe = Callable[[], Mapping[str, Any]]
"""Returns the entry that other nodes see of this one."""


class PresenceBackend(Protocol):
    """Presence and inboxes of devices, and the list of edges.

    :ivar presence: an :class:`~xiaozhi.interfaces.IPresence`.
    :ivar inbox: an :class:`~xiaozhi.interfaces.IDeviceInbox` and
        :class:`~xiaozhi.interfaces.IInboxReader`.
    """

    presence: Any
    inbox: Any

    def nodes(self) -> list[dict[str, Any]]:
        """Return all edges as of the last heartbeat, by name."""

    def trouble(self) -> str:
        """Describe the current fault in a few words; empty without one."""

    def start(self) -> Deferred[None]:
        """Connect.

        :raises StoreError: names the address.
        """

    def stop(self) -> Deferred[None]:
        """Remove this process's entries, and disconnect."""


class LocalBackend:
    """Presence backend of a single edge, in its process."""

    def __init__(self, clock: Any, node: str, describe: Describe, inbox: InboxSettings) -> None:
        self.presence = LocalPresence()
        self.inbox = LocalInbox(clock, node, inbox)
        self._node = node
        self._describe = describe

    def nodes(self) -> list[dict[str, Any]]:
        return [{**self._describe(), "node": self._node}]

    def trouble(self) -> str:
        return ""

    def start(self) -> Deferred[None]:
        return self.presence.start()

    def stop(self) -> Deferred[None]:
        return self.presence.stop()


class RedisBackend:
    """Presence backend of an edge that shares Redis with others."""

    def __init__(
        self,
        hub: RedisHub,
        boot: str,
        describe: Describe,
        presence: PresenceSettings,
        inbox: InboxSettings,
    ) -> None:
        """:param boot: unique id of this run of the process."""
        self._hub = hub
        self.presence = RedisPresence(
            hub, ttl=presence.claim_ttl, refresh_interval=presence.refresh_interval
        )
        self.inbox = RedisInbox(hub, inbox)
        self._registry = NodeRegistry(
            hub, boot, describe, ttl=presence.node_ttl, interval=presence.heartbeat_interval
        )

    def nodes(self) -> list[dict[str, Any]]:
        return self._registry.nodes()

    def trouble(self) -> str:
        return self._hub.trouble() or self._registry.trouble()

    def start(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._start())

    def stop(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    async def _start(self) -> None:
        await self._hub.start()
        try:
            await self._registry.start()
            await self.presence.start()
        except BaseException:
            await self._hub.stop()
            raise

    async def _stop(self) -> None:
        self.inbox.stop()
        await self.presence.stop()
        await self._registry.stop()
        await self._hub.stop()


class RedisPoster:
    """Posts messages to the edges' devices, from a process without devices."""

    def __init__(self, hub: RedisHub, interval: float, inbox: InboxSettings) -> None:
        """:param interval: seconds between two checks of Redis."""
        self._hub = hub
        self.inbox = RedisInbox(hub, inbox)
        self._interval = interval
        self._looking = LoopingCall(self._look)
        self._looking.clock = hub.reactor

    def trouble(self) -> str:
        """Describe the current fault in a few words; empty without one."""
        return self._hub.trouble()

    def start(self) -> Deferred[None]:
        """Connect.

        :raises StoreError: names the address.
        """
        return Deferred.fromCoroutine(self._start())

    def stop(self) -> Deferred[None]:
        """Disconnect."""
        if self._looking.running:
            self._looking.stop()
        return Deferred.fromCoroutine(self._hub.stop())

    async def _start(self) -> None:
        await self._hub.start()
        self._looking.start(self._interval, now=False)

    def _look(self) -> Deferred[None]:
        # trouble() reports the result, and the connection is made again.
        return Deferred.fromCoroutine(self._hub.probe()).addErrback(_expected)


def _expected(failure: Failure) -> None:
    failure.trap(StoreError)


class NoPoster:
    """Replaces :class:`RedisPoster` without Redis: no device can be reached."""

    inbox = None

    def trouble(self) -> str:
        """Return no fault."""
        return ""

    def start(self) -> Deferred[None]:
        """Do nothing."""
        return succeed(None)

    def stop(self) -> Deferred[None]:
        """Do nothing."""
        return succeed(None)


def presence_backend(
    presence: PresenceSettings,
    inbox: InboxSettings,
    reactor: Any,
    node: str,
    boot: str,
    describe: Describe,
) -> PresenceBackend:
    """Make the presence backend of an edge, not started.

    :param node: unique name of this edge process.
    :param boot: unique id of this run of it.
    :raises StoreError: ``bad_presence_url``; the message never repeats the address,
        which may hold a password.
    """
    if presence.url == "memory:":
        return LocalBackend(reactor, node, describe, inbox)
    return RedisBackend(_hub(presence, reactor, node), boot, describe, presence, inbox)


def outside(
    presence: PresenceAddress, inbox: InboxSettings, reactor: Any, node: str
) -> RedisPoster | NoPoster:
    """Make the poster of a process without devices, not started. Errors as
    :func:`presence_backend`.
    """
    if presence.url == "memory:":
        return NoPoster()
    # An edge may have the same name.
    return RedisPoster(
        _hub(presence, reactor, f"outside:{node}"), presence.heartbeat_interval, inbox
    )


def _hub(presence: PresenceAddress, reactor: Any, node: str) -> RedisHub:
    try:
        address = RedisAddress.parse(presence.url)
    except ValueError:
        raise StoreError(
            "bad_presence_url",
            "presence.url: must be memory: or redis://:password@host:port/db",
        ) from None
    return RedisHub(address, reactor, node, timeout=presence.timeout)
