"""Shared base of the fault tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from tests.faults.account import Kind, Rules
from tests.faults.crowd import Crowd
from tests.faults.ledger import STRICT, Ledger
from tests.faults.plant import Plant
from tests.guests import ServiceCase, complaints

# Devices in conversation.
MANY = 50
# Limit for events that must end by themselves; none takes so long on a fast machine.
GENEROUS = 60.0


class FaultCase(ServiceCase):
    """Injects faults while a crowd talks.

    :ivar ledger: of the crowd.
    """

    timeout = 180

    def setUp(self) -> None:
        clock: Any = reactor
        self.ledger = Ledger(clock.seconds)

    async def plant(self, *im_sets: str, **options: Any) -> Plant:
        """Start services."""
        plant = Plant(*im_sets, reactor=reactor, **options)
        self.addCleanup(deferToThread, plant.end)
        for way in plant.ways:
            self.addCleanup(way.stop)
        await deferToThread(plant.start)
        return plant

    async def crowd(self, plant: Plant, count: int = MANY, first: int = 1) -> Crowd:
        """Connect devices that talk."""
        crowd = Crowd(reactor, self.ledger, plant.endpoints, count, first)
        self.addCleanup(crowd.close)
        await crowd.connect()
        crowd.start()
        return crowd

    async def talk_on(self, crowd: Crowd, answers: int | None = None) -> None:
        """Wait until so many more questions are answered; by default one for each device."""
        wanted = crowd.answered + (answers or len(crowd.talkers))
        with suppress(self.failureException):
            await self.until(lambda: crowd.answered >= wanted, "", GENEROUS)
        if crowd.answered < wanted:
            stuck = crowd.waiting or crowd.talkers
            lines = map(str, self.ledger.devices[stuck[0].number][-20:])
            self.fail("the conversation has stopped; one device:\n" + "\n".join(lines))

    async def finish(self, *crowds: Crowd, within: float = 30.0) -> None:
        """Stop asking; wait until no device expects anything. What is still missing then is in the
        ledger.
        """
        for crowd in crowds:
            crowd.asking = False
        # The verdict of the ledger says more than a timeout.
        with suppress(self.failureException):
            await self.until(lambda: not any(crowd.waiting for crowd in crowds), "", within)

    def judge(self, rules: Rules = STRICT, devices: Sequence[int] = ()) -> None:
        """Fail with the faults in the ledger."""
        faults = self.ledger.faults(rules, devices)
        count = self.ledger.count
        told = (
            f"{count(Kind.ASKED)} questions, {count(Kind.LAST)} answers, {count(Kind.TOLD)} times"
            f" told, {count(Kind.NOTED)} notes, {count(Kind.ECHOED)} came back,"
            f" {count(Kind.LOST)} connections lost"
        )
        if faults:
            shown = "\n".join(faults[:8])
            self.fail(f"{len(faults)} faults in {told}:\n{shown}")

    def assert_calm(self, plant: Plant, allowed: Callable[[str], bool] | None = None) -> None:
        """Check that the services' logs have no sign of a bug."""
        lines = plant.output.splitlines()
        kept = [line for line in lines if allowed is None or not allowed(line)]
        found = complaints("\n".join(kept))
        self.assertFalse(found, found)
