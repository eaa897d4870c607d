"""Presence through a real Redis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest, TestCase

from tests.servers import RedisServer
from xiaozhi.cache import RedisAddress, RedisPresence, presence_from_url
from xiaozhi.errors import StoreError
from xiaozhi.interfaces import IPresence
from xiaozhi.listening import free_port
from xiaozhi.testing.presence_contract import PresenceContract
from xiaozhi.values import Presence


class RedisCase(TestCase):
    """A Redis of its own, as password-protected as in production."""

    timeout = 30

    def setUp(self) -> None:
        self.server = RedisServer("geheim")
        self.server.start()
        self.addCleanup(self.server.stop)
        self.told: list[str] = []

    async def node(self, name: str, **settings: Any) -> IPresence:
        settings.setdefault("timeout", 2.0)
        address = RedisAddress.parse(self.server.url)
        presence = RedisPresence(address, reactor, name, **settings)
        await presence.start()
        self.addCleanup(presence.stop)
        return presence

    def by(self, name: str) -> Callable[[], None]:
        return lambda: self.told.append(name)

    async def until(self, true: Callable[[], bool], within: float = 5.0) -> None:
        until = reactor.seconds() + within
        while not true():
            if reactor.seconds() > until:
                raise AssertionError("did not happen in time")
            await deferLater(reactor, 0.01)


class RedisPresenceTests(PresenceContract, RedisCase):
    async def setUp(self) -> None:  # type: ignore[override]
        RedisCase.setUp(self)
        self.presence = presence_from_url(self.server.url, reactor, "node-a")
        await self.presence.start()
        self.addCleanup(self.presence.stop)


class TwoNodesTests(RedisCase):
    async def setUp(self) -> None:  # type: ignore[override]
        super().setUp()
        self.a = await self.node("node-a")
        self.b = await self.node("node-b")

    async def test_the_newest_wins_and_the_older_node_is_told(self) -> None:
        one, two = Presence("d 1", "s1", "node-a", 1), Presence("d 1", "s2", "node-b", 2)
        await self.a.claim(one, self.by("s1"))
        self.assertEqual(await self.b.lookup("d 1"), one)
        self.assertEqual(await self.b.claim(two, self.by("s2")), one)
        await self.until(lambda: bool(self.told))
        self.assertEqual(self.told, ["s1"])
        self.assertEqual(await self.a.lookup("d 1"), two)
        await self.a.release("d 1", "s1")
        self.assertEqual(await self.a.lookup("d 1"), two)

    async def test_back_and_forth(self) -> None:
        for number in range(10):
            node, name = ((self.a, "node-a"), (self.b, "node-b"))[number % 2]
            await node.claim(Presence("d1", f"s{number}", name, number), self.by(f"s{number}"))
        await self.until(lambda: len(self.told) >= 9)
        self.assertEqual(self.told, [f"s{number}" for number in range(9)])

    async def test_a_claim_that_comes_late_loses(self) -> None:
        newer, older = Presence("d1", "new", "node-a", 2), Presence("d1", "old", "node-b", 1)
        await self.a.claim(newer, self.by("new"))
        self.assertIsNone(await self.b.claim(older, self.by("old")))
        self.assertEqual(self.told, ["old"])
        self.assertEqual(await self.b.lookup("d1"), newer)

    async def test_both_at_once_only_one_stays(self) -> None:
        for number in range(20):
            device = f"d{number}"
            await DeferredList(
                [
                    self.a.claim(Presence(device, "sa", "node-a", 1), self.by(f"{device} a")),
                    self.b.claim(Presence(device, "sb", "node-b", 2), self.by(f"{device} b")),
                ],
                fireOnOneErrback=True,
            )
        await self.until(lambda: len(self.told) >= 20)
        self.assertEqual(sorted(self.told), sorted(f"d{number} a" for number in range(20)))

    async def test_databases_of_one_server_do_not_meet(self) -> None:
        address = self.server.url.removesuffix("/0") + "/1"
        other = presence_from_url(address, reactor, "node-a")
        await other.start()
        await other.claim(Presence("d1", "other", "node-a", 1), self.by("other"))
        await self.a.claim(Presence("d1", "s1", "node-a", 2), self.by("s1"))
        await self.b.claim(Presence("d1", "s2", "node-b", 3), self.by("s2"))
        await self.until(lambda: bool(self.told))
        self.assertEqual(self.told, ["s1"])
        await other.stop()

    async def test_a_node_that_stops_takes_its_claims_along(self) -> None:
        for number in range(250):
            await self.a.claim(Presence(f"d{number}", f"s{number}", "node-a", 1), self.by("a"))
        two = Presence("d7", "s", "node-b", 2)
        await self.b.claim(two, self.by("b"))
        await self.a.stop()
        self.assertEqual(await self.b.lookup("d7"), two)
        for number in (0, 99, 100, 249):
            self.assertIsNone(await self.b.lookup(f"d{number}"))


class RefreshTests(RedisCase):
    async def test_a_key_lives_as_long_as_its_node(self) -> None:
        a = await self.node("node-a", ttl=0.5, refresh_interval=0.1)
        b = await self.node("node-b")
        one = Presence("d1", "s1", "node-a", 1)
        await a.claim(one, self.by("s1"))
        await deferLater(reactor, 0.9)
        self.assertEqual(await b.lookup("d1"), one)

    async def test_a_key_dies_with_its_node(self) -> None:
        a = await self.node("node-a", ttl=0.2, refresh_interval=60)
        b = await self.node("node-b")
        await a.claim(Presence("d1", "s1", "node-a", 1), self.by("s1"))
        await deferLater(reactor, 0.4)
        self.assertIsNone(await b.lookup("d1"))

    async def test_a_released_device_does_not_come_back(self) -> None:
        a = await self.node("node-a", refresh_interval=0.02)
        await a.claim(Presence("d1", "s1", "node-a", 1), self.by("s1"))
        await a.release("d1", "s1")
        await deferLater(reactor, 0.1)
        self.assertIsNone(await a.lookup("d1"))


class FaultTests(RedisCase):
    async def test_no_server(self) -> None:
        port = free_port()
        error = await _failure(
            presence_from_url(f"redis://:geheim@127.0.0.1:{port}/0", reactor, "node-a").start()
        )
        self._check(error, f"redis://127.0.0.1:{port}/0")
        self.assertIn("refused", error.message)

    async def test_wrong_password(self) -> None:
        if not self.server.is_real:
            raise SkipTest("fakeredis knows no passwords")
        url = self.server.url.replace("geheim", "falsch")
        error = await _failure(presence_from_url(url, reactor, "node-a").start())
        self._check(error, f"redis://127.0.0.1:{self.server.port}/0")
        self.assertNotIn("falsch", error.message)

    async def test_calls_fail_while_it_is_away_and_heal_after(self) -> None:
        a = await self.node("node-a", refresh_interval=60)
        b = await self.node("node-b", refresh_interval=60)
        await a.claim(Presence("d1", "s1", "node-a", 1), self.by("s1"))
        await a.claim(Presence("d2", "s2", "node-a", 1), self.by("s2"))
        await deferToThread(self.server.kill)
        away = Presence("d1", "s3", "node-a", 2)
        error = await _failure(a.claim(away, self.by("s3")))
        self.assertEqual(error.code, "presence_unavailable")
        self.assertEqual(self.told, ["s1"], "its own older session is replaced all the same")
        self.assertEqual((await _failure(a.lookup("d1"))).code, "presence_unavailable")
        self.assertEqual((await _failure(a.release("d2", "s2"))).code, "presence_unavailable")

        await deferToThread(self.server.restart)
        await self.settles(b, "d1", away)  # Redis had forgotten everything
        self.assertIsNone(await b.lookup("d2"))
        await self.settles(a, "d1", away)
        await self.told_across(a, b)

    async def test_a_server_that_hangs(self) -> None:
        a = await self.node("node-a", timeout=1.0)
        one = Presence("d1", "s1", "node-a", 1)
        self.server.freeze()
        error = await _failure(a.claim(one, self.by("s1")))
        self.assertIn("no answer in time", error.message)
        self.server.thaw()
        await self.settles(a, "d1", one)

    async def test_stopping_while_it_is_away(self) -> None:
        a = await self.node("node-a")
        await a.claim(Presence("d1", "s1", "node-a", 1), self.by("s1"))
        await deferToThread(self.server.kill)
        await a.stop()

    async def settles(self, node: IPresence, device_id: str, expected: Presence) -> None:
        for _ in range(400):
            try:
                if await node.lookup(device_id) == expected:
                    return
            except StoreError:
                pass
            await deferLater(reactor, 0.02)
        raise AssertionError(f"{expected} did not come back")

    async def told_across(self, a: IPresence, b: IPresence) -> None:
        """A claim at one node reaches the other again, once its channel is back."""
        for number in range(10, 400):
            await a.claim(Presence("d9", f"a{number}", "node-a", number), self.by(f"a{number}"))
            await b.claim(
                Presence("d9", f"b{number}", "node-b", number + 0.5), self.by(f"b{number}")
            )
            await deferLater(reactor, 0.02)
            if f"a{number}" in self.told:
                return
        raise AssertionError("the channel did not come back")

    def _check(self, error: StoreError, address: str) -> None:
        self.assertEqual(error.code, "presence_unavailable")
        self.assertIn(address, error.message)
        self.assertNotIn("geheim", error.message)
        self.assertNotIn("\n", error.message)


async def _failure(calling: Deferred[Any]) -> StoreError:
    try:
        await calling
    except StoreError as error:
        return error
    raise AssertionError("no StoreError")
