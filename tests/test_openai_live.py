"""The OpenAI providers against a real server on the loopback."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from types import SimpleNamespace
from typing import Any

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from xiaozhi.base.errors import ProviderError
from xiaozhi.base.values import Picture, Role, TextDelta, ToolCall, Utterance
from xiaozhi.providers.openai.audio import (
    OpenAISpeech,
    OpenAISpeechSettings,
    OpenAITranscription,
    TranscriptionSettings,
)
from xiaozhi.providers.openai.chat import ChatSettings, OpenAIChat
from xiaozhi.providers.openai.vision import OpenAIVision, OpenAIVisionSettings
from xiaozhi.testing.vendors import octets
from xiaozhi.testing.vendors.octets import choice, frame, pieces
from xiaozhi.testing.vendors.octets import stream as scripted
from xiaozhi.testing.vendors.vendor import ACCEPT, HANG_UP, NEXT, ScriptedVendor

ASKED = [Utterance(Role.USER, "Hi")]
Script = Callable[[Request, bytes], Any]


def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


class Vendor(Resource):
    """Answers every POST with the current script."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.script: Script = lambda request, body: b""
        self.paths: list[bytes] = []
        self.peers: set[int] = set()
        self.gone: Deferred[None] = Deferred()

    def render_POST(self, request: Request) -> Any:
        self.paths.append(request.path)
        self.peers.add(request.client.port)
        request.notifyFinish().addErrback(self._lost)
        assert request.content is not None
        return self.script(request, request.content.read())

    def _lost(self, _: object) -> None:
        if not self.gone.called:
            self.gone.callback(None)


def later(seconds: float, function: Callable[..., Any], *args: Any) -> None:
    reactor.callLater(seconds, function, *args)


def stream(*chunks: bytes, pause: float = 0.01, end: bool = True) -> Script:
    """Send chunks one by one."""

    def script(request: Request, body: bytes) -> Any:
        request.setHeader("content-type", "text/event-stream; charset=utf-8")

        def send(rest: tuple[bytes, ...]) -> None:
            if request._disconnected:
                return
            if rest:
                request.write(rest[0])
                if end or len(rest) > 1:
                    later(pause, send, rest[1:])
            else:
                request.finish()

        send(chunks)
        return NOT_DONE_YET

    return script


def refuse(status: int, message: str) -> Script:
    def script(request: Request, body: bytes) -> bytes:
        request.setResponseCode(status)
        request.setHeader("content-type", "application/json")
        return json.dumps({"error": {"message": message}}).encode()

    return script


class LiveTests(TestCase):
    """Real sockets, real time."""

    timeout = 20

    def setUp(self) -> None:
        self.vendor = Vendor()
        site: Any = Site(self.vendor)
        self.port: Any = reactor.listenTCP(0, site, interface="127.0.0.1")
        address = self.port.getHost()
        assert isinstance(address, IPv4Address)
        self.url = f"http://127.0.0.1:{address.port}/v1"
        self.runtime = SimpleNamespace(reactor=reactor, offload=deferToThread)
        self.chat = OpenAIChat(ChatSettings(base_url=self.url, model="m"), reactor, Random(1))
        self.addCleanup(self._stop)

    async def _stop(self) -> None:
        await self.chat.close()
        await maybeDeferred(self.port.stopListening)

    async def ask(self) -> list[Any]:
        return [delta async for delta in self.chat.reply(ASKED, [])]

    async def refused(self) -> ProviderError:
        try:
            await self.ask()
        except ProviderError as error:
            return error
        raise AssertionError("no error")

    async def test_a_slow_stream(self) -> None:
        call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}
        whole = event({"content": "你好 there"}) + event({"tool_calls": [call]}, "tool_calls")
        self.vendor.script = stream(
            *(whole[i : i + 7] for i in range(0, len(whole), 7)), pause=0.001
        )
        deltas = await self.ask()
        self.assertEqual("".join(d.text for d in deltas[:-1]), "你好 there")
        self.assertEqual(deltas[-1], ToolCall("c", "f", "{}"))

    async def test_connections_are_kept(self) -> None:
        done = event({"content": "a"}, "stop") + b"data: [DONE]\n\n"
        self.vendor.script = stream(done)
        for _ in range(3):
            self.assertEqual(await self.ask(), [TextDelta("a")])
        self.assertEqual(len(self.vendor.peers), 1)

    async def test_closing_the_generator_is_seen_by_the_server(self) -> None:
        self.vendor.script = stream(event({"content": "a"}), end=False)
        generator = self.chat.reply(ASKED, [])
        self.assertEqual(await anext(generator), TextDelta("a"))
        await generator.aclose()
        await self.vendor.gone

    async def test_a_flooding_server_is_held_back(self) -> None:
        written = 0

        def script(request: Request, body: bytes) -> Any:
            request.setHeader("content-type", "text/event-stream")

            class Flood:
                def resumeProducing(self) -> None:
                    nonlocal written
                    data = event({"content": "x" * 10000})
                    written += len(data)
                    request.write(data)

                def stopProducing(self) -> None: ...

            request.registerProducer(Flood(), False)
            return NOT_DONE_YET

        self.vendor.script = script
        generator = self.chat.reply(ASKED, [])
        await anext(generator)
        # It writes until the buffers on the way are full.
        before = -1
        while written != before:
            before = written
            self.assertLess(written, 1 << 28)
            await deferLater(reactor, 0.2)
        await generator.aclose()
        await self.vendor.gone

    async def test_a_broken_stream(self) -> None:
        def script(request: Request, body: bytes) -> Any:
            request.write(event({"content": "a"}))
            transport: Any = request.transport
            later(0.05, transport.abortConnection)
            return NOT_DONE_YET

        self.vendor.script = script
        error = await self.refused()
        self.assertEqual((error.code, error.retryable), ("connection_lost", True))

    async def test_refusals(self) -> None:
        self.vendor.script = refuse(401, "bad key sk-abcdefgh12345")
        error = await self.refused()
        self.assertEqual((error.code, error.retryable), ("unauthorized", False))
        self.assertIn("bad key ***", error.message)
        self.vendor.script = refuse(429, "slow down")
        error = await self.refused()
        self.assertEqual((error.code, error.retryable), ("rate_limited", True))

    async def test_connection_refused(self) -> None:
        await maybeDeferred(self.port.stopListening)
        error = await self.refused()
        self.assertEqual((error.code, error.retryable), ("unreachable", True))
        self.assertIn(self.url, error.message)

    async def test_a_silent_server(self) -> None:
        self.vendor.script = lambda request, body: NOT_DONE_YET
        await self.chat.close()
        settings = ChatSettings(base_url=self.url, model="m", first_byte_timeout=1)
        self.chat = OpenAIChat(settings, reactor, Random(1))
        self.assertEqual((await self.refused()).code, "timeout")
        await self.vendor.gone

    async def test_cancelling_before_the_head(self) -> None:
        self.vendor.script = lambda request, body: NOT_DONE_YET
        asking = Deferred.fromCoroutine(self.ask())
        while not self.vendor.paths:
            await deferLater(reactor, 0.01)
        asking.cancel()
        # A cancelled turn must not look like a vendor's failure.
        with self.assertRaises(Exception) as caught:
            await asking
        self.assertEqual(type(caught.exception).__name__, "CancelledError")
        await self.vendor.gone

    async def test_speech_hearing_and_sight(self) -> None:
        speech = OpenAISpeech.make(OpenAISpeechSettings(base_url=self.url), self.runtime)
        self.vendor.script = stream(b"abc\0" * 4, b"def")
        spoken = [piece async for piece in speech.synthesize("Hi.", "en")]
        self.assertEqual(spoken, [b"abc\0" * 4, b"de"])

        hearing = OpenAITranscription.make(TranscriptionSettings(base_url=self.url), self.runtime)
        received: list[bytes] = []

        def transcribe(request: Request, body: bytes) -> bytes:
            received.append(request.args[b"model"][0])
            received.append(request.args[b"file"][0])
            return b'{"text": "hi"}'

        self.vendor.script = transcribe
        recognition = hearing.recognition()
        recognition.feed(b"\x01\x02" * 8000)
        self.assertEqual((await recognition.finish()).text, "hi")
        self.assertEqual(received[0], b"whisper-1")
        self.assertTrue(received[1].endswith(b"\x01\x02" * 8000))

        sight = OpenAIVision.make(OpenAIVisionSettings(base_url=self.url, model="v"), self.runtime)
        self.vendor.script = lambda request, body: (
            b'{"choices": [{"message": {"content": "%d"}}]}' % len(body)
        )
        size = int(await sight.describe(Picture(bytes(3_000_000), "image/png", 1, 1), "?"))
        self.assertGreater(size, 4_000_000)
        for provider in (speech, hearing, sight):
            await provider.close()


class ScriptedTests(TestCase):
    """The scripted vendor over a real port."""

    timeout = 20

    async def test_http_and_websocket(self) -> None:
        got = []
        vendor = ScriptedVendor(
            reactor,
            scripted(*pieces(octets.event(choice({"content": "你好"}, "stop")), 3)),
            [ACCEPT, NEXT, frame("hi"), NEXT, HANG_UP],
        )
        port: Any = reactor.listenTCP(0, vendor, interface="127.0.0.1")
        number = port.getHost().port
        url = f"http://127.0.0.1:{number}/v1"
        chat = OpenAIChat(ChatSettings(base_url=url, model="m"), reactor, Random(1))
        self.assertEqual([delta async for delta in chat.reply(ASKED, [])], [TextDelta("你好")])
        await chat.close()
        over: Deferred[None] = Deferred()

        class Client(WebSocketClientProtocol):
            def onOpen(self) -> None:
                self.sendMessage(b"\x00\x01", isBinary=True)

            def onMessage(self, payload: bytes, isBinary: bool) -> None:
                got.append(payload)
                self.sendClose(1000)

            def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
                over.callback(None)

        factory = WebSocketClientFactory(f"ws://127.0.0.1:{number}/v1", reactor=reactor)
        factory.protocol = Client
        factory.setProtocolOptions(openHandshakeTimeout=0, closeHandshakeTimeout=0)
        reactor.connectTCP("127.0.0.1", number, factory)
        await over
        self.assertEqual((got, vendor.last.messages), ([b"hi"], [b"\x00\x01"]))
        self.assertEqual(vendor.last.close_code, 1000)
        await maybeDeferred(port.stopListening)
