"""A self-healing connection to Redis, over txredisapi."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import random
from typing import Any
from urllib.parse import unquote, urlsplit

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as NoAnswer
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from xiaozhi.base.errors import StoreError
from xiaozhi.runtime.connecting import host_endpoint

_FIRST_RETRY = 0.2
_LONGEST_RETRY = 5.0
"""First and longest wait before reconnecting, in seconds; doubles, less a random part up to
half.
"""


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """The address of a Redis server. As text it has no password."""

    host: str
    port: int
    database: int
    user: str
    password: str

    @classmethod
    def parse(cls, url: str) -> RedisAddress:
        """Read ``redis://[:password@]host[:port][/db]``.

        :raises ValueError: not such an address.
        """
        parts = urlsplit(url)
        database = parts.path.removeprefix("/") or "0"
        if parts.scheme != "redis" or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("not a Redis address")
        if not (database.isascii() and database.isdigit()):
            raise ValueError("not a database number")
        return cls(
            host=parts.hostname,
            port=6379 if parts.port is None else parts.port,
            database=int(database),
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
        )

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"redis://{host}:{self.port}/{self.database}"

    def __repr__(self) -> str:
        return f"<RedisAddress {self}>"


class RedisConnection:
    """One connection; commands are answered in the order they were given.

    Errors are :class:`StoreError` with the code ``presence_unavailable``.
    """

    _log = Logger()

    def __init__(
        self,
        address: RedisAddress,
        reactor: Any,
        timeout: float,
        *,
        channel: str = "",
        heard: Callable[[str], None] | None = None,
        regained: Callable[[], None] | None = None,
    ) -> None:
        """
        :param timeout: seconds to connect, and for each answer.
        :param channel: channel to subscribe to; then only ``ping`` may be called.
        :param heard: receives each message of the channel.
        :param regained: called when the connection is back after a loss.
        """
        self._address = address
        self._reactor = reactor
        self._timeout = timeout
        self._channel = channel
        self._heard = heard
        self._regained = regained
        self._protocol: Any = None
        self._open = False
        self._returning: Deferred[None] | None = None

    @property
    def connected(self) -> bool:
        """Whether commands can be sent now."""
        return self._protocol is not None and bool(self._protocol.connected)

    async def start(self) -> None:
        """Connect; from then on a lost connection is re-established until :meth:`stop`."""
        self._open = True
        try:
            await self._connect()
        except Exception as error:
            self._open = False
            raise StoreError(
                "presence_unavailable",
                f"cannot reach the presence cache at {self._address}: {_reason(error)}. Check"
                " that Redis is running and that address and password are right.",
            ) from error

    async def stop(self) -> None:
        """Disconnect for good. Idempotent."""
        self._open = False
        if self._returning is not None:
            self._returning.cancel()
        protocol, self._protocol = self._protocol, None
        if protocol is not None and protocol.connected:
            protocol.transport.loseConnection()
            await protocol.gone

    async def call(self, command: str, *arguments: Any) -> Any:
        """Call one of txredisapi's commands.

        :raises StoreError: not connected, no answer in time, or Redis refuses.
        """
        if not self.connected:
            raise self._failed("not connected")
        try:
            return await self._ask(self._protocol, command, *arguments)
        except CancelledError:
            raise
        except Exception as error:
            raise self._failed(_reason(error)) from error

    async def script(self, source: str, keys: Sequence[str], arguments: Sequence[str]) -> Any:
        """Run a Lua script; its source is sent once, and Redis keeps it."""
        return await self.call("eval", source, list(keys), list(arguments))

    async def _connect(self) -> None:
        address = self._address
        endpoint = host_endpoint(self._reactor, address.host, address.port, timeout=self._timeout)
        protocol: Any = await endpoint.connect(self._factory())
        try:
            if address.password:
                # txredisapi's own login gives up for good when refused.
                await self._ask(protocol, "auth", address.password, address.user or None)
            if self._channel:
                await self._ask(protocol, "subscribe", self._channel)
            else:
                await self._ask(protocol, "select", address.database)
        except BaseException:
            protocol.transport.abortConnection()
            raise
        if not self._open:
            protocol.transport.abortConnection()
            raise CancelledError
        self._protocol = protocol

    def _factory(self) -> Factory:
        # Here, because importing it installs a reactor.
        import txredisapi

        kind = txredisapi.SubscriberProtocol if self._channel else txredisapi.RedisProtocol
        factory = Factory.forProtocol(
            lambda: _connected_to(kind(charset="utf-8", convertNumbers=False), self)
        )
        factory.noisy = False
        return factory

    def lost(self, protocol: Any) -> None:
        """For our protocols: process the event."""
        if self._open and protocol is self._protocol:
            self._returning = Deferred.fromCoroutine(self._return())
            self._returning.addErrback(self._not_returned)

    async def _return(self) -> None:
        self._log.warn("presence cache {address}: connection lost", address=self._address)
        delay = _FIRST_RETRY
        while True:
            await deferLater(self._reactor, delay * (0.5 + random() / 2))
            try:
                await self._connect()
                break
            except CancelledError:
                raise
            except Exception as error:
                if not self._open:  # An endpoint reports its cancellation as another error.
                    raise CancelledError from error
                self._log.debug(
                    "presence cache {address}: not yet: {error}",
                    address=self._address,
                    error=str(error),
                )
                delay = min(delay * 2, _LONGEST_RETRY)
        self._returning = None
        self._log.info("presence cache {address}: connected again", address=self._address)
        if self._regained is not None:
            self._regained()

    def _not_returned(self, failure: Failure) -> None:
        self._returning = None
        if not failure.check(CancelledError):
            self._log.failure("presence cache: reconnecting failed", failure=failure)

    async def _ask(self, protocol: Any, command: str, *arguments: Any) -> Any:
        asked: Deferred[Any] = getattr(protocol, command)(*arguments)
        try:
            return await asked.addTimeout(self._timeout, self._reactor)
        except NoAnswer:
            protocol.transport.abortConnection()
            raise

    def message_received(self, pattern: str | None, channel: str, message: str) -> None:
        """For our protocols: process the event."""
        if self._heard is not None:
            self._heard(message)

    def _failed(self, reason: str) -> StoreError:
        return StoreError(
            "presence_unavailable", f"the presence cache at {self._address}: {reason}"
        )


def _connected_to(protocol: Any, connection: RedisConnection) -> Any:
    """txredisapi reports a protocol's events only to subclasses; this avoids a class that
    could be made only after the late import.
    """
    protocol.gone = Deferred()
    connection_lost = protocol.connectionLost

    def lost(reason: Failure) -> None:
        connection_lost(reason)
        protocol.gone.callback(None)
        connection.lost(protocol)

    protocol.connectionLost = lost
    protocol.messageReceived = connection.message_received
    return protocol


def _reason(error: BaseException) -> str:
    if isinstance(error, NoAnswer):
        return "no answer in time"
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
