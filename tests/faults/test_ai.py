"""AI processes that die, freeze and come back."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.faults.account import Kind, Rules
from tests.faults.case import MANY, FaultCase

# The edge closes a stream about two seconds after the other side has gone silent.
BRISK = (
    "bridge.heartbeat_interval=0.5",
    "bridge.heartbeat_timeout=1.0",
    "bridge.heartbeat_misses=2",
)
# Devices get no alert about the AI service's absence: the only permitted effect is a delay.
PATIENT = "link.outage_patience=60"
# Sessions wait for their process, and the process waits for them.
STAYING = ("bridge.resume_timeout=60",)
KEEPING = ("grpc.resume_timeout=90",)


class DeathTests(FaultCase, TestCase):
    """``kill -9``."""

    async def test_killed_and_restarted(self) -> None:
        """With no AI process for a while, devices get alerts; questions asked meanwhile are
        answered afterwards.
        """
        plant = await self.plant()
        crowd = await self.crowd(plant)
        await self.talk_on(crowd)
        await deferToThread(plant.ai.kill)
        died = self.ledger.now
        await self.until(
            lambda: self.ledger.count(Kind.TOLD) >= MANY, "every device is alerted", 60
        )
        plant.ai.start()
        await self.talk_on(crowd, 2 * MANY)
        await self.finish(crowd)
        self.assertEqual(self.ledger.count(Kind.LOST), 0, "devices stay connected")
        self.judge(Rules(told=True, dropped=True, died=(died,)))
        self.assert_calm(plant)

    async def test_one_of_two_killed(self) -> None:
        """The other process takes over; sessions that it already had are not affected."""
        plant = await self.plant(brains=2)
        crowd = await self.crowd(plant)
        await self.talk_on(crowd)
        before = await deferToThread(plant.brains[1].wait_for)
        self.assertGreater(before["sessions"], MANY // 4, "both have work")
        await deferToThread(plant.brains[0].kill)
        died = self.ledger.now
        await self.talk_on(crowd, 2 * MANY)
        after = await deferToThread(plant.brains[1].wait_for)
        self.assertEqual(after["sessions"], MANY)
        plant.brains[0].start()
        await self.talk_on(crowd)
        await self.finish(crowd)
        self.assertEqual(self.ledger.count(Kind.LOST), 0)
        self.judge(Rules(told=True, dropped=True, died=(died,)))
        self.assert_calm(plant)


class FreezeTests(FaultCase, TestCase):
    """SIGSTOP, five seconds, SIGCONT."""

    async def frozen(self, *sets: str, ai_sets: Sequence[str] = ()) -> float:
        """Freeze the process. :return: the end of it, on the ledger's clock."""
        plant = await self.plant(*sets, ai_sets=ai_sets)
        crowd = await self.crowd(plant)
        await self.talk_on(crowd)
        os.kill(plant.ai.pid, signal.SIGSTOP)
        try:
            await deferLater(reactor, 5.0)
        finally:
            os.kill(plant.ai.pid, signal.SIGCONT)
        over = self.ledger.now
        await self.talk_on(crowd, 2 * MANY)
        await self.finish(crowd)
        self.assertEqual(self.ledger.count(Kind.LOST), 0)
        self.assert_calm(plant)
        return over

    async def test_the_streams_outlast_it(self) -> None:
        await self.frozen(PATIENT, "bridge.heartbeat_interval=20")
        self.judge(Rules(dropped=True))

    async def test_sessions_outlast_their_streams(self) -> None:
        """The edge closes its streams, and the sessions resume on others."""
        await self.frozen(PATIENT, *BRISK, *STAYING, ai_sets=KEEPING)
        self.judge(Rules(dropped=True))

    async def test_given_up(self) -> None:
        """The edge gives the process up and reopens the sessions on it."""
        over = await self.frozen(*BRISK, "bridge.resume_timeout=1")
        self.judge(Rules(told=True, dropped=True, died=(over,)))
