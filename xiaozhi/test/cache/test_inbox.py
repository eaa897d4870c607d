"""Inboxes of several edges on one Redis that fails and returns: each letter once, in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.base.errors import StoreError
from xiaozhi.base.values import Presence, Receipt
from xiaozhi.cache.redis import RedisPresence
from xiaozhi.cache.redisinbox import RedisInbox
from xiaozhi.cache.settings import InboxSettings
from xiaozhi.testing.redis import FakeRedis
from xiaozhi.wire.mail import Mail

SETTINGS = InboxSettings(per_device=1000, receipt_timeout=0.5)
TTL = 1e5


@dataclass
class Node:
    """An edge.

    :ivar session: that of the only device, if it is here.
    """

    redis: FakeRedis
    name: str
    got: list[str]
    session: str = ""
    presence: RedisPresence = field(init=False)
    inbox: RedisInbox = field(init=False)

    def __post_init__(self) -> None:
        hub = self.redis.hub(self.name)
        Deferred.fromCoroutine(hub.start())
        self.presence, self.inbox = RedisPresence(hub), RedisInbox(hub, SETTINGS)
        self.presence.start()

    def connect(self, session: str, patience: int) -> None:
        """Connect the device.

        :param patience: letters after which the link breaks.
        """
        if self.session:
            self.leave()
        self.session = session

        def deliver(mail: Mail) -> bool:
            nonlocal patience
            if self.session != session:
                return False
            if not patience:
                self.leave()
                return False
            patience -= 1
            self.got.append(mail.message)
            return True

        claiming = self.presence.claim(Presence("d", session, self.name, 0), self._gone(session))
        claiming.addErrback(lambda failure: failure.trap(StoreError))
        self.inbox.attach("d", session, deliver)

    def leave(self) -> None:
        session, self.session = self.session, ""
        if session:
            self.inbox.detach("d", session)
            releasing = self.presence.release("d", session)
            releasing.addErrback(lambda failure: failure.trap(StoreError))

    def _gone(self, session: str) -> Callable[[], None]:
        return lambda: self.leave() if self.session == session else None


class World:
    """Two edges and one device; the model is the list of accepted letters."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.redis = FakeRedis(self.clock)
        self.got: list[str] = []
        self.nodes = [Node(self.redis, f"n{number}", self.got) for number in range(2)]
        self.tried = 0
        self.accepted: list[str] = []
        self.sessions = 0

    def post(self, node: int) -> None:
        self.tried += 1
        message = str(self.tried)

        def accepted(receipt: Receipt) -> None:
            self.accepted.append(message)

        posting = self.nodes[node].inbox.post("d", Mail(message=message), TTL)
        posting.addCallbacks(accepted, lambda failure: failure.trap(StoreError))

    def connect(self, node: int, patience: int = 1000) -> None:
        self.sessions += 1
        # A device has one connection; the other edge may not have noticed yet.
        self.nodes[node].connect(f"s{self.sessions}", patience)

    def run(self, seconds: float) -> None:
        self.clock.pump([0.05] * round(seconds / 0.05))

    def settle(self) -> None:
        """End all faults, and let the device connect once more."""
        self.redis.recover()
        self.run(1)
        self.connect(0)
        self.run(70)


class InboxTests(SynchronousTestCase):
    def test_a_lost_settlement_and_a_device_that_has_moved(self) -> None:
        """Its lease keeps the other edge from sending the letter again."""
        world = World()
        world.post(0)
        world.redis.fail_after(2)  # claiming and taking succeed, settling fails
        world.connect(0)
        self.assertEqual(world.got, ["1"])
        world.redis.recover()
        world.connect(1)
        world.settle()
        self.assertEqual(world.got, ["1"])

    @settings(max_examples=100)
    @given(
        st.lists(
            st.one_of(
                *[st.tuples(st.just("post"), st.integers(0, 1))] * 4,
                *[st.tuples(st.just("connect"), st.integers(0, 1), st.integers(0, 4))] * 2,
                st.tuples(st.just("leave"), st.integers(0, 1)),
                st.tuples(st.sampled_from(["go", "back", "back"])),
                *[st.tuples(st.just("break"), st.integers(0, 4), st.booleans())] * 2,
                st.tuples(st.just("miss"), st.integers(0, 1)),
                st.tuples(st.just("wait"), st.sampled_from([0.05, 0.5, 12])),
            ),
            min_size=12,
            max_size=40,
        )
    )
    def test_each_letter_once_and_in_order(self, steps: list[tuple[object, ...]]) -> None:
        world = World()
        for step in steps:
            match step:
                case "post", int(node):
                    world.post(node)
                case "connect", int(node), int(patience):
                    world.connect(node, patience)
                case "leave", int(node):
                    world.nodes[node].leave()
                case ("go",):
                    world.redis.fail()
                case ("back",):
                    world.redis.recover()
                case "break", int(commands), bool(done):
                    world.redis.fail_after(commands, done=done)
                case "miss", int(node):
                    world.redis.subscription_lost(node)
                case "wait", float(seconds) | int(seconds):
                    world.run(seconds)
        world.settle()
        self.assertEqual(len(set(world.got)), len(world.got), "none twice")
        self.assertLessEqual(set(world.accepted), set(world.got), "none lost")
        self.assertEqual(world.redis.run("KEYS", "*letter:*"), [])
