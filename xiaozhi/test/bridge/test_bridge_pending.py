"""Pending messages of sessions: their bytes are bounded for all sessions together."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.bridge.delivery.pending import Bounds, ByteBudget, PendingQueue
from xiaozhi.wire import messages as m

MIB = 1 << 20


class RoomTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.budget = ByteBudget(4 * MIB)
        self.dropped: list[str] = []
        self.bounds = Bounds(256, 256, 2.0, self.budget)

    def waiting(self) -> PendingQueue[m.Uplink]:
        return PendingQueue(self.bounds, self.dropped.append)

    def take(self, waiting: PendingQueue[m.Uplink]) -> None:
        message = waiting.next(0.0)
        assert message is not None
        waiting.take(message)

    def test_any_message(self) -> None:
        for message in (
            m.Image("", "jpeg", b"x" * 100_000, ""),
            m.Mcp(b"x" * 100_000),
            m.Iot(b"x" * 100_000),
            m.Vision("v", b"x" * 100_000),
            m.Unknown("u", b"x" * 100_000),
            m.Chat("x" * 100_000),
        ):
            self.setUp()
            sessions = [self.waiting() for _ in range(100)]
            for _ in range(10):
                for session in sessions:
                    session.add(message, 0.0)
                    self.assertLess(self.budget.used, 5 * MIB)
            self.assertIn("control_overflow", self.dropped)
            # Ordinary messages still fit.
            self.assertTrue(self.waiting().add(m.Chat("tea"), 0.0))

    def test_removed_messages_free_their_bytes(self) -> None:
        one, two, three = (self.waiting() for _ in range(3))
        for session in (one, two, three):
            session.add(m.Mcp(b"x" * MIB), 0.0)
            session.add(m.Chat("tea"), 0.0)
        self.take(one)
        self.take(one)
        two.remove(lambda message: isinstance(message, m.Mcp))
        self.assertLess(self.budget.used, MIB + 1000)
        self.take(two)
        three.clear()
        self.assertEqual(self.budget.used, 0)
