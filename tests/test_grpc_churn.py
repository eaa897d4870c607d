"""Connecting and vanishing edges leak neither threads nor sockets nor sessions in an AI process."""

from __future__ import annotations

import asyncio
import os
import time

import grpc.aio
from twisted.trial.unittest import SynchronousTestCase

from tests.services import DOUBLES, Pair
from xiaozhi._pb import ai_service_pb2 as pb
from xiaozhi._pb.ai_service_pb2_grpc import AIServiceStub

#: Streams, and the number open at a time. Each has its own connection.
STREAMS, AT_ONCE = 240, 40

#: gRPC adds a thread when all threads of its pool are busy for a moment.
SPARE = 32


class ChurnTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.pair = Pair(ai_sets=(*DOUBLES, "grpc.resume_timeout=0.5"))
        self.addCleanup(self.pair.ai.end)
        self.pair.ai.start()
        self.pair.ai.wait_for("/health")

    def count(self, what: str) -> int:
        return len(os.listdir(f"/proc/{self.pair.ai.pid}/{what}"))

    async def come_and_go(self, number: int) -> None:
        """Open a stream and a session on it, and vanish without closing them."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        address = f"127.0.0.1:{self.pair.grpc_port}"
        async with grpc.aio.insecure_channel(address, options=options) as channel:
            call = AIServiceStub(channel).ChatStream()
            announced = pb.ChatRequest(type="MESSAGE_TYPE_STREAM_OPEN")
            announced.stream.protocol_version = 2
            announced.stream.node = f"edge-{number}"
            announced.stream.credit = 128
            await call.write(announced)
            hello = pb.ChatRequest(
                type="MESSAGE_TYPE_HELLO",
                session_id=f"s{number}",
                device_id=f"d{number}",
                hello=pb.SessionOpen(),
            )
            await call.write(hello)
            await call.read()
            if number % 2:
                call.cancel()

    async def churn(self) -> int:
        most = 0
        for first in range(0, STREAMS, AT_ONCE):
            await asyncio.gather(*map(self.come_and_go, range(first, first + AT_ONCE)))
            most = max(most, self.count("task"))
        return most

    def test_streams(self) -> None:
        threads, sockets = self.count("task"), self.count("fd")
        most = asyncio.run(self.churn())
        self.assertLessEqual(most, threads + SPARE)
        for _ in range(300):
            time.sleep(0.1)
            health = self.pair.ai.wait_for("/health")
            if health["sessions"] == 0 and self.count("fd") <= sockets + SPARE:
                break
        self.assertEqual(health["sessions"], 0, health["bridge"])
        self.assertEqual(health["bridge"]["edges"], {})
        self.assertLessEqual(self.count("fd"), sockets + SPARE)
        self.assertLessEqual(self.count("task"), threads + SPARE)
        self.assertNotIn("Traceback", self.pair.ai.output)
