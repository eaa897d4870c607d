"""A process's shared use of one Redis: connections, channel and clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from twisted.logger import Logger

from xiaozhi.base.errors import StoreError
from xiaozhi.cache.connection import RedisAddress, RedisConnection
from xiaozhi.cache.serverclock import SharedClock


class RedisHub:
    """Two connections: one for commands, one that listens to this process's own channel.

    A channel message begins with its kind, one word; its registered handler receives it.

    :ivar node: this process's unique name.
    :ivar clock: an estimate of Redis' clock.
    """

    _log = Logger()

    def __init__(
        self,
        address: RedisAddress,
        reactor: Any,
        node: str,
        *,
        timeout: float = 3.0,
        monotonic: Callable[[], float] = monotonic,
        connection: Callable[..., Any] = RedisConnection,
    ) -> None:
        """
        :param timeout: seconds for an answer of Redis; also to connect.
        :param connection: makes a :class:`RedisConnection`, or a test's replacement.
        """
        self.node = node
        self.clock = SharedClock(monotonic)
        self.reactor = reactor
        self._address = address
        # Channels, unlike keys, are shared by all databases of a server.
        self.channels = f"{PREFIX}:{address.database}:node:"
        self._heard_by: dict[str, Callable[[str], None]] = {}
        self._to_tell: list[Callable[[], None]] = []
        self._commands = connection(address, reactor, timeout, regained=self.restore)
        self._news = connection(
            address,
            reactor,
            timeout,
            channel=self.channels + node,
            heard=self._heard,
            regained=self.restore,
        )

    def key(self, *parts: str) -> str:
        """Return the full name of a key."""
        return ":".join((PREFIX, *parts))

    def on(self, kind: str, heard: Callable[[str], None]) -> None:
        """Register the handler of one kind of message to this process."""
        self._heard_by[kind] = heard

    def when_back(self, call: Callable[[], None]) -> None:
        """Register a callback for Redis' return, or for its loss of our data."""
        self._to_tell.append(call)

    async def start(self) -> None:
        """Connect; from then on a lost connection is re-established until :meth:`stop`.

        :raises StoreError: naming the address.
        """
        try:
            await self._commands.start()
            await self._news.start()
            started = self.clock.start()
            seconds, micros = await self.call("execute_command", "TIME")
            self.clock.read(started, int(seconds) * 1_000_000 + int(micros))
        except StoreError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Disconnect. Idempotent."""
        await self._news.stop()
        await self._commands.stop()

    def trouble(self) -> str:
        """Describe the current fault in a few words; empty without one."""
        if not self._commands.connected:
            return f"{self._address}: not connected"
        if not self._news.connected:
            return f"{self._address}: not listening to other nodes"
        return ""

    async def call(self, command: str, *arguments: Any) -> Any:
        """See :meth:`RedisConnection.call`."""
        return await self._commands.call(command, *arguments)

    async def script(self, source: str, keys: Sequence[str], arguments: Sequence[str]) -> Any:
        """See :meth:`RedisConnection.script`."""
        return await self._commands.script(source, keys, arguments)

    async def probe(self) -> None:
        """Check both connections. One only listens and the other may be unused, so nothing
        else would show that they are dead.

        :raises StoreError: one is dead; it is re-established.
        """
        await self._commands.call("ping")
        await self._news.call("ping")

    def restore(self) -> None:
        """Let every part restore the data that Redis may have lost."""
        for call in self._to_tell:
            self.reactor.callLater(0, call)

    def _heard(self, message: str) -> None:
        kind, _, rest = message.partition(" ")
        heard = self._heard_by.get(kind)
        if heard is not None:
            heard(rest)
        else:
            self._log.warn("unknown message {kind} from another node", kind=kind[:50])


# Every key and channel begins with it.
PREFIX = "xiaozhi"
