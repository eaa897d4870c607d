"""The bridge's contract over real gRPC, and behaviour that needs sockets and threads."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from typing import Any

import grpc.aio
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from xiaozhi._pb import ai_service_pb2 as pb
from xiaozhi._pb.ai_service_pb2_grpc import AIServiceStub
from xiaozhi.base.errors import BridgeError
from xiaozhi.bridge.edge.client import BridgeClient
from xiaozhi.bridge.grpc.dialer import GrpcDialer
from xiaozhi.bridge.grpc.loop import AsyncioThread
from xiaozhi.bridge.grpc.port import GrpcPort
from xiaozhi.bridge.service.server import BridgeServer
from xiaozhi.bridge.settings import ClientSettings, ServerSettings
from xiaozhi.bridge.streams import IDialer, IStreamPort
from xiaozhi.runtime.listening import free_port
from xiaozhi.testing.contracts.bridge import BridgeContract, Heard, Sessions, opening
from xiaozhi.wire import messages as m

reactor: Any = _reactor  # it has more interfaces than its stub says


class GrpcTestCase(TestCase):
    timeout = 20
    client: BridgeClient
    server: BridgeServer
    sessions: Sessions

    async def set_up(self) -> None:
        self.sessions = Sessions()
        self.boots = 0
        self.listen = "127.0.0.1:0"
        await self.start_server()
        self.listen = self.server.address
        settings = ClientSettings(targets=(self.listen,), backoff_base=0.05, backoff_cap=0.1)
        self.client_thread = AsyncioThread(reactor, "edge")
        self.dialer = GrpcDialer(self.client_thread, settings)
        self.client = BridgeClient(self.dialer, settings, reactor, random.random, "im", "boot")
        await self.client.start()
        await self.until(lambda: self.client.status().streams == 2)

    async def start_server(self) -> None:
        settings = ServerSettings(listen=self.listen)
        self.port = GrpcPort(AsyncioThread(reactor, "ai"), settings)
        self.boots += 1
        self.server = BridgeServer(
            self.port, self.sessions, settings, reactor, "ai", f"ai-{self.boots}"
        )
        await self.server.start()

    async def tear_down(self) -> None:
        await self.client.stop()
        await self.server.stop()
        left = [thread.name for thread in threading.enumerate() if thread.name in ("edge", "ai")]
        self.assertEqual(left, [])

    def setUp(self) -> Deferred[None]:  # type: ignore[override]
        return Deferred.fromCoroutine(self.set_up())

    def tearDown(self) -> Deferred[None]:  # type: ignore[override]
        return Deferred.fromCoroutine(self.tear_down())

    async def until(self, true: Callable[[], object]) -> None:
        for _ in range(2_000):
            if true():
                return
            await deferLater(reactor, 0.005)
        raise AssertionError("it never came about")

    async def let_pass(self, seconds: float) -> None:
        await deferLater(reactor, seconds)


class GrpcContract(GrpcTestCase, BridgeContract):
    def story(self, tell: Coroutine[Any, Any, None]) -> Deferred[None]:
        return Deferred.fromCoroutine(tell)

    async def cut(self) -> None:
        for task in list(self.dialer._tasks):
            self.client_thread.post(task.cancel)

    async def lose_server(self) -> None:
        await self.server.stop()

    async def regain_server(self) -> None:
        await self.start_server()


class GrpcAloneTests(GrpcTestCase):
    def test_interfaces(self) -> None:
        verifyObject(IDialer, self.dialer)
        verifyObject(IStreamPort, self.port)

    async def test_port_in_use(self) -> None:
        other = GrpcPort(
            AsyncioThread(reactor, "other"), ServerSettings(listen=self.server.address)
        )
        with self.assertRaises(BridgeError) as caught:
            await other.start(self.server)
        self.assertIn(self.server.address, str(caught.exception))
        self.assertNotIn("other", [thread.name for thread in threading.enumerate()])

    async def test_stop_does_not_wait_for_open_streams(self) -> None:
        self.client.open(opening(), Heard())
        await self.until(lambda: self.sessions.accepted)
        begun = reactor.seconds()
        await self.server.stop()
        await self.client.stop()
        # Streams end by themselves only after an idle minute.
        self.assertLess(reactor.seconds() - begun, 10)

    async def test_streams_of_one_address_are_bounded(self) -> None:
        settings = ServerSettings(listen="127.0.0.1:0", max_streams_per_peer=2)
        port = GrpcPort(AsyncioThread(reactor, "full"), settings)
        server = BridgeServer(port, self.sessions, settings, reactor, "ai", "full")
        await server.start()
        edge = ClientSettings(
            targets=(server.address,), streams_per_target=3, backoff_base=0.05, backoff_cap=0.1
        )
        dialer = GrpcDialer(AsyncioThread(reactor, "many"), edge)
        client = BridgeClient(dialer, edge, reactor, random.random, "im", "boot")
        await client.start()
        try:
            detail = lambda: client.status().detail["targets"][server.address]  # noqa: E731
            await self.until(lambda: detail()["last_error"] and client.status().streams == 2)
            self.assertIn("RESOURCE_EXHAUSTED", detail()["last_error"])
            self.assertIn("grpc.max_streams_per_peer", detail()["last_error"])
            await self.until(lambda: port.refused)
            heard = Heard()
            client.open(opening("served"), heard).send(m.Chat("well?"))
            await self.until(lambda: heard.messages)
        finally:
            await client.stop()
            await server.stop()

    async def test_a_failed_session_affects_no_other(self) -> None:
        bad, well = Heard(), Heard()
        odd = replace(opening("odd"), downlink=m.AudioParams(sample_rate=7))
        self.client.open(odd, bad)
        self.client.open(opening("well"), well).send(m.Chat("well?"))
        await self.until(lambda: bad.events and well.messages)
        self.assertEqual(bad.all, [("closed", "bad_request")])
        self.assertEqual(self.client.status().streams, 2)

    async def test_connection_refused(self) -> None:
        target = f"127.0.0.1:{free_port()}"
        settings = ClientSettings(targets=(target,), backoff_base=0.01, backoff_cap=0.02)
        dialer = GrpcDialer(AsyncioThread(reactor, "edge"), settings)
        client = BridgeClient(dialer, settings, reactor, random.random, "im", "boot")
        await client.start()
        try:
            await self.until(lambda: client.status().detail["targets"][target]["last_error"])
            detail = client.status().detail["targets"][target]
            self.assertIn("UNAVAILABLE", detail["last_error"])
            self.assertNotIn("\n", detail["last_error"])
        finally:
            await client.stop()

    async def test_a_peer_without_batches(self) -> None:
        """A foreign client that announces nothing gets single, fully addressed messages."""
        thread = AsyncioThread(reactor, "edge")
        await thread.start()
        got: list[Any] = []

        async def talk() -> None:
            async with grpc.aio.insecure_channel(self.server.address) as channel:

                async def requests() -> AsyncIterator[Any]:
                    yield pb.ChatRequest(
                        type=pb.MESSAGE_TYPE_HELLO,
                        session_id="foreign",
                        device_id="d",
                        hello=pb.SessionOpen(),
                    )
                    for number in range(3):
                        yield pb.ChatRequest(
                            type=pb.MESSAGE_TYPE_AUDIO,
                            session_id="foreign",
                            sequence=number + 1,
                            audio=pb.Audio(payload=b"%d" % number),
                        )
                    await asyncio.sleep(10)  # finishing the writes would hang up

                async for response in AIServiceStub(channel).ChatStream(requests()):
                    if response.sequence:
                        got.append(response)
                    if len(got) == 3:
                        return

        try:
            await thread.call(talk)
        finally:
            await thread.stop()
        self.assertEqual([item.audio.payload for item in got], [b"0", b"1", b"2"])
        self.assertEqual([item.sequence for item in got], [1, 2, 3])
        for item in got:
            self.assertEqual((item.device_id, item.session_id), ("d", "foreign"))
            self.assertTrue(item.message_id)
            self.assertGreater(item.timestamp, 1_600_000_000_000)

    async def test_an_edge_that_does_not_read(self) -> None:
        """Its window fills, the session is paused, and continues when the edge reads."""
        thread = AsyncioThread(reactor, "edge")
        await thread.start()
        read_on = Deferred[None]()
        got: list[bytes] = []

        async def talk() -> None:
            async with grpc.aio.insecure_channel(self.server.address) as channel:
                call: Any = AIServiceStub(channel).ChatStream()
                hello = pb.SessionOpen()
                await call.write(
                    pb.ChatRequest(
                        type=pb.MESSAGE_TYPE_HELLO, session_id="slow", device_id="d", hello=hello
                    )
                )
                reading = asyncio.Event()
                read_on.addCallback(lambda _: thread.post(reading.set))
                await reading.wait()
                while len(got) < sent:
                    item = await call.read()
                    if not item.sequence:
                        continue
                    got.append(item.audio.payload)
                    if item.sequence % 100 == 0:
                        ack = pb.ChatRequest(
                            type=pb.MESSAGE_TYPE_ACK, session_id="slow", ack=item.sequence
                        )
                        await call.write(ack)

        talking = thread.call(talk)
        try:
            await self.until(lambda: self.sessions.accepted)
            (echo,) = self.sessions.accepted
            sent = 0
            while not echo.events and sent < 20_000:
                for _ in range(20):
                    echo.link.send(m.Audio(b"%08d" % sent * 100))
                    sent += 1
                await self.let_pass(0.003)
            self.assertEqual(echo.events, [("pause",)])
            read_on.callback(None)
            await talking
            self.assertEqual(got, [b"%08d" % number * 100 for number in range(sent)])
            await self.until(lambda: len(echo.events) > 1)
            self.assertEqual(echo.events[1], ("resume",))
        finally:
            await thread.stop()

    async def test_a_message_too_large_for_any_stream_affects_no_other(self) -> None:
        heard = Heard()
        link = self.client.open(opening(), heard)
        link.send(m.Image("what is this?", "jpeg", b"\0" * (17 << 20)))
        link.send(m.Chat("hello"))
        await self.until(lambda: len(heard.messages) == 2)
        self.assertEqual({type(message) for message in heard.messages}, {m.Error, m.Stt})
        self.assertEqual(heard.events, [])

    async def test_big_messages_pass_one_by_one(self) -> None:
        heard = Heard()
        link = self.client.open(opening(), heard)
        for _ in range(4):
            link.send(m.Image("what is this?", "jpeg", b"\0" * (10 << 20)))
        link.send(m.Chat("hello"))
        await self.until(lambda: heard.messages)
        self.assertEqual(heard.all, [m.Stt("hello")])
        self.assertEqual(len(self.sessions.accepted[0].messages), 5)


class AsyncioThreadTests(TestCase):
    timeout = 10

    async def test_results_errors_and_cancellation(self) -> None:
        async def answer(value: int) -> int:
            if value < 0:
                raise ValueError("negative")
            await asyncio.sleep(value)
            return 42

        thread = AsyncioThread(reactor, "edge")
        await thread.start()
        try:
            self.assertEqual(await thread.call(answer, 0), 42)
            with self.assertRaises(ValueError):
                await thread.call(answer, -1)
            endless = thread.call(answer, 3600)
            endless.addErrback(lambda failure: 0)
            endless.cancel()
            left = thread.call(answer, 3600)
        finally:
            await thread.stop()
        with self.assertRaises(CancelledError):
            await left
        await thread.stop()
        thread.post(print, "never")
        self.assertNotIn("edge", [each.name for each in threading.enumerate()])


del BridgeContract, GrpcTestCase
