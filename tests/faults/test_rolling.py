"""Rolling restart: every process is replaced while devices talk."""

from __future__ import annotations

import os
import signal

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.faults.account import Kind, Rules
from tests.faults.case import MANY, FaultCase
from tests.faults.crowd import Crowd
from tests.services import ServiceProcess


class RollingTests(FaultCase, TestCase):
    """SIGTERM and a new start, one process after the other."""

    async def replaced(self, service: ServiceProcess, crowd: Crowd) -> None:
        """Stop the process while the crowd talks, and start it again."""
        os.kill(service.pid, signal.SIGTERM)
        self.assertEqual(await deferToThread(service.ended), 0, service.name)
        self.assertIn("Server Shut Down", service.output)
        await self.talk_on(crowd)
        service.start()
        await deferToThread(service.wait_for)
        await self.talk_on(crowd)

    async def test_brains(self) -> None:
        """Two AI processes: sessions move to the other one unnoticed."""
        plant = await self.plant(brains=2)
        crowd = await self.crowd(plant)
        await self.talk_on(crowd)
        for brain in plant.brains:
            await self.replaced(brain, crowd)
        await self.finish(crowd)
        self.assertEqual(self.ledger.count(Kind.LOST), 0)
        self.judge()
        self.assert_calm(plant)

    async def test_edges(self) -> None:
        """Two edges: devices hear the sentence to its end, are disconnected and reconnect to the
        other edge.
        """
        plant = await self.plant()
        second = plant.another_edge()
        await deferToThread(second.start)
        await deferToThread(second.wait_for)
        crowd = await self.crowd(plant)
        await self.talk_on(crowd)
        for edge in plant.edges:
            await self.replaced(edge, crowd)
        await self.finish(crowd)
        lines = [line for lines in self.ledger.devices.values() for line in lines]
        ends = {line.words for line in lines if line.kind is Kind.LOST}
        self.assertEqual(ends, {"1001 going_away"})
        self.assertGreaterEqual(self.ledger.count(Kind.LOST), MANY)
        self.assertEqual(
            self.ledger.count(Kind.GREETED), MANY + self.ledger.count(Kind.LOST), "all are back"
        )
        self.judge(Rules(sent_away=True))
        self.assert_calm(plant)
