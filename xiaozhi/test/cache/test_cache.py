"""Presence and inbox in one process, addresses, and a Redis that does not answer.

tests/test_redis.py runs both with a real Redis.
"""

from __future__ import annotations

import contextlib
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, LoopingCall
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase, TestCase

from xiaozhi.base.errors import StoreError
from xiaozhi.base.values import Presence, Receipt
from xiaozhi.cache import (
    InboxSettings,
    PresenceAddress,
    PresenceSettings,
    outside,
    presence_backend,
)
from xiaozhi.cache.backend import NoPoster, PresenceBackend, RedisPoster
from xiaozhi.cache.connection import RedisAddress
from xiaozhi.cache.hub import RedisHub
from xiaozhi.cache.local import LocalPresence
from xiaozhi.cache.localinbox import LocalInbox
from xiaozhi.cache.redis import RedisPresence
from xiaozhi.cache.redisinbox import RedisInbox
from xiaozhi.interfaces import IPresence
from xiaozhi.testing.contracts.inbox import SETTINGS, InboxContract, mail
from xiaozhi.testing.contracts.presence import PresenceContract
from xiaozhi.testing.redis import FakeRedis


class LocalPresenceTests(PresenceContract, TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.presence: IPresence = LocalPresence()
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


class LocalInboxTests(InboxContract, TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.inbox = LocalInbox(self.clock, "node-a", SETTINGS)

    async def claim(self, device_id: str, session_id: str) -> None:
        pass

    async def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    async def now(self) -> float:
        return self.clock.seconds()

    async def test_delivered_letters_leave_nothing(self) -> None:
        for number in range(1000):
            await self.inbox.post("d1", mail(number), 3600)
            await self.arrive(f"s{number}", before=number + 1)
            self.inbox.detach("d1", f"s{number}")
        self.assertLess(len(self.inbox._due), 200)
        self.assertEqual(self.inbox._kept, {})


class RedisInboxTests(InboxContract, TestCase):
    """With a fake Redis, on virtual time."""

    async def setUp(self) -> None:  # type: ignore[override]
        super().setUp()
        self.clock = Clock()
        self.redis = FakeRedis(self.clock)
        hub = self.redis.hub("node-a")
        await hub.start()
        self.presence, self.inbox = RedisPresence(hub), RedisInbox(hub, SETTINGS)
        await self.presence.start()
        # Channel messages are delayed calls: run them while something is awaited.
        ticking = LoopingCall(self.clock.advance, 0.002)
        ticking.start(0.0002)
        self.addCleanup(ticking.stop)

    async def claim(self, device_id: str, session_id: str) -> None:
        await self.presence.claim(Presence(device_id, session_id, "node-a", 0), lambda: None)

    async def wait(self, seconds: float) -> None:
        self.clock.pump([0.005] * round(seconds / 0.005))

    async def now(self) -> float:
        return self.redis.offset + self.clock.seconds()

    async def test_a_lost_settlement(self) -> None:
        """Sent letters are not sent again."""
        await self.inbox.post("d1", mail(1), 60)
        await self.inbox.post("d1", mail(2), 60)
        self.redis.fail_after(2)  # claiming and taking succeed, settling fails
        await self.arrive("s1", before=2)
        self.redis.recover()
        await self.wait(1)
        self.assertEqual(self.got, [("s1", mail(1)), ("s1", mail(2))])
        self.assertEqual(self.redis.run("KEYS", "*letter*"), [])
        self.assertEqual(len(self.inbox._unsettled), 0)

    async def test_a_node_that_dies_with_leased_letters(self) -> None:
        await self.inbox.post("d1", mail(1), 60)
        await self.claim("d1", "s1")
        await self.inbox._letters.take("d1", "s1")
        await self.arrive("s2")
        await self.wait(SETTINGS.lease - 2)
        self.assertEqual(self.got, [])
        await self.until(lambda: bool(self.got))
        self.assertEqual(self.got, [("s2", mail(1))])

    async def test_local_devices_are_reachable_without_redis(self) -> None:
        await self.arrive("s1")
        self.redis.fail()
        self.assertEqual(await self.inbox.post("d1", mail(1), 60), Receipt(True, "node-a"))
        code = await self.refused(self.inbox.post("d2", mail(2), 60))
        self.assertEqual(code, "presence_unavailable")

    async def test_letters_during_a_disconnection(self) -> None:
        """Redis is up, but this node has lost it for a while."""
        await self.arrive("s1")
        self.redis.subscription_lost(0)
        receipt = await self.inbox.post("d1", mail(1), 60)
        self.assertFalse(receipt.delivered)
        self.redis.fail()
        self.redis.recover()
        await self.until(lambda: bool(self.got))
        await self.wait(0.1)
        self.assertEqual(self.got, [("s1", mail(1))])

    async def test_a_late_claim(self) -> None:
        """Redis was down when the device connected."""
        await self.inbox.post("d1", mail(1), 60)
        self.redis.fail()
        with contextlib.suppress(StoreError):
            await self.claim("d1", "s1")
        self.inbox.attach("d1", "s1", self.taker("s1"))
        await self.wait(0.1)
        self.redis.recover()
        await self.until(lambda: bool(self.got))
        self.assertEqual(self.got, [("s1", mail(1))])


def edge(url: str, reactor: Any = None) -> PresenceBackend:
    settings = PresenceSettings(url=url)
    return presence_backend(settings, InboxSettings(), reactor or Clock(), "node-a", "boot", dict)


class AddressTests(SynchronousTestCase):
    def test_valid_addresses(self) -> None:
        for url, expected in (
            ("redis://h", RedisAddress("h", 6379, 0, "", "")),
            ("redis://h:7/3", RedisAddress("h", 7, 3, "", "")),
            ("redis://:p%40ss@h:7/", RedisAddress("h", 7, 0, "", "p@ss")),
            ("redis://u:p@[::1]:7/2", RedisAddress("::1", 7, 2, "u", "p")),
        ):
            self.assertEqual(RedisAddress.parse(url), expected)

    def test_invalid_addresses(self) -> None:
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
            error = self.assertRaises(StoreError, edge, url)
            self.assertEqual(error.code, "bad_presence_url")
            self.assertNotIn("geheim", error.message)

    def test_its_text_has_no_password(self) -> None:
        address = RedisAddress.parse("redis://u:geheim@[::1]:7/2")
        self.assertEqual(str(address), "redis://[::1]:7/2")
        self.assertNotIn("geheim", repr(address))

    def test_backends_by_address(self) -> None:
        self.assertIsInstance(edge("memory:").presence, LocalPresence)
        self.assertIsInstance(edge("redis://h").presence, RedisPresence)
        for url, kind in (("memory:", NoPoster), ("redis://h", RedisPoster)):
            made = outside(PresenceAddress(url=url), InboxSettings(), Clock(), "ai-1")
            self.assertIsInstance(made, kind)

    def test_settings_show_no_password(self) -> None:
        for settings in (PresenceSettings, PresenceAddress):
            self.assertNotIn("geheim", repr(settings(url="redis://:geheim@h")))


class OutsideTests(SynchronousTestCase):
    """A process without devices, like the AI service."""

    def test_it_probes_redis(self) -> None:
        clock = Clock()
        redis = FakeRedis(clock)
        outside = RedisPoster(redis.hub("outside:ai-1"), 5.0, SETTINGS)
        self.successResultOf(outside.start())
        self.assertEqual(outside.trouble(), "")
        redis.fail_after(0)  # the next call finds it disconnected
        self.assertEqual(outside.trouble(), "")
        clock.pump([1.0] * 5)
        self.assertEqual(outside.trouble(), "redis://fake:6379/0: not connected")
        redis.recover()
        clock.pump([1.0] * 10)
        self.assertEqual(outside.trouble(), "")
        self.successResultOf(outside.stop())
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_without_redis_no_device_is_reached(self) -> None:
        nowhere = NoPoster()
        self.successResultOf(nowhere.start())
        self.assertEqual((nowhere.inbox, nowhere.trouble()), (None, ""))
        self.successResultOf(nowhere.stop())


class SilentRedisTests(SynchronousTestCase):
    """A server that accepts and then sends nothing, or a scripted answer."""

    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        address = RedisAddress.parse("redis://:geheim@127.0.0.1:7/1")
        self.hub = RedisHub(address, self.reactor, "node-a", timeout=3)
        self.presence = RedisPresence(self.hub)

    def connect(self) -> tuple[Any, Any]:
        """Return protocol and transport of the latest attempt."""
        factory = self.reactor.tcpClients[-1][2]
        protocol = factory.buildProtocol(None)
        transport = StringTransport()
        protocol.makeConnection(transport)
        return protocol, transport

    def test_no_answer_while_connecting(self) -> None:
        starting = Deferred.fromCoroutine(self.hub.start())
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
        starting = Deferred.fromCoroutine(self.hub.start())
        protocol, _ = self.connect()
        protocol.dataReceived(b"-WRONGPASS invalid username-password pair\r\n")
        error = self.failureResultOf(starting, StoreError).value
        self.assertIn("WRONGPASS", error.message)

    def test_calls_before_the_start(self) -> None:
        claiming = self.presence.claim(Presence("d1", "s1", "node-a", 1), lambda: None)
        error = self.failureResultOf(claiming, StoreError).value
        self.assertEqual(error.code, "presence_unavailable")

    def test_the_error_names_the_address(self) -> None:
        self.assertEqual(self.hub.trouble(), "redis://127.0.0.1:7/1: not connected")
