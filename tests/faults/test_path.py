"""A faulty network path between the edge and the AI service."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.faults.account import Kind, Rules
from tests.faults.case import MANY, FaultCase
from tests.faults.test_ai import BRISK, KEEPING, PATIENT, STAYING


class PathTests(FaultCase, TestCase):
    """Both processes stay up, so nothing may be lost."""

    async def test_cut(self) -> None:
        """All connections are reset at once, repeatedly."""
        plant = await self.plant(PATIENT, proxied=True)
        (way,) = plant.ways
        crowd = await self.crowd(plant)
        for _ in range(3):
            await self.talk_on(crowd)
            self.assertGreater(len(way.connections), 0)
            way.cut()
        await self.talk_on(crowd)
        await self.finish(crowd)
        self.assertGreater(way.accepted, 3, "it was dialled again")
        self.assertEqual(self.ledger.count(Kind.LOST), 0)
        self.judge()
        self.assert_calm(plant)

    async def test_refused_for_a_while(self) -> None:
        """Like a pulled cable: longer than sound is kept."""
        plant = await self.plant(PATIENT, *STAYING, ai_sets=KEEPING, proxied=True)
        (way,) = plant.ways
        crowd = await self.crowd(plant)
        await self.talk_on(crowd)
        way.refuse()
        await deferToThread(plant.im.wait_for, "/health", 503)
        await deferLater(reactor, 3.0)
        way.heal()
        await self.talk_on(crowd, 2 * MANY)
        await self.finish(crowd)
        self.assertEqual(self.ledger.count(Kind.LOST), 0)
        self.judge(Rules(dropped=True))
        self.assert_calm(plant)

    async def test_silent_for_a_while(self) -> None:
        """Data is lost without an error; the heartbeat detects it."""
        plant = await self.plant(PATIENT, *BRISK, *STAYING, ai_sets=KEEPING, proxied=True)
        (way,) = plant.ways
        crowd = await self.crowd(plant)
        await self.talk_on(crowd)
        way.stalled = True
        await deferToThread(plant.im.wait_for, "/health", 503)
        way.heal()
        await self.talk_on(crowd, 2 * MANY)
        await self.finish(crowd)
        self.assertEqual(self.ledger.count(Kind.LOST), 0)
        self.judge(Rules(dropped=True))
        self.assert_calm(plant)

    async def test_high_delay_and_low_rate(self) -> None:
        """A high delay, then a rate that is too low for the devices' sound, then neither: late data
        is not lost.
        """
        plant = await self.plant(PATIENT, proxied=True)
        (way,) = plant.ways
        crowd = await self.crowd(plant)
        await self.talk_on(crowd)
        way.delay = 0.3
        await self.talk_on(crowd)
        way.delay, way.rate = 0.0, 10_000
        await self.talk_on(crowd, MANY // 2)
        way.heal()
        await self.talk_on(crowd)
        await self.finish(crowd)
        self.assertEqual(self.ledger.count(Kind.LOST), 0)
        self.judge(Rules(dropped=True))
        self.assert_calm(plant)
