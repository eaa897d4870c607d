"""Immediate writes, on a pair of real sockets and a reactor that only records calls."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.protocol import Protocol
from twisted.internet.tcp import Connection
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.im.websocket.sendqueue import write_now


class Notes:
    """Records a transport's calls of the reactor."""

    def __init__(self) -> None:
        self.writers: set[Any] = set()

    def addWriter(self, writer: Any) -> None:
        self.writers.add(writer)

    def removeWriter(self, writer: Any) -> None:
        self.writers.discard(writer)

    def addReader(self, reader: Any) -> None:
        """Do nothing: nothing is read here."""

    removeReader = addReader


class WritingTests(SynchronousTestCase):
    def setUp(self) -> None:
        near, self.far = socket.socketpair()
        self.addCleanup(near.close)
        self.addCleanup(self.far.close)
        near.setblocking(False)
        self.reactor = Notes()
        reactor: Any = self.reactor
        self.transport = Connection(near, Protocol(), reactor)
        self.transport.connected = True

    def drain(self) -> bytes:
        """Read everything, and let the transport continue writing."""
        self.far.setblocking(False)
        data = bytearray()
        while True:
            try:
                data += self.far.recv(1 << 20)
            except BlockingIOError:
                if not self.reactor.writers:
                    return bytes(data)
                self.transport.doWrite()

    def test_at_once(self) -> None:
        write_now(self.transport, b"one")
        self.assertEqual((self.far.recv(10), self.reactor.writers), (b"one", set()))

    def test_after_waiting_data(self) -> None:
        self.transport.write(b"one")
        write_now(self.transport, b"two")
        self.assertEqual(self.drain(), b"onetwo")

    def test_a_full_socket_takes_a_part(self) -> None:
        pieces = [bytes([number % 256]) * 5000 for number in range(200)]
        for piece in pieces:
            write_now(self.transport, piece)
        self.assertEqual(self.reactor.writers, {self.transport})
        self.assertEqual(self.drain(), b"".join(pieces))
        write_now(self.transport, b"last")
        self.assertEqual(self.far.recv(10), b"last")

    def test_a_lost_connection_is_left_to_the_transport(self) -> None:
        self.far.close()
        write_now(self.transport, b"one")
        self.assertEqual(self.reactor.writers, {self.transport})

    def test_not_while_closing(self) -> None:
        self.transport.disconnecting = True
        write_now(self.transport, b"one")
        self.assertEqual(self.reactor.writers, {self.transport})

    def test_any_other_transport(self) -> None:
        transport = StringTransport()
        write_now(transport, b"one")
        self.assertEqual(transport.value(), b"one")
