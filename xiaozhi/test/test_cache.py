"""Presence in one process, addresses, and Redis that does not answer.

Presence through a real Redis is in tests/test_redis.py.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase, TestCase

from xiaozhi.cache import LocalPresence, RedisAddress, RedisPresence, presence_from_url
from xiaozhi.errors import StoreError
from xiaozhi.interfaces import IPresence
from xiaozhi.testing.presence_contract import PresenceContract
from xiaozhi.values import Presence


class LocalPresenceTests(PresenceContract, TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.presence: IPresence = presence_from_url("memory:", object(), "node-a")
        self.successResultOf(self.presence.start())

    def test_everything_happens_within_the_call(self) -> None:
        self.assertIsNone(
            self.successResultOf(self.presence.claim(self.at("s1", 1), self.by("s1")))
        )

    def test_stopping_forgets(self) -> None:
        self.successResultOf(self.presence.claim(self.at("s1", 1), self.by("s1")))
        self.successResultOf(self.presence.stop())
        self.assertIsNone(self.successResultOf(self.presence.lookup("d1")))
        self.assertEqual(self.told, [])


class AddressTests(SynchronousTestCase):
    def test_what_can_be_said(self) -> None:
        for url, expected in (
            ("redis://h", RedisAddress("h", 6379, 0, "", "")),
            ("redis://h:7/3", RedisAddress("h", 7, 3, "", "")),
            ("redis://:p%40ss@h:7/", RedisAddress("h", 7, 0, "", "p@ss")),
            ("redis://u:p@[::1]:7/2", RedisAddress("::1", 7, 2, "u", "p")),
        ):
            self.assertEqual(RedisAddress.parse(url), expected)

    def test_what_can_not(self) -> None:
        for url in (
            "",
            "redis://",
            "http://:geheim@h",
            "redis://:geheim@h/x",
            "redis://:geheim@h:port/0",
            "redis://:geheim@h:99999/0",
            "redis://:geheim@h/0?x=1",
            "memory",
        ):
            error = self.assertRaises(StoreError, presence_from_url, url, object(), "node-a")
            self.assertEqual(error.code, "bad_presence_url")
            self.assertNotIn("geheim", error.message)

    def test_its_text_has_no_password(self) -> None:
        address = RedisAddress.parse("redis://u:geheim@[::1]:7/2")
        self.assertEqual(str(address), "redis://[::1]:7/2")
        self.assertNotIn("geheim", repr(address))

    def test_what_is_made(self) -> None:
        self.assertIsInstance(presence_from_url("memory:", object(), "n"), LocalPresence)
        made = presence_from_url("redis://h", MemoryReactorClock(), "n")
        self.assertIsInstance(made, RedisPresence)


class SilentRedisTests(SynchronousTestCase):
    """A server that accepts and then says nothing, or what it is told to."""

    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.presence = RedisPresence(
            RedisAddress.parse("redis://:geheim@127.0.0.1:7/1"),
            self.reactor,
            "node-a",
            ttl=90,
            refresh_interval=30,
            timeout=3,
        )

    def connect(self) -> tuple[Any, Any]:
        """:return: protocol and transport of the latest attempt."""
        factory = self.reactor.tcpClients[-1][2]
        protocol = factory.buildProtocol(None)
        transport = StringTransport()
        protocol.makeConnection(transport)
        return protocol, transport

    def test_no_answer_while_connecting(self) -> None:
        starting = self.presence.start()
        _, transport = self.connect()
        self.assertIn(b"AUTH", transport.value())
        self.reactor.advance(2.9)
        self.assertNoResult(starting)
        self.reactor.advance(0.2)
        error = self.failureResultOf(starting, StoreError).value
        self.assertEqual(error.code, "presence_unavailable")
        self.assertIn("redis://127.0.0.1:7/1", error.message)
        self.assertIn("no answer in time", error.message)
        self.assertNotIn("geheim", error.message)
        self.assertTrue(transport.disconnected or transport.disconnecting)

    def test_a_refused_password(self) -> None:
        starting = self.presence.start()
        protocol, _ = self.connect()
        protocol.dataReceived(b"-WRONGPASS invalid username-password pair\r\n")
        error = self.failureResultOf(starting, StoreError).value
        self.assertIn("WRONGPASS", error.message)

    def test_calls_before_the_start(self) -> None:
        claiming = self.presence.claim(Presence("d1", "s1", "node-a", 1), lambda: None)
        error = self.failureResultOf(claiming, StoreError).value
        self.assertEqual(error.code, "presence_unavailable")
