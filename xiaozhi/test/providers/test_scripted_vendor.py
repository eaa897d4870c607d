"""The scripted vendor itself: exact bytes, segments, delays and ends."""

from __future__ import annotations

from typing import Any

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.testing.vendors.network import Network
from xiaozhi.testing.vendors.octets import (
    Opcode,
    chunk,
    close_frame,
    event,
    frame,
    pieces,
    stream,
    until_close,
    whole,
)
from xiaozhi.testing.vendors.vendor import (
    ACCEPT,
    HANG_UP,
    NEXT,
    RESET,
    ScriptedVendor,
    VendorConnection,
)

POST = b"POST /v1/x HTTP/1.1\r\nHost: vendor\r\nContent-Length: 2\r\n\r\n{}"


class RawClient(Protocol):
    """Records data and its time."""

    def __init__(self, clock: Network) -> None:
        self.clock = clock
        self.heard: list[tuple[float, bytes]] = []
        self.ended: type[BaseException] | None = None

    def dataReceived(self, data: bytes) -> None:
        self.heard.append((round(self.clock.seconds(), 3), data))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended = reason.type


class _Dialler(Factory):
    noisy = False

    def __init__(self, protocol: Any) -> None:
        self._made = protocol

    def buildProtocol(self, addr: Any) -> Any:
        return self._made

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        self._made.connectionLost(reason)


class HttpTests(SynchronousTestCase):
    """Over HTTP."""

    def setUp(self) -> None:
        self.network = Network()
        self.vendor = ScriptedVendor(self.network)
        self.network.listen(80, self.vendor)
        self.client = RawClient(self.network)
        self.network.connectTCP("vendor", 80, _Dialler(self.client))
        self.network.settle()

    def tearDown(self) -> None:
        self.vendor.hang_up()
        self.network.settle()
        self.assertEqual(self.network.getDelayedCalls(), [])

    def write(self, data: bytes) -> None:
        transport: Any = self.client.transport
        transport.write(data)
        self.network.settle()

    def data(self) -> list[bytes]:
        return [data for _, data in self.client.heard]

    def test_borders_and_delays(self) -> None:
        self.vendor.play([b"a", b"b", 1.5, b"\xe4", b"\xbd\xa0"])
        self.write(POST)
        self.network.pump([0.5] * 4)
        self.assertEqual(
            self.client.heard, [(0.0, b"a"), (0.0, b"b"), (1.5, b"\xe4"), (1.5, b"\xbd\xa0")]
        )

    def test_requests_are_noted(self) -> None:
        self.vendor.play(whole({"a": 1}), whole(b"", None, 204))
        self.write(POST[:20])
        self.assertEqual(self.vendor.requests, [])
        chunked = b"PUT /y HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        self.write(POST[20:] + chunked + chunk(b"ab") + chunk(b"c") + b"0\r\n\r\n")
        first, second = self.vendor.requests
        self.assertEqual((first.method, first.path, first.json()), ("POST", "/v1/x", {}))
        self.assertEqual((second.method, second.path, second.body), ("PUT", "/y", b"abc"))
        self.assertEqual(
            self.data(),
            [
                b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n",
                b'{"a": 1}',
                b"HTTP/1.1 204 X\r\nContent-Length: 0\r\n\r\n",
            ],
        )

    def test_the_last_script_again(self) -> None:
        self.vendor.play([b"1"], lambda request: [request.path.encode()])
        for _ in range(3):
            self.write(POST)
        self.assertEqual(self.data(), [b"1", b"/v1/x", b"/v1/x"])

    def test_a_chunked_answer(self) -> None:
        self.vendor.play(stream(*pieces(event({"a": 1}), 9), media_type=None))
        self.write(POST)
        self.assertEqual(
            self.data(),
            [
                b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n",
                b'9\r\ndata: {"a\r\n',
                b'7\r\n": 1}\n\n\r\n',
                b"0\r\n\r\n",
            ],
        )

    def test_ends(self) -> None:
        for mark, ended in ((HANG_UP, ConnectionDone), (RESET, ConnectionLost)):
            self.setUp()
            self.vendor.play([until_close(b"x"), mark])
            self.write(POST)
            self.assertEqual(self.client.ended, ended)
            self.assertEqual(len(self.data()), 1)

    def test_a_paused_reader_gets_nothing(self) -> None:
        self.vendor.play([b"a", b"b"])
        transport: Any = self.client.transport
        transport.pauseProducing()
        self.write(POST)
        self.assertEqual(self.data(), [])
        transport.resumeProducing()
        self.network.settle()
        self.assertEqual(self.data(), [b"a", b"b"])

    def test_the_test_can_send_more(self) -> None:
        self.write(POST)
        self.assertEqual(self.data(), [])
        self.vendor.connections[0].send(b"late", HANG_UP)
        self.network.settle()
        self.assertEqual((self.data(), self.client.ended), ([b"late"], ConnectionDone))

    def test_connection_refused(self) -> None:
        client = RawClient(self.network)
        self.network.connectTCP("vendor", 81, _Dialler(client))
        self.network.settle()
        assert client.ended is not None
        self.assertEqual(client.ended.__name__, "ConnectionRefusedError")


class _Speaker(WebSocketClientProtocol):
    """Sends two messages and records the answers."""

    heard: list[Any]

    def onOpen(self) -> None:
        self.sendMessage(b"x" * 70000, isBinary=True)
        self.sendMessage('{"task": "七"}'.encode())
        self.sendPing(b"p")

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.heard.append(payload if isBinary else payload.decode())

    def onPong(self, payload: bytes) -> None:
        self.heard.append(Opcode.PONG)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self.heard.append((wasClean, code, reason))


class WebSocketTests(SynchronousTestCase):
    """Over WebSocket, with another client."""

    def test_a_talk(self) -> None:
        network = Network()

        def echo(connection: VendorConnection) -> list[bytes]:
            assert connection.request is not None
            message = connection.request.messages[-1]
            assert isinstance(message, str)
            return [frame(message), frame(b"\x01", final=False), frame(b"\x02", Opcode.MORE)]

        vendor = ScriptedVendor(
            network, [ACCEPT, NEXT, NEXT, echo, 1.0, close_frame(1011, "quota"), NEXT, HANG_UP]
        )
        network.listen(80, vendor)
        factory = WebSocketClientFactory("ws://vendor/v1", reactor=network)
        speaker = _Speaker()
        speaker.heard = []
        speaker.factory = factory
        network.connectTCP("vendor", 80, _Dialler(speaker))
        network.settle()
        self.assertEqual(speaker.heard, [Opcode.PONG, '{"task": "七"}', b"\x01\x02"])
        network.advance(1)
        network.pump([0.1] * 20)
        self.assertEqual(speaker.heard[3:], [(True, 1011, "quota")])
        request = vendor.last
        self.assertEqual(request.messages, [b"x" * 70000, '{"task": "七"}'])
        self.assertEqual((request.pings, request.close_code), ([b"p"], 1000))
        self.assertTrue(vendor.connections[0].done)
