"""Presence, inbox and node registry through a real Redis."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest, TestCase

from tests.servers import RedisServer
from xiaozhi.base.errors import StoreError
from xiaozhi.base.values import Presence, Receipt
from xiaozhi.cache.connection import RedisAddress
from xiaozhi.cache.hub import RedisHub
from xiaozhi.cache.redis import RedisPresence
from xiaozhi.cache.redisinbox import RedisInbox
from xiaozhi.cache.registry import NodeRegistry
from xiaozhi.cache.settings import InboxSettings
from xiaozhi.interfaces import IPresence
from xiaozhi.runtime.listening import free_port
from xiaozhi.testing.contracts.inbox import SETTINGS, InboxContract, mail
from xiaozhi.testing.contracts.presence import PresenceContract
from xiaozhi.wire.mail import Mail


class RedisCase(TestCase):
    """A Redis of its own, with a password as in production."""

    timeout = 30

    def setUp(self) -> None:
        self.server = RedisServer("geheim")
        self.server.start()
        self.addCleanup(self.server.stop)
        self.told: list[str] = []

    async def hub(self, name: str, timeout: float = 2.0, database: int = 0) -> RedisHub:
        url = self.server.url.removesuffix("/0") + f"/{database}"
        hub = RedisHub(RedisAddress.parse(url), reactor, name, timeout=timeout)
        await hub.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(hub.stop()))
        return hub

    async def node(
        self, name: str, timeout: float = 2.0, database: int = 0, **settings: Any
    ) -> RedisPresence:
        presence = RedisPresence(await self.hub(name, timeout, database), **settings)
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
        self.presence = await self.node("node-a")


class TwoNodesTests(RedisCase):
    async def setUp(self) -> None:  # type: ignore[override]
        super().setUp()
        self.a = await self.node("node-a")
        self.b = await self.node("node-b")

    async def test_the_newest_wins_and_the_older_node_is_notified(self) -> None:
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

    async def test_clocks_of_nodes_do_not_matter(self) -> None:
        older, newer = Presence("d1", "old", "node-a", 9e9), Presence("d1", "new", "node-b", 1)
        await self.a.claim(older, self.by("old"))
        self.assertEqual(await self.b.claim(newer, self.by("new")), older)
        await self.until(lambda: bool(self.told))
        self.assertEqual(self.told, ["old"])
        self.assertEqual(await self.b.lookup("d1"), newer)

    async def test_of_two_simultaneous_claims_one_stays(self) -> None:
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
        self.assertEqual(len({told.split()[0] for told in self.told}), 20)
        for number in range(20):
            found = await self.a.lookup(f"d{number}")
            assert found is not None
            self.assertNotIn(f"d{number} {found.session_id[1]}", self.told)

    async def test_databases_of_one_server_do_not_meet(self) -> None:
        other = await self.node("node-a", database=1)
        await other.claim(Presence("d1", "other", "node-a", 1), self.by("other"))
        await self.a.claim(Presence("d1", "s1", "node-a", 2), self.by("s1"))
        await self.b.claim(Presence("d1", "s2", "node-b", 3), self.by("s2"))
        await self.until(lambda: bool(self.told))
        self.assertEqual(self.told, ["s1"])

    async def test_a_stopping_node_removes_its_claims(self) -> None:
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
        error = await self.not_reached(f"redis://:geheim@127.0.0.1:{port}/0")
        self._check(error, f"redis://127.0.0.1:{port}/0")
        self.assertIn("refused", error.message)

    async def test_wrong_password(self) -> None:
        if not self.server.is_real:
            raise SkipTest("fakeredis knows no passwords")
        url = self.server.url.replace("geheim", "falsch")
        error = await self.not_reached(url)
        self._check(error, f"redis://127.0.0.1:{self.server.port}/0")
        self.assertNotIn("falsch", error.message)

    async def test_calls_fail_during_an_outage_and_recover(self) -> None:
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
        await self.settles(b, "d1", away)  # Redis lost its data
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

    async def not_reached(self, url: str) -> StoreError:
        hub = RedisHub(RedisAddress.parse(url), reactor, "node-a")
        return await _failure(Deferred.fromCoroutine(hub.start()))

    async def test_a_flush_without_a_lost_connection(self) -> None:
        """Two nodes both hold the device, because one missed the notification, and Redis has lost
        both claims: the newest one wins, whichever node refreshes first.
        """
        for first in (0, 1):
            a = await self.node(f"{first}a", refresh_interval=60)
            b = await self.node(f"{first}b", refresh_interval=60)
            await a.claim(Presence("d1", "s1", f"{first}a", 1), self.by("s1"))
            a._hub._heard_by.pop("replaced")  # the message is lost
            two = Presence("d1", "s2", f"{first}b", 2)
            await b.claim(two, self.by("s2"))
            await self.a_client_runs("FLUSHALL")
            for node in (a, b) if first else (b, a):
                await node._refresh()
            await a._refresh()
            self.assertEqual(self.told, ["s1"])
            self.assertEqual(await a.lookup("d1"), two)
            self.told.clear()
            await b.release("d1", "s2")

    async def a_client_runs(self, command: str) -> None:
        hub = await self.hub("client")
        await hub.call("execute_command", command)

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
        """Check that a claim at one node reaches the other again, once its channel is back."""
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


class RedisInboxTests(InboxContract, RedisCase):
    async def setUp(self) -> None:  # type: ignore[override]
        InboxContract.setUp(self)
        RedisCase.setUp(self)
        hub = await self.hub("node-a")
        self.inbox, self.presence = RedisInbox(hub, SETTINGS), RedisPresence(hub)
        self.addCleanup(self.inbox.stop)

    async def claim(self, device_id: str, session_id: str) -> None:
        await self.presence.claim(Presence(device_id, session_id, "node-a", 0), lambda: None)

    async def wait(self, seconds: float) -> None:
        await deferLater(reactor, seconds)

    async def now(self) -> float:
        # Not the reactor's clock: its timers may be monotonic by now.
        return time.time()

    async def until(self, true: Callable[[], bool], within: float = 5.0) -> None:
        await RedisCase.until(self, true, within)


class Edge:
    """A node with everything it shares.

    :ivar got: messages delivered to its sessions, with the session.
    """

    def __init__(self, hub: RedisHub, settings: InboxSettings = SETTINGS) -> None:
        self.name = hub.node
        self.presence = RedisPresence(hub)
        self.inbox = RedisInbox(hub, settings)
        self.got: list[tuple[str, Mail]] = []
        self.gone: list[str] = []

    async def connect(self, device_id: str, session_id: str) -> None:
        def replaced() -> None:
            self.gone.append(session_id)
            self.inbox.detach(device_id, session_id)

        await self.presence.claim(Presence(device_id, session_id, self.name, 0), replaced)
        self.attach(device_id, session_id)

    def attach(self, device_id: str, session_id: str) -> None:
        def deliver(one: Mail) -> bool:
            self.got.append((session_id, one))
            return True

        self.inbox.attach(device_id, session_id, deliver)


class InboxAcrossTests(RedisCase):
    async def setUp(self) -> None:  # type: ignore[override]
        super().setUp()
        self.a, self.b = [Edge(await self.hub(name)) for name in ("node-a", "node-b")]

    async def test_from_any_node_to_the_device_s_node(self) -> None:
        await self.b.connect("d1", "s1")
        outside = RedisInbox(await self.hub("ai-1"), SETTINGS)
        for inbox in (self.a.inbox, self.b.inbox, outside):
            self.assertEqual(await inbox.post("d1", mail(1), 60), Receipt(True, "node-b"))
        self.assertEqual(self.b.got, [("s1", mail(1))] * 3)

    async def test_stored_by_one_node_delivered_by_another(self) -> None:
        for number in range(3):
            self.assertFalse((await self.a.inbox.post("d1", mail(number), 60)).delivered)
        await self.b.connect("d1", "s1")
        await self.until(lambda: len(self.b.got) == 3)
        self.assertEqual(self.b.got, [("s1", mail(number)) for number in range(3)])

    async def test_two_edges_race_and_each_letter_comes_once(self) -> None:
        """A device reconnects to alternating edges while letters arrive."""
        posted = []
        for number in range(60):
            edge = (self.a, self.b)[number % 2]
            posting = self.a.inbox.post("d1", mail(number), 60)
            coming = Deferred.fromCoroutine(edge.connect("d1", f"s{number}"))
            try:
                await posting
                posted.append(mail(number))
            except StoreError as error:
                self.assertEqual(error.code, "inbox_full")
            await coming
        await self.until(lambda: len(self.a.got) + len(self.b.got) >= len(posted))
        await deferLater(reactor, 0.7)
        came = [one for _, one in self.a.got + self.b.got]
        self.assertEqual(sorted(map(str, came)), sorted(map(str, posted)))
        self.assertEqual(len(set(came_numbers(came))), len(posted))

    async def test_a_node_that_died(self) -> None:
        hub = await self.hub("node-c")
        lost = Edge(hub)
        await lost.connect("d1", "s1")
        await hub.stop()
        receipt = await self.a.inbox.post("d1", mail(1), 60)
        self.assertFalse(receipt.delivered)
        self.assertGreater(receipt.expires, time.time())
        await self.b.connect("d1", "s2")
        await self.until(lambda: bool(self.b.got))

    async def test_redis_hangs_while_letters_are_fetched(self) -> None:
        """Letters fetched over a connection that was given up are not lost."""
        await self.a.inbox.post("d1", mail(1), 60)
        self.server.freeze()
        coming = Deferred.fromCoroutine(self.b.connect("d1", "s1")).addErrback(lambda _: None)
        await deferLater(reactor, 2.5)
        self.server.thaw()
        await coming
        # The claim failed; the connection continues all the same.
        self.b.attach("d1", "s1")
        await self.until(lambda: bool(self.b.got), 10)
        self.assertEqual(self.b.got, [("s1", mail(1))])


def came_numbers(mails: list[Mail]) -> list[str]:
    return [one.message for one in mails]


class RegistryTests(RedisCase):
    async def registry(self, name: str, boot: str = "", **settings: Any) -> NodeRegistry:
        hub = await self.hub(name)
        settings = {"ttl": 1.0, "interval": 0.1, **settings}
        registry = NodeRegistry(hub, boot or f"boot {name}".replace(" ", "-"), dict, **settings)
        await registry.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(registry.stop()))
        return registry

    def names(self, registry: NodeRegistry) -> list[str]:
        return [node["node"] for node in registry.nodes()]

    async def test_nodes_see_each_other(self) -> None:
        a, b = await self.registry("a"), await self.registry("b")
        await self.until(lambda: self.names(a) == ["a", "b"] == self.names(b))
        await b.stop()
        await self.until(lambda: self.names(a) == ["a"])

    async def test_a_node_that_dies_is_forgotten(self) -> None:
        a, b = await self.registry("a"), await self.registry("b", ttl=0.3, interval=60)
        await self.until(lambda: self.names(a) == ["a", "b"])
        await self.until(lambda: self.names(a) == ["a"])
        self.assertEqual(b.trouble(), "")

    async def test_redis_goes_and_comes_back(self) -> None:
        a = await self.registry("a")
        await deferToThread(self.server.kill)
        await self.until(lambda: "not connected" in a.trouble())
        await deferToThread(self.server.restart)
        await self.until(lambda: not a.trouble(), 10)
        self.assertEqual(self.names(a), ["a"])

    async def test_redis_forgets(self) -> None:
        """The next heartbeat notices it and writes everything again."""
        a = await self.registry("a")
        restored: list[bool] = []
        a._hub.when_back(lambda: restored.append(True))
        await a._hub.call("execute_command", "FLUSHALL")
        await self.until(lambda: bool(restored))
        await self.until(lambda: self.names(a) == ["a"])
        await deferLater(reactor, 0.3)
        self.assertEqual(len(restored), 1)

    async def test_two_of_one_name(self) -> None:
        a, b = await self.registry("a", "boot-1"), await self.registry("a", "boot-2")
        await self.until(lambda: "calls itself a" in a.trouble() + b.trouble())
        await b.stop()
        await self.until(lambda: not a.trouble())

    async def test_a_restart_is_not_a_duplicate(self) -> None:
        hub = await self.hub("a")
        await NodeRegistry(hub, "boot-1", dict, ttl=60)._beat()
        a = await self.registry("a", "boot-2")
        await deferLater(reactor, 0.3)
        self.assertEqual(a.trouble(), "")


async def _failure(calling: Deferred[Any]) -> StoreError:
    try:
        await calling
    except StoreError as error:
        return error
    raise AssertionError("no StoreError")
