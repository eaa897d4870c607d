"""Fencing tokens: with any clocks of the nodes, the newest connection keeps the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.base.values import Presence
from xiaozhi.cache.redis import RedisPresence
from xiaozhi.testing.redis import FakeRedis

REFRESH = 30.0


@dataclass
class Node:
    """An edge with a clock of its own.

    :ivar skew: seconds, of all its clocks.
    :ivar live: sessions that have not been replaced.
    """

    redis: FakeRedis
    name: str
    skew: float
    live: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        hub = self.redis.hub(self.name, self.skew)
        Deferred.fromCoroutine(hub.start())
        self.presence = RedisPresence(hub, refresh_interval=REFRESH)
        self.presence.start()

    def connect(self, device: str, session: str) -> None:
        since = self.redis.clock.seconds() + self.skew
        self.live[session] = device
        claim = Presence(device, session, self.name, since)
        self.presence.claim(claim, self._replaced(session)).addErrback(lambda _: None)

    def leave(self, session: str) -> None:
        device = self.live.pop(session)
        self.presence.release(device, session).addErrback(lambda _: None)

    def _replaced(self, session: str) -> Callable[[], None]:
        def replaced() -> None:
            self.leave(session)

        return replaced


class Fleet:
    """Some nodes on one Redis, and the model: the last connection."""

    def __init__(self, skews: list[float]) -> None:
        self.clock = Clock()
        self.redis = FakeRedis(self.clock)
        self.nodes = [Node(self.redis, f"n{n}", skew) for n, skew in enumerate(skews)]
        self.newest: dict[str, str] = {}
        self._sessions = 0

    def connect(self, node: int, device: str) -> None:
        self._sessions += 1
        session = f"s{self._sessions}"
        self.newest[device] = session
        self.nodes[node].connect(device, session)
        self.clock.advance(0.5)

    def leave(self, device: str) -> None:
        """End the device's newest connection."""
        session = self.newest.pop(device, None)
        for node in self.nodes:
            if session in node.live:
                node.leave(session)
        self.clock.advance(0.5)

    def live(self, device: str) -> list[str]:
        return [s for node in self.nodes for s, whose in node.live.items() if whose == device]

    def holder(self, device: str) -> str | None:
        found: list[Presence | None] = []
        self.nodes[0].presence.lookup(device).addCallback(found.append)
        return found[0].session_id if found[0] else None

    def settle(self) -> None:
        self.redis.recover()
        self.clock.pump([0.5] * int(REFRESH * 2 / 0.5 + 4))


class FencingTests(SynchronousTestCase):
    def assert_one(self, fleet: Fleet, device: str = "d") -> None:
        newest = fleet.newest[device]
        self.assertEqual(fleet.live(device), [newest])
        self.assertEqual(fleet.holder(device), newest)

    def test_clocks_do_not_matter(self) -> None:
        fleet = Fleet([0.0, -86_400.0, 86_400.0])
        for node in (2, 1, 0, 1, 2, 0):
            fleet.connect(node, "d")
            self.assert_one(fleet)

    def test_redis_forgets_and_the_older_node_refreshes_first(self) -> None:
        """The older one never gets the device back, not even for a moment."""
        for order in ((0, 1), (1, 0)):
            fleet = Fleet([5000.0, -5000.0])
            fleet.connect(0, "d")
            # The notification of the older node is lost.
            fleet.redis.subscription_lost(0)
            fleet.connect(1, "d")
            self.assertEqual(len(fleet.live("d")), 2)
            fleet.redis.run("FLUSHALL")
            for node in order:
                fleet.nodes[node].presence._refresh_quietly()
            fleet.clock.advance(0.5)
            fleet.settle()
            self.assert_one(fleet)

    def test_a_claim_after_redis_forgot_is_newer_than_those_before(self) -> None:
        fleet = Fleet([0.0, 0.0])
        fleet.connect(0, "other")
        fleet.connect(0, "d")
        fleet.redis.run("FLUSHALL")
        fleet.connect(1, "d")
        self.assertEqual(fleet.holder("d"), "s3")
        fleet.settle()
        self.assert_one(fleet)

    def test_a_claim_after_redis_forgot_with_its_clock_set_back(self) -> None:
        fleet = Fleet([0.0, 0.0])
        fleet.connect(0, "d")
        fleet.connect(1, "other")
        fleet.redis.offset -= 5000
        fleet.redis.run("FLUSHALL")
        fleet.connect(1, "d")
        fleet.settle()
        self.assert_one(fleet)
        fleet.connect(0, "d")
        fleet.settle()
        self.assert_one(fleet)

    def test_its_clock_set_back_alone(self) -> None:
        fleet = Fleet([0.0, 0.0])
        fleet.connect(0, "d")
        fleet.redis.offset -= 5000
        fleet.connect(1, "d")
        self.assert_one(fleet)

    def test_a_claim_during_an_outage_loses_to_a_later_one(self) -> None:
        for empty, first in product((False, True), (0, 1)):
            fleet = Fleet([300.0, -300.0])
            fleet.redis.fail()
            fleet.connect(first, "d")
            fleet.clock.advance(10)
            fleet.connect(1 - first, "d")
            fleet.clock.advance(10)
            self.assertEqual(len(fleet.live("d")), 2, "connected devices go on undisturbed")
            fleet.redis.recover(empty=empty)
            fleet.settle()
            self.assert_one(fleet)

    def test_a_claim_during_an_outage_wins_over_an_earlier_one(self) -> None:
        fleet = Fleet([300.0, -300.0])
        fleet.connect(0, "d")
        fleet.redis.fail()
        fleet.connect(1, "d")
        fleet.clock.advance(100)
        fleet.settle()
        self.assert_one(fleet)

    @settings(max_examples=300)
    @given(
        st.lists(st.floats(-1e5, 1e5), min_size=2, max_size=3),
        st.lists(
            st.one_of(
                *[st.tuples(st.just("connect"), st.integers(0, 2), st.sampled_from("de"))] * 4,
                st.tuples(st.just("leave"), st.sampled_from("de")),
                st.tuples(st.sampled_from(["go", "back", "empty back", "flush"])),
                st.tuples(st.just("wait"), st.floats(0, 120)),
                st.tuples(st.just("lose"), st.integers(0, 2)),
            ),
            min_size=4,
            max_size=25,
        ),
    )
    def test_the_newest_stays_after_random_events(
        self, skews: list[float], steps: list[tuple[object, ...]]
    ) -> None:
        fleet = Fleet(skews)
        for step in steps:
            match step:
                case "connect", int(node), str(device):
                    fleet.connect(node % len(skews), device)
                    if not fleet.redis.away:
                        self.assertEqual(fleet.holder(device), fleet.newest[device])
                case "leave", str(device):
                    fleet.leave(device)
                case ("go",):
                    fleet.redis.fail()
                case ("back",):
                    fleet.redis.recover()
                case ("empty back",):
                    fleet.redis.recover(empty=True)
                case ("flush",):
                    fleet.redis.run("FLUSHALL")
                case "wait", float(seconds):
                    fleet.clock.advance(seconds)
                case "lose", int(node):
                    fleet.redis.subscription_lost(node % len(skews))
            for device, session in fleet.newest.items():
                self.assertIn(session, fleet.live(device), "the newest is never sent away")
        fleet.settle()
        for device in fleet.newest:
            self.assert_one(fleet, device)
