"""Devices that burden others, or seem to."""

from __future__ import annotations

import socket
import time
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import LoopingCall, deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.faults.account import Kind, Rules
from tests.faults.case import GENEROUS, MANY, FaultCase
from tests.faults.crowd import Crowd, Talker
from tests.faults.plant import Plant
from xiaozhi.wire import messages as m

# The first number of the bad devices.
VANISHING, DEAF, FLOODING = 101, 201, 301
STORM = 1000


class BadDeviceTests(FaultCase, TestCase):
    """Good devices are not affected, and bad ones leave nothing behind."""

    async def test_vanishing_unread_and_flooding_devices(self) -> None:
        plant = await self.plant(
            "link.congestion_timeout=1",
            "limits.byte_burst=10000000",
        )
        good = await self.crowd(plant)
        await self.talk_on(good)
        bad = [
            Deferred.fromCoroutine(part)
            for part in (self.vanish(plant), self.be_deaf(plant), self.flood(plant))
        ]
        await gatherResults(bad, consumeErrors=True)
        await self.talk_on(good)
        await self.finish(good)
        self.judge(devices=[talker.number for talker in good.talkers])
        self.judge(Rules(cut_off=True, dropped=True), range(VANISHING, VANISHING + 10))
        for service, key in ((plant.im, "connections"), (plant.ai, "sessions")):
            await self.only(service, key)
        self.assert_calm(plant)

    async def only(self, service: Any, key: str) -> None:
        """Wait until a service has only the good devices."""
        deadline = time.monotonic() + 30
        while (found := (await deferToThread(service.wait_for))[key]) != MANY:
            self.assertLess(time.monotonic(), deadline, f"{service.name}: {found} {key}")
            await deferLater(reactor, 0.1)

    async def vanish(self, plant: Plant) -> None:
        """Let ten devices vanish in the middle of answers, and reconnect."""
        crowd = await self.crowd(plant, 10, VANISHING)
        times = 0

        def drop() -> None:
            nonlocal times
            speaking = [talker for talker in crowd.talkers if talker.in_turn]
            if speaking:
                speaking[times % len(speaking)].drop()
                times += 1

        dropping = LoopingCall(drop)
        dropping.start(0.1)
        self.addCleanup(self.halt, dropping)
        await self.until(lambda: times >= 30, "thirty times gone", 60)
        dropping.stop()
        await self.finish(crowd)
        await crowd.close()

    def halt(self, calls: LoopingCall) -> None:
        if calls.running:
            calls.stop()

    async def quiet(self, plant: Plant, count: int, first: int) -> Crowd:
        """Make devices that do nothing by themselves."""
        crowd = Crowd(reactor, self.ledger, plant.endpoints, count, first)
        self.addCleanup(crowd.close)
        await crowd.connect()
        return crowd

    async def be_deaf(self, plant: Plant) -> None:
        """Let three devices request much data and read none of it."""
        crowd = await self.quiet(plant, 3, DEAF)
        for talker in crowd.talkers:
            assert talker.socket is not None
            transport: Any = talker.socket.transport
            # The kernels' buffers of both sides hold less than 5 MB.
            transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            transport.pauseProducing()
        for _ in range(20):
            for talker in crowd.talkers:
                # Each is returned whole.
                talker.send(m.Vision("x" * 400_000))
            await deferLater(reactor, 0.05)
        await self.gone(plant, crowd)

    async def gone(self, plant: Plant, crowd: Crowd) -> None:
        """Wait until the edge has closed them, which they notice when they read."""
        for talker in crowd.talkers:
            log = f"device {talker.identity.device_id} disconnected"
            await self.until(lambda: log in plant.im.output, f"{log} in the log", 30)  # noqa: B023
        await crowd.close()

    async def flood(self, plant: Plant) -> None:
        """Let five devices send as fast as possible until they are disconnected."""
        crowd = await self.quiet(plant, 5, FLOODING)
        await gatherResults([Deferred.fromCoroutine(self.pour(each)) for each in crowd.talkers])
        for talker in crowd.talkers:
            (*_, last) = [
                line for line in self.ledger.devices[talker.number] if line.kind is Kind.LOST
            ]
            self.assertEqual(last.words, "1008 rate_limit")
        await crowd.close()

    async def pour(self, talker: Talker) -> None:
        deadline = time.monotonic() + 30
        while talker.socket is not None:
            self.assertLess(time.monotonic(), deadline, "still there")
            for _ in range(50):
                talker.send(m.Ping())
            await deferLater(reactor, 0.01)


class StormTests(FaultCase, TestCase):
    """All devices connect at once."""

    async def test_reconnect_storm(self) -> None:
        """The edge is killed; a thousand devices, fifty of them in conversation, reconnect when it
        is back.
        """
        plant = await self.plant()
        quiet = Crowd(reactor, self.ledger, plant.endpoints, STORM - MANY, 1001)
        self.addCleanup(quiet.close)
        await quiet.connect()
        crowd = await self.crowd(plant)
        await self.talk_on(crowd)
        plant.im.kill()
        await self.until(lambda: self.ledger.count(Kind.LOST) == STORM, "all know it", 30)
        coming = gatherResults(
            [Deferred.fromCoroutine(talker.connect()) for talker in quiet.talkers]
        )
        plant.im.start()
        await deferToThread(plant.im.wait_for, "/alive")
        began = self.ledger.now
        await coming
        # Devices in conversation reconnect by themselves, each after its own delay.
        everybody = [*quiet.talkers, *crowd.talkers]
        await self.until(lambda: all(each.greeted for each in everybody), "all greeted", GENEROUS)
        took = self.ledger.now - began
        print(f"\n    {STORM} devices were greeted again within {took:.1f} s", end=" ")
        health = await deferToThread(plant.im.wait_for)
        self.assertEqual(health["connections"], STORM)
        await self.talk_on(crowd)
        await self.finish(crowd)
        self.judge(Rules(cut_off=True))
        self.assert_calm(plant)
