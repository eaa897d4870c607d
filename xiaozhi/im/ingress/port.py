"""One port for devices and for HTTP.

It reads a request's head and passes transport and bytes to the WebSocket for an upgrade, else
to the web site. An open device connection has no wrapper around it.
"""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.interfaces import IAddress, IProtocolFactory
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from xiaozhi.im.ingress.admission import http_error
from xiaozhi.im.ingress.entrance import Entrance
from xiaozhi.web.limits import heads
from xiaozhi.web.limits.refusals import Refused

_END = b"\r\n\r\n"
_UPGRADE = re.compile(rb"\r\nupgrade[ \t]*:[^\r\n]*websocket", re.IGNORECASE)


class EdgePort(Protocol):
    """A connection before its request."""

    factory: EdgePortFactory
    transport: Any
    _next: Any = None
    _tick: int | None = None
    _refused = False

    def __init__(self, host: str, counted_as: str) -> None:
        """
        :param host: the peer's address.
        :param counted_as: its key in ``Entrance.peers``.
        """
        self._host = host
        self._counted_as = counted_as

    def connectionMade(self) -> None:
        self._head = bytearray()
        self.factory.waiting += 1
        self._arm()

    def dataReceived(self, data: bytes) -> None:
        if self._next is not None:
            # Only under a transport whose protocol cannot be replaced.
            self._next.dataReceived(data)
            return
        if self._refused:
            return
        head = self._head
        searched = max(0, len(head) - len(_END))
        head += data
        limit = self.factory.entrance.settings.gateway.max_head_bytes
        end = head.find(_END, searched, limit)
        if end >= 0 and not heads.is_clean_head(bytes(head[:end])):
            self._refuse(400, heads.CODE, heads.MESSAGE)
        elif end >= 0:
            self._hand_over(bytes(head), end)
        elif len(head) >= limit:
            self._refuse(431, "head_too_big", f"the request head is longer than {limit} bytes")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._next is not None:
            self._next.connectionLost(reason)
        else:
            self._leave()
            self.factory.entrance.peers.leave(self._counted_as)

    def _arm(self) -> None:
        edge = self.factory.entrance
        due = edge.timers.clock.seconds() + edge.settings.gateway.head_timeout
        self._tick = edge.timers.timeouts.at(due, self._late)

    def _leave(self) -> None:
        """Uncount the connection as one that waits for a request."""
        if self._tick is not None:
            self.factory.entrance.timers.timeouts.cancel(self._tick, self._late)
            self._tick = None
        self.factory.waiting -= 1
        self.factory.entrance.peers.served(self._counted_as)

    def _hand_over(self, data: bytes, end: int) -> None:
        factory = self.factory
        peers = factory.entrance.peers
        if peers.is_proxy(self._host):
            forwarded = peers.forwarded(data[: end + 2])
            if why := peers.arrive(forwarded):
                self._refuse(429, why, "there are too many connections from your address")
                return
            self._counted_as = forwarded
        is_upgrade = _UPGRADE.search(data, 0, end) is not None
        chosen = factory.sockets if is_upgrade else factory.site
        transport = self.transport
        protocol: Any = chosen.buildProtocol(transport.getPeer())
        if protocol is None:
            factory.dropped("too_many_visits", self._host)
            self._refused = True
            transport.loseConnection()
            return
        self._leave()
        if self._counted_as:
            protocol.counted_as = self._counted_as
        self._next = protocol
        self._head = bytearray()
        # TLS and PROXY wrappers keep their protocol under another name.
        name = "wrappedProtocol" if hasattr(transport, "wrappedProtocol") else "protocol"
        setattr(transport, name, protocol)
        protocol.makeConnection(transport)
        protocol.dataReceived(data)

    def _late(self) -> None:
        self._tick = None
        if self._head and not self._refused:
            self._refuse(408, "request_timeout", "the request did not arrive in time")
        else:
            if not self._refused:
                self.factory.dropped("silent", self._host)
            self.transport.abortConnection()

    def _refuse(self, status: int, code: str, message: str) -> None:
        transport = self.transport
        self.factory.entrance.refusals.add(Refused(code, status, self._host))
        self._refused = True
        if self._tick is None:
            self._arm()
        transport.write(http_error(status, code, message))
        transport.loseConnection()


class EdgePortFactory(Factory):
    """The factory to listen with.

    :ivar waiting: connections whose request has not arrived; beyond ``max_waiting``, new ones
        are dropped at once.
    """

    noisy = False

    def __init__(
        self, entrance: Entrance, sockets: IProtocolFactory, site: IProtocolFactory
    ) -> None:
        """
        :param sockets: for upgrade requests.
        :param site: for all others.
        """
        self.entrance = entrance
        self.sockets = sockets
        self.site = site
        self.waiting = 0

    def buildProtocol(self, addr: IAddress | None) -> EdgePort | None:  # type: ignore[override]
        host = str(getattr(addr, "host", ""))
        if self.waiting >= self.entrance.settings.gateway.max_waiting:
            self.dropped("too_many_waiting", host)
            return None
        key = self.entrance.peers.key(host)
        if why := self.entrance.peers.arrive(key):
            self.dropped(why, host)
            return None
        port = EdgePort(host, key)
        port.factory = self
        return port

    def dropped(self, reason: str, host: str) -> None:
        """Count a connection that is dropped without a reply."""
        self.entrance.refusals.add(Refused(reason, 0, host))
