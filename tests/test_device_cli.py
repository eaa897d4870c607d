"""The software device's command line against a small server of our own."""

from __future__ import annotations

import io
import json
import math
import os
import sys
from array import array
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import LoopingCall, deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import Site

from xiaozhi.audio import OpusEncoder, read_wav, write_wav
from xiaozhi.device import cli, client
from xiaozhi.device.client import SoftDevice
from xiaozhi.device.firmware.camera import PICTURE
from xiaozhi.device.firmware.machine import MachineSettings
from xiaozhi.device.fleet import Fleet, FleetSettings, stamped
from xiaozhi.device.network.ota import DeviceEndpoint
from xiaozhi.wire.frames import codec
from xiaozhi.wire.messages import Audio, ListenMode

reactor: Any = installed_reactor

# Uplink packets after which the server ends the utterance.
UTTERANCE = 8


class TinyServer(WebSocketServerProtocol):
    """Answers every utterance and typed text with one sentence of five packets."""

    mode = ""

    def onConnect(self, request: Any) -> None:
        self.factory.requests.append(request)
        self.factory.protocols_seen.append(self)
        framing = int(request.headers["protocol-version"])
        self.pack, self.unpack = codec(framing)
        self.uplink = 0
        self.busy = False

    def say(self, **message: Any) -> None:
        if self.state == self.STATE_OPEN:
            self.sendMessage(json.dumps(message).encode())

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if isBinary:
            self.unpack(payload)
            if self.factory.echo:
                self.sendMessage(payload, isBinary=True)
                return
            self.uplink += 1
            if self.uplink == UTTERANCE and not self.busy and self.mode != "manual":
                self.answer("spoken words")
            return
        message = json.loads(payload)
        self.factory.texts.append(message)
        message |= message.get("data", {})
        if message["type"] == "hello":
            params = {"format": "opus", "sample_rate": 24000, "channels": 1, "frame_duration": 60}
            self.say(type="hello", transport="websocket", session_id="s1", audio_params=params)
            self.call_tool()
        elif message["type"] == "listen" and message["state"] == "start":
            self.uplink, self.mode = 0, message["mode"]
        elif message["type"] == "listen" and message["state"] == "stop":
            self.answer("spoken words")
        elif message["type"] == "listen" and message["state"] == "detect":
            self.answer(message["text"])

    def call_tool(self) -> None:
        if self.factory.vision_url:
            vision = {"url": self.factory.vision_url, "token": "photo-token"}
            self.rpc(5, "initialize", {"capabilities": {"vision": vision}})
            call = {"name": "self.camera.take_photo", "arguments": {"question": "what is 这?"}}
            self.rpc(6, "tools/call", call)
        params: Any = {"name": "self.audio_speaker.set_volume", "arguments": {"volume": 33}}
        self.rpc(7, "tools/call", params)

    def rpc(self, number: int, method: str, params: Any) -> None:
        payload = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        self.say(type="mcp", payload=payload)

    def answer(self, heard: str) -> None:
        if self.factory.mute:
            return
        Deferred.fromCoroutine(self._answer(heard)).addErrback(self.factory.failed)

    async def _answer(self, heard: str) -> None:
        self.busy = True
        self.say(type="stt", text=heard)
        self.say(type="tts", state="start")
        # Sent together with the start, the device would lose the first packet.
        await deferLater(reactor, 0.2)
        self.say(type="tts", state="sentence_start", text=f"You said {heard}.")
        packets = iter(self.factory.packets)

        def send() -> None:
            packet = next(packets, None)
            if packet is None or self.state != self.STATE_OPEN:
                pacer.stop()
            else:
                self.sendMessage(self.pack(Audio(packet)), isBinary=True)

        pacer = LoopingCall(send)
        await pacer.start(0.055)
        await deferLater(reactor, 0.1)
        self.busy = False
        self.uplink = UTTERANCE + 1
        self.say(type="tts", state="stop")
        if self.factory.farewell:
            self.sendClose(1000, "farewell")


def make_factory() -> Any:
    factory: Any = WebSocketServerFactory()
    factory.protocol = TinyServer
    factory.setProtocolOptions(closeHandshakeTimeout=0, openHandshakeTimeout=0)
    factory.requests, factory.texts, factory.protocols_seen = [], [], []
    factory.failures, factory.mute, factory.echo = [], False, False
    factory.vision_url, factory.farewell = "", False
    factory.failed = factory.failures.append
    factory.packets = OpusEncoder(24000).encode(tone(24000, 0.3))
    return factory


def tone(rate: int, seconds: float) -> bytes:
    samples = int(rate * seconds)
    return array(
        "h", (int(8000 * math.sin(n * 440 * 2 * math.pi / rate)) for n in range(samples))
    ).tobytes()


class Ota(Resource):
    isLeaf = True

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.asked: list[tuple[Any, dict[str, Any]]] = []

    def render_POST(self, request: Any) -> bytes:
        self.asked.append((request.requestHeaders, json.load(request.content)))
        websocket = {"url": self.url, "token": "secret-token", "version": 3}
        return json.dumps({"websocket": websocket}).encode()


class Photos(Resource):
    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[dict[str, str], dict[bytes, list[bytes]]]] = []

    def render_POST(self, request: Any) -> bytes:
        headers = {
            name.decode().lower(): values[0].decode()
            for name, values in request.requestHeaders.getAllRawHeaders()
        }
        self.seen.append((headers, request.args))
        return b'{"success":true,"text":"a colour"}'


class Ended(ProcessProtocol):
    """Waits for the end of a process."""

    def __init__(self) -> None:
        self.out = ""
        self.status: Deferred[int | None] = Deferred()

    def outReceived(self, data: bytes) -> None:
        self.out += data.decode()

    def processEnded(self, reason: Failure) -> None:
        status: Any = reason.value
        self.status.callback(status.exitCode)


class CommandLineTests(TestCase):
    timeout = 20

    def setUp(self) -> None:
        self.factory = make_factory()
        port = reactor.listenTCP(0, self.factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.addCleanup(self._quiet)
        self.url = f"ws://127.0.0.1:{port.getHost().port}/xiaozhi/v1/"
        self.out = io.StringIO()

    def _quiet(self) -> Any:
        self.assertEqual(self.factory.failures, [])
        # Server sides of connections end one turn of the reactor later.
        return deferLater(reactor, 0.02)

    def wav(self) -> str:
        path: str = self.mktemp() + ".wav"
        write_wav(path, tone(16000, 0.3), 16000)
        return path

    async def device(self, *argv: str) -> int:
        return await cli.run(reactor, argv, self.out)

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.out.getvalue().splitlines()]
        return [line for line in lines if line["event"] == name]

    async def test_two_files_in_auto(self) -> None:
        saved = self.mktemp()
        argv = ["wav", self.wav(), self.wav(), "--url", self.url, "--json", "--save", saved]
        self.assertEqual(await self.device(*argv), 0)
        answers = self.events("answer")
        self.assertEqual([a["heard"] for a in answers], ["spoken words"] * 2)
        self.assertEqual([a["packets"] for a in answers], [5, 5])
        self.assertEqual([a["audio_ms"] for a in answers], [300.0, 300.0])
        self.assertEqual([(a["tts_starts"], a["tts_stops"]) for a in answers], [(1, 1)] * 2)
        starts = [t for t in self.factory.texts if t.get("state") == "start"]
        self.assertEqual([t["mode"] for t in starts], ["auto"] * 3)
        pcm, rate = read_wav(os.path.join(saved, "02.wav"))
        self.assertEqual((rate, len(pcm)), (24000, 24000 * 2 * 300 // 1000))
        self.assertEqual(self.events("tool_called")[0]["result"], "true")
        (reply,) = [t for t in self.factory.texts if t["type"] == "mcp"]
        self.assertEqual(reply["payload"]["id"], 7)

    async def test_ota_framing_and_token(self) -> None:
        ota = Ota(self.url)
        port = reactor.listenTCP(0, Site(ota), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        url = f"http://127.0.0.1:{port.getHost().port}/xiaozhi/ota/"
        self.assertEqual(await self.device("text", "hello there", "--ota", url), 0)
        self.assertIn("heard     hello there", self.out.getvalue())
        self.assertIn("You said hello there.", self.out.getvalue())
        self.assertNotIn("secret-token", self.out.getvalue())
        headers = self.factory.requests[0].headers
        self.assertEqual(headers["authorization"], "Bearer secret-token")
        self.assertEqual(headers["protocol-version"], "3")
        self.assertEqual(headers["host"], "127.0.0.1")
        self.assertNotIn("user-agent", headers)
        asked, body = ota.asked[0]
        self.assertEqual(asked.getRawHeaders("activation-version"), ["1"])
        self.assertEqual(asked.getRawHeaders("connection"), ["close"])
        self.assertEqual(body["mac_address"], "02:00:00:00:00:01")

    async def test_manual_and_enveloped(self) -> None:
        argv = ["wav", self.wav(), "--url", self.url, "--mode", "manual"]
        self.assertEqual(await self.device(*argv, "--dialect", "enveloped", "--framing", "2"), 0)
        listens = [t["data"]["state"] for t in self.factory.texts if t["type"] == "listen"]
        self.assertEqual(listens, ["start", "stop"])

    async def test_photo(self) -> None:
        photos = Photos()
        port = reactor.listenTCP(0, Site(photos), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.factory.vision_url = f"http://127.0.0.1:{port.getHost().port}/api/vision"
        self.assertEqual(await self.device("text", "look", "--url", self.url, "--json"), 0)
        ((headers, fields),) = photos.seen
        self.assertEqual(headers["transfer-encoding"], "chunked")
        self.assertEqual(headers["connection"], "close")
        self.assertEqual(headers["authorization"], "Bearer photo-token")
        self.assertNotIn("content-length", headers)
        self.assertEqual(fields[b"question"], ["what is 这?".encode()])
        self.assertEqual(fields[b"file"], [PICTURE])
        photo, _volume = self.events("tool_called")
        self.assertEqual(json.loads(photo["result"])["text"], "a colour")
        # The tools ran one after the other.
        replies = [t["payload"]["id"] for t in self.factory.texts if t["type"] == "mcp"]
        self.assertEqual(replies, [5, 6, 7])

    async def test_say(self) -> None:
        argv = ["say", "hello, what time is it?", "--url", self.url, "--mode", "manual", "--json"]
        self.assertEqual(await self.device(*argv), 0)
        (said,) = self.events("said")
        self.assertGreater(said["speech_seconds"], 0.8)
        self.assertEqual(self.events("answer")[0]["packets"], 5)

    async def test_a_new_connection_after_the_server_closed(self) -> None:
        self.factory.farewell = True
        argv = ["text", "a", "b", "--url", self.url, "--json"]
        self.assertEqual(await self.device(*argv), 0)
        self.assertEqual(len(self.events("opened")), 2)
        # The end of each connection is reported once.
        ends = self.events("disconnected")
        self.assertEqual((len(ends), ends[0]["code"], ends[0]["reason"]), (2, 1000, "farewell"))
        self.assertEqual(len(self.events("answer")), 2)

    async def test_no_answer(self) -> None:
        self.factory.mute = True
        argv = ["wav", self.wav(), "--url", self.url, "--json", "--timeout", "0.8"]
        self.assertEqual(await self.device(*argv), 1)
        self.assertEqual(self.events("failed")[0]["code"], "timeout")

    async def test_not_heard(self) -> None:
        """The device does not wait for the whole timeout; it speaks the next sentence."""
        self.patch(client, "HEARING_LIMIT", 0.2)
        self.factory.mute = True
        argv = ["wav", self.wav(), self.wav(), "--url", self.url]
        self.assertEqual(await self.device(*argv), 1)
        told = "failed    the server did not react to the speech within 0.2 s [not_heard]"
        self.assertEqual(self.out.getvalue().count(told), 2)
        self.assertEqual(await self.device("text", "你好小智", "--url", self.url), 1)
        self.assertIn("no answer to the text", self.out.getvalue())

    async def test_no_server(self) -> None:
        self.assertEqual(await self.device("text", "x", "--url", "ws://127.0.0.1:1/"), 1)
        (line,) = self.out.getvalue().splitlines()
        self.assertIn("cannot_connect", line)

    async def test_address_without_scheme(self) -> None:
        self.assertEqual(await self.device("text", "x", "--ota", "127.0.0.1:1/xiaozhi/ota/"), 1)
        self.assertIn("a URL must begin with http:// or https://", self.out.getvalue())

    async def test_refused(self) -> None:
        ota = Ota("ws://nowhere/")
        port = reactor.listenTCP(0, Site(ota), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        url = f"ws://127.0.0.1:{port.getHost().port}/"
        self.assertEqual(await self.device("text", "x", "--url", url), 1)
        self.assertIn("405", self.out.getvalue())
        self.assertIn("refused", self.out.getvalue())

    async def test_no_such_file(self) -> None:
        self.assertEqual(await self.device("wav", "missing.wav", "--url", self.url), 1)
        told = "  failed    missing.wav: No such file or directory [file_error]\n"
        self.assertEqual(self.out.getvalue(), told)

    async def test_no_wav_file(self) -> None:
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("This is a text and no sound.")
        self.assertEqual(await self.device("wav", path, "--url", self.url), 1)
        self.assertIn(f"{path}: not a wav stream", self.out.getvalue())

    async def test_not_utf8(self) -> None:
        """Every locale and encoding of the standard output works."""
        for environment, shown in (
            ({"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}, "\\u4f60\\u597d"),
            ({"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, "\\u4f60\\u597d"),
            ({"LC_ALL": "C.UTF-8"}, "你好"),
        ):
            for extra in ([], ["--json"]):
                self.factory.texts.clear()
                command = [sys.executable, "-m", "xiaozhi.device", "text", "你好 😀 é"]
                command += ["--url", self.url, *extra]
                ended = Ended()
                reactor.spawnProcess(ended, command[0], command, env=os.environ | environment)
                self.assertEqual(await ended.status, 0, ended.out)
                self.assertIn("你好 😀 é", [text.get("text") for text in self.factory.texts])
                self.assertIn(shown, ended.out)
                for line in ended.out.splitlines() if extra else ():
                    json.loads(line)

    test_not_utf8.timeout = 120  # type: ignore[attr-defined]

    async def test_interrupted(self) -> None:
        """Ctrl-C during an answer is not a success."""
        self.factory.packets = OpusEncoder(24000).encode(tone(24000, 3))
        command = [sys.executable, "-m", "xiaozhi.device", "text", "x", "--url", self.url]
        ended = Ended()
        process = reactor.spawnProcess(ended, command[0], command, env=dict(os.environ))
        while "You said" not in ended.out:
            await deferLater(reactor, 0.05)
        process.signalProcess("INT")
        self.assertEqual(await ended.status, 130)
        await deferLater(reactor, 0.3)

    def test_usage(self) -> None:
        self.patch(sys, "stderr", self.out)
        with self.assertRaises(SystemExit) as raised:
            cli.run(reactor, ["say", "x"], self.out)
        self.assertEqual(raised.exception.code, 2)

    async def test_server_closes(self) -> None:
        # A Close frame ends the conversation at once; the device does not echo it.
        device = SoftDevice(reactor, MachineSettings(ListenMode.REALTIME))
        await device.connect(DeviceEndpoint(self.url))
        gone = device.gone()
        self.factory.protocols_seen[0].sendClose(1000, "bye")
        await gone
        self.assertFalse(device.online)
        await device.close()

    async def test_fleet(self) -> None:
        self.factory.echo = True
        fleet = Fleet(reactor, DeviceEndpoint(self.url), FleetSettings(5, stamped(), frame_ms=20))
        await fleet.connect()
        fleet.start()
        while fleet.total().sent < 40:
            await deferLater(reactor, 0.02)
        fleet.stop()
        while fleet.total().binaries < fleet.total().sent:
            await deferLater(reactor, 0.02)
        total = fleet.total()
        await fleet.close()
        self.assertEqual(total.binaries, total.sent)
        self.assertEqual(len(total.latencies), total.sent)
        # Seconds, on one clock; their number depends on the machine.
        self.assertTrue(all(0 < latency < 10 for latency in total.latencies))
        self.assertEqual(total.closed, 0)
        identities = {r.headers["device-id"] for r in self.factory.requests}
        self.assertEqual(len(identities), 5)
