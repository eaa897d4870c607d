"""A WebSocket client for vendors that stream over one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from xiaozhi.base.errors import ConfigError, ProviderError
from xiaozhi.providers.kit.errors import RETRYABLE, error_text, meaning_of_refusal
from xiaozhi.providers.kit.redaction import Redaction
from xiaozhi.runtime.connecting import host_endpoint

_PORTS = {"ws": 80, "wss": 443}
# Bytes of an answer other than 101 that are read for the vendor's error text.
_ERROR_LIMIT = 16 * 1024
# Bytes of messages that wait for the caller; above this the vendor is paused.
_HIGH_WATER, _LOW_WATER = 262_144, 65_536
# Seconds for the vendor to answer our Close frame before TCP is dropped.
_FAREWELL = 1.0

Message = str | bytes


@dataclass(frozen=True, slots=True)
class WebSocketOptions:
    """Options of a connection; times in seconds.

    :ivar headers: of the upgrade request.
    :ivar subprotocols: offered, in the order of preference.
    :ivar open_timeout: from dialling to the vendor's 101.
    :ivar idle_timeout: for the vendor to send, or to read, the next message.
    :ivar max_message: the most bytes of one message of the vendor.
    :ivar verify_tls: whether its certificate must be valid. Disable it only for a vendor in a
        trusted network with a certificate of its own.
    :ivar secrets: keys and tokens that must not appear in errors.
    """

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    subprotocols: Sequence[str] = ()
    open_timeout: float = 10.0
    idle_timeout: float = 20.0
    max_message: int = 16 << 20
    verify_tls: bool = True
    secrets: Iterable[str] = field(default=(), repr=False)


async def connect(url: str, reactor: Any, options: WebSocketOptions) -> WebSocketConnection:
    """Open a connection.

    :param url: ``ws`` or ``wss``; its query, which may have a signature, is omitted from errors.
    :raises ConfigError: the URL is invalid.
    :raises ProviderError: the vendor cannot be reached, refuses, or takes too long.
    """
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ConfigError("expected a URL that begins with ws:// or wss://")
    place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    connection = WebSocketConnection(place, reactor, options)
    factory = _Factory(
        url,
        headers=dict(options.headers),
        protocols=list(options.subprotocols) or None,
        useragent="xiaozhi-im",
        reactor=reactor,
    )
    factory.connection, factory.clock = connection, reactor
    factory.setProtocolOptions(maxMessagePayloadSize=options.max_message)
    endpoint = host_endpoint(
        reactor,
        parts.hostname,
        parts.port or _PORTS[parts.scheme],
        tls=parts.scheme == "wss",
        verify=options.verify_tls,
        timeout=options.open_timeout,
    )
    await connection.opened(endpoint.connect(factory))
    return connection


class WebSocketConnection:
    """One open connection. Messages wait here, bounded, until :meth:`receive` takes them.

    :ivar subprotocol: the one that the vendor chose; empty: none.
    :ivar close_code: the vendor's, once it has closed; 1006: TCP ended without one.
    """

    def __init__(self, place: str, clock: Any, options: WebSocketOptions) -> None:
        self.subprotocol = ""
        self.close_code = 0
        self._place = place
        self._clock = clock
        self._options = options
        self._redaction = Redaction(options.secrets)
        self._socket: _Socket | None = None
        self._messages: deque[Message] = deque()
        self._size = 0
        self._held = False  # the vendor is paused
        self._blocked = False  # the vendor does not read
        self._failure: ProviderError | None = None
        self._over = False
        self._waiting: Deferred[None] | None = None
        self._writable: Deferred[None] | None = None

    # --- for the caller

    async def send(self, message: Message) -> None:
        """Send a message; waits while the vendor does not read.

        :raises ProviderError: the connection is over, or the vendor takes too long.
        """
        while self._blocked and not self._over:
            self._writable = Deferred()
            await self._within(self._writable, "does not read")
        if self._over or self._socket is None:
            raise self._failure or self._closed_error()
        is_binary = isinstance(message, bytes)
        data = message if isinstance(message, bytes) else message.encode()
        self._socket.sendMessage(data, isBinary=is_binary)

    async def receive(self) -> Message | None:
        """Return the next message, text as ``str``; None: the vendor closed normally.

        :raises ProviderError: the connection was lost, or nothing came in time.
        """
        while not self._messages:
            if self._over:
                if self._failure is not None:
                    raise self._failure
                return None
            self._waiting = Deferred()
            await self._within(self._waiting, "sent nothing in time")
        message = self._messages.popleft()
        self._size -= len(message)
        if self._held and self._size <= _LOW_WATER:
            self._held = False
            if self._socket is not None:
                self._socket.transport.resumeProducing()
        return message

    def close(self, code: int = 1000) -> None:
        """Close; what waits is dropped. Idempotent."""
        socket, self._socket = self._socket, None
        self._messages.clear()
        self._size = 0
        self._end(None)
        if socket is not None:
            socket.transport.resumeProducing()
            socket.farewell(code)

    # --- for the socket

    async def opened(self, connecting: Deferred[Any]) -> None:
        """Wait for the 101.

        :raises ProviderError: it does not arrive.
        """
        due = self._clock.seconds() + self._options.open_timeout
        try:
            await self._limited(connecting, due - self._clock.seconds())
            self._waiting = Deferred()
            if self._socket is None and not self._over:
                await self._limited(self._waiting, due - self._clock.seconds())
        except CancelledError:
            self.close()
            raise
        except TimeoutError:
            self.close()
            raise ProviderError(
                "timeout", f"{self._place} did not open in time", retryable=True
            ) from None
        except Exception as problem:
            self.close()
            raise self._unreachable(problem) from problem
        if self._failure is not None:
            raise self._failure

    def is_open(self, socket: _Socket, subprotocol: str) -> None:
        """Accept the socket after the 101."""
        if self._over:
            socket.farewell(1000)
            return
        self._socket = socket
        self.subprotocol = subprotocol
        self._wake()

    def received(self, message: Message) -> None:
        """Queue a message."""
        if self._over or self._socket is None:
            return
        self._messages.append(message)
        self._size += len(message)
        if not self._held and self._size > _HIGH_WATER:
            self._held = True
            self._socket.transport.pauseProducing()
        self._wake()

    def blocked(self, on: bool) -> None:
        """Note whether the vendor has stopped reading."""
        self._blocked = on
        waiting, self._writable = self._writable, None
        if not on and waiting is not None and not waiting.called:
            waiting.callback(None)
        elif waiting is not None:
            self._writable = waiting

    def refused(self, status: int, body: bytes) -> None:
        """End: the vendor answered the upgrade with another status than 101."""
        text = self._redaction.shorten(error_text(body))
        code = meaning_of_refusal(status, body)
        message = f"{self._place} answered {status}" + (f": {text}" if text else "")
        self._end(ProviderError(code, message, retryable=RETRYABLE[code]))

    def lost(self, code: int, reason: str) -> None:
        """End: the connection is closed."""
        self.close_code = code
        self._socket = None
        if code in (1000, 1001, 1005):
            self._end(None)
            return
        text = self._redaction.shorten(reason)
        self._end(
            ProviderError(
                "connection_lost",
                f"{self._place} closed with {code}" + (f": {text}" if text else ""),
                retryable=code not in (1003, 1007, 1008, 1009, 1010),
            )
        )

    # --- inside

    def _end(self, failure: ProviderError | None) -> None:
        if not self._over:
            self._over = True
            self._failure = failure
        self._blocked = False
        self._wake()
        waiting, self._writable = self._writable, None
        if waiting is not None and not waiting.called:
            waiting.callback(None)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.callback(None)

    async def _within(self, waiting: Deferred[None], problem: str) -> None:
        try:
            await self._limited(waiting, self._options.idle_timeout)
        except TimeoutError:
            self.close()
            raise ProviderError("timeout", f"{self._place} {problem}", retryable=True) from None

    async def _limited(self, waiting: Deferred[Any], seconds: float) -> None:
        """:raises TimeoutError: it took longer."""
        late = False

        def give_up() -> None:
            nonlocal late
            late = True
            waiting.cancel()

        timer = self._clock.callLater(max(0.0, seconds), give_up)
        try:
            await waiting
        except Exception:
            if late:
                raise TimeoutError from None
            raise
        finally:
            if timer.active():
                timer.cancel()

    def _unreachable(self, problem: Exception) -> ProviderError:
        if isinstance(problem, ProviderError):
            return problem
        known = error.ConnectError | error.DNSLookupError | error.TimeoutError
        code = "unreachable" if isinstance(problem, known) else "connection_lost"
        text = self._redaction.shorten(str(problem))
        return ProviderError(code, f"cannot reach {self._place}: {text}", retryable=True)

    def _closed_error(self) -> ProviderError:
        return ProviderError("closed", f"the connection to {self._place} is closed", retryable=True)


@implementer(IPushProducer)
class _Socket(WebSocketClientProtocol):
    """Autobahn's side. Its timers would run on the global reactor; they are off."""

    openHandshakeTimeout = closeHandshakeTimeout = serverConnectionDropTimeout = 0
    autoPingInterval = autoPingTimeout = 0
    logOctets = logFrames = trackTimings = failByDrop = False
    factory: _Factory
    transport: Any
    _chosen = ""
    _reported = False
    _drop: Any = None

    def onConnect(self, response: Any) -> None:
        """Note the subprotocol that was chosen."""
        self._chosen = response.protocol or ""

    def onOpen(self) -> None:
        """Hand the open connection over."""
        self.transport.registerProducer(self, True)
        self.factory.connection.is_open(self, self._chosen)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Pass a whole message on; a text is valid UTF-8."""
        self.factory.connection.received(payload if isBinary else payload.decode())

    def failHandshake(self, reason: str) -> None:
        """Report a refusal with the vendor's text."""
        status, body = self._answer()
        if status and status != 101:
            self._reported = True
            self.factory.connection.refused(status, body)
        super().failHandshake(reason)

    def _answer(self) -> tuple[int, bytes]:
        head, _, body = bytes(self.data).partition(b"\r\n\r\n")
        words = head.split(b" ", 2)
        status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
        return status, body[:_ERROR_LIMIT]

    def farewell(self, code: int) -> None:
        """Send a Close frame; drop TCP shortly afterwards, even without an answer."""
        self._reported = True
        self.sendClose(code)
        self._drop_soon()

    def _drop_soon(self) -> None:
        if self._drop is None:
            self._drop = self.factory.clock.callLater(_FAREWELL, self.transport.abortConnection)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """End: TCP is gone."""
        if self._drop is not None and self._drop.active():
            self._drop.cancel()
        super().connectionLost(reason)

    def onCloseFrame(self, code: Any, reasonRaw: Any) -> Any:
        """Report the end at the vendor's Close frame: it may keep TCP open."""
        failed = super().onCloseFrame(code, reasonRaw)
        self._report(code or 1005, self.remoteCloseReason or "")
        self._drop_soon()
        return failed

    def sendCloseFrame(
        self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False
    ) -> None:
        """Report what Autobahn closes by itself: a message that is too long, or text that is not
        UTF-8.
        """
        super().sendCloseFrame(code=code, reasonUtf8=reasonUtf8, isReply=isReply)
        if not isReply:
            self._report(code or 1006, (reasonUtf8 or b"").decode("utf-8", "replace"))
            self._drop_soon()

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """Report the end. If we closed the connection, it has our code."""
        own = self.localCloseCode if self.failedByMe else None
        self._report(self.remoteCloseCode or own or code or 1006, reason or "")

    def _report(self, code: int, reason: str) -> None:
        if not self._reported:
            self._reported = True
            self.factory.connection.lost(code, reason)

    def pauseProducing(self) -> None:
        self.factory.connection.blocked(True)

    def resumeProducing(self) -> None:
        self.factory.connection.blocked(False)

    def stopProducing(self) -> None:
        """connectionLost reports the same."""


class _Factory(WebSocketClientFactory):
    protocol = _Socket  # type: ignore[assignment]
    noisy = False
    connection: WebSocketConnection
    clock: Any
