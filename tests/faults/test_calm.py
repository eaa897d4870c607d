"""No fault: shows that the other tests do not cause the faults that they find."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from tests.faults.account import Kind
from tests.faults.case import MANY, FaultCase


class CalmTests(FaultCase, TestCase):
    """Two AI processes behind proxies."""

    async def test_nothing_happens(self) -> None:
        plant = await self.plant(brains=2, proxied=True)
        crowd = await self.crowd(plant)
        await self.talk_on(crowd, 4 * MANY)
        await self.finish(crowd)
        self.judge()
        self.assertEqual(self.ledger.count(Kind.TOLD), 0)
        self.assertGreaterEqual(self.ledger.count(Kind.CALLED), MANY / 2)
        self.assert_calm(plant)
