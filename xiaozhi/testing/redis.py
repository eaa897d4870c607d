"""Redis in the test process on virtual time: fakeredis behind our connection class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import patch

import fakeredis
from twisted.internet.task import Clock

from xiaozhi.base.errors import StoreError
from xiaozhi.cache.connection import RedisAddress
from xiaozhi.cache.hub import RedisHub


class FakeRedis:
    """One Redis server.

    :ivar offset: seconds by which its clock is ahead of virtual time.
    :ivar away: whether it is unreachable.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.offset = 1_790_000_000.0
        self.away = False
        self._runs_left: int | None = None
        self._done = False
        self._server = fakeredis.FakeServer()
        self._client = fakeredis.FakeRedis(server=self._server, decode_responses=True)
        self._connections: list[FakeConnection] = []

    def hub(self, node: str, skew: float = 0.0) -> RedisHub:
        """Make the hub of a process, not started.

        :param skew: seconds by which the process's clock is ahead of virtual time.
        """
        return RedisHub(
            RedisAddress("fake", 6379, 0, "", ""),
            self.clock,
            node,
            monotonic=lambda: self.clock.seconds() + skew,
            connection=self._connection,
        )

    def fail(self) -> None:
        """Break all connections and refuse new ones."""
        self.away = True

    def fail_after(self, commands: int, *, done: bool = False) -> None:
        """Fail after this number of further commands.

        :param done: the next command is executed and only its reply is lost.
        """
        self._runs_left = commands
        self._done = done

    def recover(self, *, empty: bool = False) -> None:
        """Become reachable again; every connection is re-established.

        :param empty: all data is lost.
        """
        self._runs_left = None
        if empty:
            self.run("FLUSHALL")
        if self.away:
            self.away = False
            for connection in self._connections:
                if connection.open:
                    connection.regained()

    def run(self, *command: Any) -> Any:
        """Execute a command. Its publications are delivered in a delayed call."""
        if self._runs_left is not None:
            self._runs_left -= 1
            if self._runs_left < 0:
                self._runs_left = None
                if self._done:
                    self.run(*command)
                self.fail()
                raise StoreError("presence_unavailable", "connection lost")
        # fakeredis reads this clock for expiry and TIME.
        with patch("time.time", lambda: self.offset + self.clock.seconds()):
            answer = self._client.execute_command(*command)
        for connection in self._connections:
            connection.listen()
        return answer

    def subscription_lost(self, number: int) -> None:
        """Lose the next message on the channel of a hub; hubs count from 0."""
        self._connections[2 * number + 1].loses_next = True

    def subscription(self, channel: str) -> Any:
        """Subscribe to a channel directly at the server."""
        subscription = self._client.pubsub(ignore_subscribe_messages=True)
        subscription.subscribe(channel)
        return subscription

    def _connection(self, address: object, reactor: object, timeout: float, **named: Any) -> Any:
        connection = FakeConnection(self, **named)
        self._connections.append(connection)
        return connection


class FakeConnection:
    """Behaves as a :class:`~xiaozhi.cache.connection.RedisConnection` that replies at once."""

    def __init__(
        self,
        server: FakeRedis,
        *,
        channel: str = "",
        heard: Callable[[str], None] | None = None,
        regained: Callable[[], None] | None = None,
    ) -> None:
        self._server = server
        self._channel = channel
        self._heard = heard
        self._subscription: Any = None
        self.regained = regained or (lambda: None)
        self.open = False
        self.loses_next = False

    @property
    def connected(self) -> bool:
        return self.open and not self._server.away

    async def start(self) -> None:
        self.open = True
        if self._channel:
            self._subscription = self._server.subscription(self._channel)

    async def stop(self) -> None:
        self.open = False
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None

    async def call(self, command: str, *arguments: Any) -> Any:
        self._check()
        if command == "execute_command":
            (command,) = arguments
            arguments = ()
        if command == "hmget":
            key, fields = arguments
            arguments = (key, *fields)
        return self._server.run(command.upper(), *arguments)

    async def script(self, source: str, keys: Sequence[str], arguments: Sequence[str]) -> Any:
        self._check()
        return self._server.run("EVAL", source, len(keys), *keys, *arguments)

    def listen(self) -> None:
        """Deliver published messages; those published while the server is away are lost."""
        if self._subscription is None:
            return
        while (message := self._subscription.get_message()) is not None:
            lost, self.loses_next = self.loses_next, False
            if self.connected and not lost:
                self._server.clock.callLater(0.001, self._hear, message["data"])

    def _hear(self, message: str) -> None:
        if self.connected and self._heard is not None:
            self._heard(message)

    def _check(self) -> None:
        if not self.connected:
            raise StoreError("presence_unavailable", "not connected")
