"""One port for devices and for HTTP.

A door reads a request's head and hands transport and bytes over: to the
WebSocket if it is an upgrade, else to the web site. Then it is gone; an open
device connection has no wrapper around it.
"""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from xiaozhi.im.admission import http_error
from xiaozhi.im.edge import Edge

_END = b"\r\n\r\n"
_UPGRADE = re.compile(rb"\r\nupgrade[ \t]*:[^\r\n]*websocket", re.IGNORECASE)


class Door(Protocol):
    """A connection whose request has not come yet."""

    factory: DoorFactory
    transport: Any
    _log = Logger()
    _next: IProtocol | None = None
    _tick: int | None = None
    _refused = False

    def connectionMade(self) -> None:
        self._head = bytearray()
        self.factory.waiting += 1
        self._arm()

    def dataReceived(self, data: bytes) -> None:
        if self._next is not None:
            # Only under a transport that does not let itself be handed over.
            self._next.dataReceived(data)
            return
        if self._refused:
            return
        head = self._head
        searched = max(0, len(head) - len(_END))
        head += data
        limit = self.factory.edge.settings.gateway.max_head_bytes
        end = head.find(_END, searched, limit)
        if end >= 0:
            self._hand_over(bytes(head), end)
        elif len(head) >= limit:
            self._refuse(431, "head_too_big", f"the request head is longer than {limit} bytes")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._next is not None:
            self._next.connectionLost(reason)
        else:
            self._leave()

    def _arm(self) -> None:
        edge = self.factory.edge
        due = edge.clock.seconds() + edge.settings.gateway.head_timeout
        self._tick = edge.timeouts.at(due, self._late)

    def _leave(self) -> None:
        """No longer waiting for a request."""
        if self._tick is not None:
            self.factory.edge.timeouts.cancel(self._tick, self._late)
            self._tick = None
        self.factory.waiting -= 1

    def _hand_over(self, data: bytes, end: int) -> None:
        factory = self.factory
        is_upgrade = _UPGRADE.search(data, 0, end) is not None
        chosen = factory.sockets if is_upgrade else factory.site
        transport = self.transport
        protocol = chosen.buildProtocol(transport.getPeer())
        if protocol is None:
            self._refused = True
            transport.loseConnection()
            return
        self._leave()
        self._next = protocol
        self._head = bytearray()
        # TLS and PROXY wrappers keep theirs under another name.
        name = "wrappedProtocol" if hasattr(transport, "wrappedProtocol") else "protocol"
        setattr(transport, name, protocol)
        protocol.makeConnection(transport)
        protocol.dataReceived(data)

    def _late(self) -> None:
        self._tick = None
        if self._head and not self._refused:
            self._refuse(408, "request_timeout", "the request did not come in time")
        else:
            self.transport.abortConnection()

    def _refuse(self, status: int, code: str, message: str) -> None:
        transport = self.transport
        self._log.info(
            "refused: {status} {error}, peer {peer}",
            status=status,
            error=code,
            peer=str(transport.getPeer()),
        )
        self._refused = True
        if self._tick is None:
            self._arm()
        transport.write(http_error(status, code, message))
        transport.loseConnection()


class DoorFactory(Factory):
    """The factory to listen with.

    :ivar waiting: connections whose request has not come; those beyond
        ``max_waiting`` are dropped at once.
    """

    noisy = False

    def __init__(self, edge: Edge, sockets: IProtocolFactory, site: IProtocolFactory) -> None:
        """
        :param sockets: for upgrade requests.
        :param site: for all others.
        """
        self.edge = edge
        self.sockets = sockets
        self.site = site
        self.waiting = 0

    def buildProtocol(self, addr: IAddress | None) -> Door | None:  # type: ignore[override]
        if self.waiting >= self.edge.settings.gateway.max_waiting:
            return None
        door = Door()
        door.factory = self
        return door
