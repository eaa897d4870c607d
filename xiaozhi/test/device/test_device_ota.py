"""Configuration and photos over HTTP: :mod:`xiaozhi.device.network.ota`, ``camera``, ``http``."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IBodyProducer
from zope.interface import implementer

from xiaozhi.device.errors import DeviceError
from xiaozhi.device.firmware import camera
from xiaozhi.device.firmware.mcp import VisionTarget
from xiaozhi.device.identity import Identity, numbered
from xiaozhi.device.network import ota
from xiaozhi.device.network.ota import Boot, DeviceEndpoint, Flavour

ME = Identity("02:00:00:00:00:09", "c-9")
GOOD = {"websocket": {"url": "wss://example.org:443/xiaozhi/v1/", "token": "t", "version": 2}}


class Body:
    """An IConsumer that keeps its input."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.pieces.append(data)


class FakeResponse:
    def __init__(self, code: int, body: bytes, length: Any = None) -> None:
        self.code = code
        self.length = len(body) if length is None else length
        self._body = body

    def deliverBody(self, protocol: Any) -> None:
        self.abortConnection = lambda: None
        protocol.makeConnection(self)
        protocol.dataReceived(self._body)
        protocol.connectionLost(Failure(ResponseDone()))


@implementer(IAgent)
class FakeAgent:
    def __init__(self, answer: Deferred[Any]) -> None:
        self.answer = answer
        self.headers = Headers()
        self.url = b""
        self.body = Body()
        self.length: Any = None

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[Any]:
        assert method == b"POST" and headers is not None and bodyProducer is not None
        self.url, self.headers, self.length = uri, headers, bodyProducer.length
        bodyProducer.startProducing(self.body)
        return self.answer


class HttpCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()

    def agent(self, code: int = 200, body: bytes = b"{}", length: Any = None) -> FakeAgent:
        return FakeAgent(succeed(FakeResponse(code, body, length)))

    def fetch(self, agent: FakeAgent, flavour: Flavour = Flavour.FIRMWARE) -> Deferred[Boot]:
        return Deferred.fromCoroutine(ota.fetch(agent, self.clock, "http://x/ota/", ME, flavour))

    def refused(self, deferred: Deferred[Any]) -> DeviceError:
        error = self.failureResultOf(deferred, DeviceError).value
        assert isinstance(error, DeviceError)
        return error


class RequestTests(HttpCase):
    def sent(self, flavour: Flavour) -> tuple[dict[str, str], dict[str, Any]]:
        agent = self.agent(body=json.dumps(GOOD).encode())
        done = self.fetch(agent, flavour)
        self.clock.pump([0.01] * 3)
        boot = self.successResultOf(done)
        self.assertEqual(boot.endpoint, DeviceEndpoint(GOOD["websocket"]["url"], "t", 2))  # type: ignore[arg-type]
        self.assertEqual(agent.url, b"http://x/ota/")
        headers = {
            name.decode().lower(): values[0].decode()
            for name, values in agent.headers.getAllRawHeaders()
        }
        return headers, json.loads(b"".join(agent.body.pieces))

    def test_as_the_firmware_asks(self) -> None:
        headers, body = self.sent(Flavour.FIRMWARE)
        self.assertEqual(
            headers,
            {
                "activation-version": "1",
                "device-id": "02:00:00:00:00:09",
                "client-id": "c-9",
                "user-agent": "bread-compact-wifi/2.4.2",
                "accept-language": "zh-CN",
                "content-type": "application/json",
            },
        )
        self.assertEqual(body["version"], 2)
        self.assertIsInstance(body["minimum_free_heap_size"], str)
        self.assertEqual((body["mac_address"], body["uuid"]), ("02:00:00:00:00:09", "c-9"))
        for member in ("chip_info", "application", "partition_table", "ota", "display", "board"):
            self.assertIn(member, body)

    def test_as_py_xiaozhi_asks(self) -> None:
        headers, body = self.sent(Flavour.PY_XIAOZHI)
        self.assertEqual(headers["activation-version"], "2.1.1")
        self.assertIn("py-xiaozhi", headers["user-agent"])
        self.assertEqual(set(body), {"application", "board"})


class AnswerTests(HttpCase):
    def test_all_of_it(self) -> None:
        boot = ota.read(
            json.dumps(
                GOOD
                | {
                    "server_time": {"timestamp": 1790000000000, "timezone_offset": 60},
                    "firmware": {"version": "2.4.2", "url": ""},
                }
            ).encode()
        )
        self.assertEqual((boot.server_time_ms, boot.timezone_minutes), (1790000000000, 60))
        self.assertEqual((boot.firmware, boot.activation), ("2.4.2", ""))

    def test_activation(self) -> None:
        boot = ota.read(json.dumps(GOOD | {"activation": {"code": "123456"}}).encode())
        self.assertEqual((boot.endpoint, boot.activation), (None, "123456"))

    def test_answers_that_break_devices(self) -> None:
        for change, name in (
            ({"mqtt": {}}, "mqtt"),
            ({"mqtt": None}, "mqtt"),
            ({"activation": None}, "activation"),
            ({"websocket": None}, "websocket"),
            ({"websocket": {"url": "http://x/"}}, "websocket.url"),
            ({"websocket": {"url": "ws://x/a:b"}}, "websocket.url"),
            ({"websocket": {"url": "ws://x/", "version": 4}}, "websocket.version"),
            ({"websocket": {"url": "ws://x/", "version": "1"}}, "websocket.version"),
            ({"websocket": {"url": "ws://x/", "token": 5}}, "websocket.token"),
            ({"websocket": {"url": "ws://x/", "a_rather_long_name": 5}}, "a_rather_long_name"),
            ({"firmware": {"version": "v2"}}, "firmware.version"),
            ({"server_time": {"timestamp": "now"}}, "server_time.timestamp"),
        ):
            with self.assertRaises(DeviceError) as raised:
                ota.read(json.dumps(GOOD | change).encode())
            self.assertEqual(raised.exception.code, "bad_ota")
            self.assertIn(name, raised.exception.message)
        for data in (b"", b"[]", b"<html>", b"\xff"):
            self.assertRaises(DeviceError, ota.read, data)
        self.assertRaises(DeviceError, ota.read, b"{}")

    def test_py_xiaozhi_takes_mqtt_beside(self) -> None:
        data = json.dumps(GOOD | {"mqtt": {"endpoint": "x"}}).encode()
        self.assertIsNotNone(ota.read(data, Flavour.PY_XIAOZHI).endpoint)


@implementer(IAgent)
class ScriptedAgent:
    """Answers one request after the other; records addresses and bodies."""

    def __init__(self, *answers: tuple[int, bytes] | Exception) -> None:
        self.left = list(answers)
        self.asked: list[tuple[str, bytes, str]] = []

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[Any]:
        assert headers is not None and bodyProducer is not None
        body = Body()
        bodyProducer.startProducing(body)
        [version] = headers.getRawHeaders("Activation-Version") or [""]
        self.asked.append((uri.decode(), b"".join(body.pieces), version))
        answer = self.left.pop(0)
        return fail(answer) if isinstance(answer, Exception) else succeed(FakeResponse(*answer))


class ActivationTests(HttpCase):
    good = (200, json.dumps(GOOD).encode())
    asked = (
        200,
        json.dumps({"activation": {"code": "123456", "message": "m", "challenge": "c"}}).encode(),
    )
    mute = (200, json.dumps({"activation": {"code": "123456"}}).encode())

    def boot(
        self, agent: ScriptedAgent, patience: float, flavour: Flavour = Flavour.FIRMWARE
    ) -> tuple[Deferred[Boot], list[Boot]]:
        shown: list[Boot] = []
        work = ota.boot(agent, self.clock, "http://x/ota/", ME, flavour, patience, shown.append)
        return Deferred.fromCoroutine(work), shown

    def test_shows_the_code_and_asks_until_it_is_approved(self) -> None:
        agent = ScriptedAgent(self.asked, (202, b"{}"), (202, b""), (200, b"{}"), self.good)
        done, shown = self.boot(agent, 60)
        self.assertEqual([(b.activation, b.message) for b in shown], [("123456", "m")])
        self.assertEqual(agent.asked[1], ("http://x/ota/activate", b"{}", "1"))
        self.clock.advance(3)
        self.assertNoResult(done)
        self.clock.advance(3)
        self.assertIsNotNone(self.successResultOf(done).endpoint)
        self.assertEqual(len(agent.asked), 5)

    def test_as_py_xiaozhi_asks(self) -> None:
        agent = ScriptedAgent(self.asked, (200, b"{}"), self.good)
        done, _ = self.boot(agent, 60, Flavour.PY_XIAOZHI)
        self.successResultOf(done)
        url, body, version = agent.asked[1]
        self.assertEqual((url, version), ("http://x/ota/activate", "2"))
        self.assertEqual(json.loads(body)["Payload"]["challenge"], "c")

    def test_other_answers_double_the_wait(self) -> None:
        lost = ConnectionRefusedError()
        agent = ScriptedAgent(self.asked, (500, b""), lost, (200, b""), self.good)
        done, _ = self.boot(agent, 60)
        self.clock.advance(9)
        self.assertEqual(len(agent.asked), 2)
        self.clock.pump([1, 10])
        self.assertIsNotNone(self.successResultOf(done).endpoint)

    def test_without_a_challenge_only_ota_shows_the_approval(self) -> None:
        agent = ScriptedAgent(self.mute, self.good)
        done, _ = self.boot(agent, 200)
        self.clock.pump([10] * 9)
        self.assertNoResult(done)
        self.clock.pump([10])
        self.assertIsNotNone(self.successResultOf(done).endpoint)

    def test_activation_timeout(self) -> None:
        done, shown = self.boot(ScriptedAgent(self.asked), 0)
        self.assertIsNone(self.successResultOf(done).endpoint)
        self.assertEqual(len(shown), 1)
        done, _ = self.boot(ScriptedAgent(self.asked, *[(202, b"")] * 3), 7)
        self.clock.pump([3, 3])
        self.assertNoResult(done)
        self.clock.advance(1)
        self.assertIsNone(self.successResultOf(done).endpoint)


class LimitTests(HttpCase):
    def fails(self, agent: FakeAgent, says: str) -> None:
        done = self.fetch(agent)
        self.clock.pump([0.01] * 3)
        error = self.refused(done)
        self.assertEqual(error.code, "bad_ota")
        self.assertIn(says, error.message)

    def test_status(self) -> None:
        self.fails(self.agent(404), "404")

    def test_the_length_is_required(self) -> None:
        self.fails(self.agent(length=UNKNOWN_LENGTH), "Content-Length")

    def test_too_long(self) -> None:
        self.fails(self.agent(body=bytes(6145)), "6144")

    def test_no_connection(self) -> None:
        self.fails(FakeAgent(fail(ConnectionRefusedError())), "refused")

    def test_no_answer(self) -> None:
        done = self.fetch(FakeAgent(Deferred()))
        self.clock.advance(29)
        self.assertNoResult(done)
        self.clock.advance(2)
        self.assertIn("no response", self.refused(done).message)


class PhotoTests(HttpCase):
    def upload(self, agent: FakeAgent, vision: VisionTarget) -> Deferred[str]:
        return Deferred.fromCoroutine(
            camera.upload(agent, self.clock, ME, vision, "what is 这?", b"\xff\xd8\r\n--x")
        )

    def test_upload(self) -> None:
        agent = self.agent(body=b'{"success":true}')
        done = self.upload(agent, VisionTarget("http://x/v", "t"))
        self.assertEqual(self.successResultOf(done), '{"success":true}')
        self.assertIs(agent.length, UNKNOWN_LENGTH)
        self.assertEqual(agent.headers.getRawHeaders("Authorization"), ["Bearer t"])
        self.assertEqual(agent.headers.getRawHeaders("Device-Id"), [ME.device_id])
        self.assertEqual(
            b"".join(agent.body.pieces).decode("latin-1").encode("latin-1"),
            b"------ESP32_CAMERA_BOUNDARY\r\n"
            b'Content-Disposition: form-data; name="question"\r\n\r\n'
            + "what is 这?".encode()
            + b"\r\n------ESP32_CAMERA_BOUNDARY\r\n"
            b'Content-Disposition: form-data; name="file"; filename="camera.jpg"\r\n'
            b"Content-Type: image/jpeg\r\n\r\n\xff\xd8\r\n--x"
            b"\r\n------ESP32_CAMERA_BOUNDARY--\r\n",
        )

    def test_no_token_no_header(self) -> None:
        agent = self.agent()
        self.successResultOf(self.upload(agent, VisionTarget("http://x/v")))
        self.assertFalse(agent.headers.hasHeader("Authorization"))

    def test_failures(self) -> None:
        self.assertEqual(
            self.refused(self.upload(self.agent(), VisionTarget())).code, "photo_failed"
        )
        error = self.refused(self.upload(self.agent(401), VisionTarget("http://x/v")))
        self.assertIn("401", error.message)

    def test_the_picture_is_valid(self) -> None:
        from av import CodecContext, Packet

        decoder: Any = CodecContext.create("mjpeg", "r")
        frames = decoder.decode(Packet(camera.PICTURE))
        self.assertEqual([(f.width, f.height) for f in frames], [(16, 16)])


class IdentityTests(SynchronousTestCase):
    def test_numbered(self) -> None:
        self.assertEqual(numbered(258).device_id, "02:5a:00:00:01:02")
        self.assertEqual(numbered(7), numbered(7))
        self.assertEqual(len({numbered(n).client_id for n in range(50)}), 50)


class EndpointTests(SynchronousTestCase):
    def test_address_shows_no_token(self) -> None:
        endpoint = DeviceEndpoint("ws://example.org:8000/ws?token=secret&device-id=x")
        self.assertEqual(endpoint.address, "ws://example.org:8000/ws")
