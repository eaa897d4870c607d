"""The AI service's web site on real sockets, with a client that behaves like the firmware's: it
reads by ``Content-Length`` and closes the connection itself.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, HTTPConnectionPool, readBody
from zope.interface import implementer

from xiaozhi.ai.http.edge import EdgeCheck
from xiaozhi.ai.http.settings import HttpSettings
from xiaozhi.ai.http.site import SiteParts, make_site, site_of
from xiaozhi.auth import AuthSettings, JwtTokens, load_keys
from xiaozhi.base.values import Picture
from xiaozhi.interfaces import IVisionModel
from xiaozhi.test.ai.test_pictures import jpeg
from xiaozhi.testing.posting import insiders, posting
from xiaozhi.testing.vendors.httpwire import chunk, form, request
from xiaozhi.web.limits.visitors import Visitors
from xiaozhi.web.pages import health_page
from xiaozhi.web.routes import Routes
from xiaozhi.wire.messages import Device

MAC = "aa:bb:cc:dd:ee:ff"
LINGER = 0.4


def pause(seconds: float) -> Deferred[None]:
    """Wait in real time."""
    return deferLater(reactor, seconds, lambda: None)


class FirmwareHttp(Protocol):
    """Collects one answer.

    :ivar answered: fires with status and body when the body is complete.
    :ivar lost: fires when either side has closed the connection.
    """

    def __init__(self) -> None:
        self.answered: Deferred[tuple[int, bytes]] = Deferred()
        self.lost: Deferred[None] = Deferred()
        self.is_lost = False
        self._data = b""

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        head, separator, body = self._data.partition(b"\r\n\r\n")
        if not separator or self.answered.called:
            return
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        if len(body) >= int(fields[b"content-length"]):
            self.answered.callback((int(head.split()[1]), body))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.is_lost = True
        self.lost.callback(None)


@implementer(IVisionModel)
class SizeVision:
    """A vision model that returns the picture's size."""

    def __init__(self) -> None:
        self.pictures: list[bytes] = []

    def describe(self, picture: Picture, question: str) -> Deferred[str]:
        self.pictures.append(picture.data)
        return succeed(f"{question} {picture.width}x{picture.height}")

    def close(self) -> Deferred[None]:
        return succeed(None)


class LiveTests(TestCase):
    timeout = 30

    def setUp(self) -> None:
        auth = AuthSettings(key_file=self.mktemp())
        clock: Any = reactor
        self.tokens = JwtTokens(load_keys(auth), auth, clock)
        self.looker = SizeVision()
        chosen = msgspec.convert({"linger": LINGER, "ota": {"edge_check": ""}}, HttpSettings)
        health = {"status": "healthy"}
        parts = SiteParts(
            tokens=self.tokens,
            model=lambda: self.looker,
            health=lambda: health,
            posting=posting(None),
            insiders=insiders(),
        )
        self.site = make_site(chosen, parts, reactor).site
        port = clock.listenTCP(0, self.site, interface="127.0.0.1")
        self.port: int = port.getHost().port
        self.addCleanup(port.stopListening)

    async def connect(self) -> FirmwareHttp:
        endpoint = HostnameEndpoint(reactor, "127.0.0.1", self.port)
        client = await connectProtocol(endpoint, FirmwareHttp())
        assert isinstance(client, FirmwareHttp)
        return client

    async def all_closed(self) -> None:
        for _ in range(100):
            if not self.site.connections:
                break
            await pause(0.02)
        self.assertEqual((self.site.connections, self.site.lingering, self.site.held), (0, 0, 0))

    async def test_boot(self) -> None:
        """OTA as the firmware requests it; the server does not close before the client."""
        client = await self.connect()
        assert client.transport is not None
        headers = {"Device-Id": MAC, "Client-Id": "c", "Connection": "close"}
        client.transport.write(request("POST", "/xiaozhi/ota/", headers, b"{}"))
        status, body = await client.answered
        answer = json.loads(body)
        self.assertEqual(status, 200)
        self.tokens.authenticate(answer["websocket"]["token"], MAC, "c")
        await pause(LINGER / 2)
        self.assertFalse(client.is_lost)
        client.transport.loseConnection()
        await client.lost
        await self.all_closed()

    async def test_slow_and_many_clients_of_one_address(self) -> None:
        """A client that sends its head slowly gets 408 in time, one with too many requests gets
        429.
        """
        chosen = msgspec.convert(
            {
                "unlimited": [],
                "max_per_address": 2,
                "head_timeout": 0.4,
                "address_rate": 0.01,
                "address_burst": 1,
            },
            HttpSettings,
        )
        clock: Any = reactor
        routes = Routes()
        routes.get("/health", health_page(lambda: {"status": "healthy"}, insiders()))
        site = site_of(routes, chosen, Visitors(chosen, clock), clock)
        port = clock.listenTCP(0, site, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        endpoint = HostnameEndpoint(reactor, "127.0.0.1", port.getHost().port)

        async def connect() -> Any:
            return await connectProtocol(endpoint, FirmwareHttp())

        slow, well = await connect(), await connect()
        await (await connect()).lost  # exceeds the limit
        well.transport.write(request("GET", "/health"))
        self.assertEqual((await well.answered)[0], 200)
        for byte in b"GET /health HTTP/1.1":
            if slow.is_lost or slow.answered.called:
                break
            slow.transport.write(bytes([byte]))
            await pause(0.05)
        self.assertEqual((await slow.answered)[0], 408)
        await slow.lost
        well.answered, well._data = Deferred(), b""
        well.transport.write(request("GET", "/health", {"Connection": "close"}))
        self.assertEqual((await well.answered)[0], 429)
        well.transport.loseConnection()
        await well.lost

    async def test_the_server_closes_in_the_end(self) -> None:
        client = await self.connect()
        assert client.transport is not None
        client.transport.write(request("GET", "/health", {"Connection": "close"}))
        await client.answered
        await client.lost
        await self.all_closed()

    def upload(self, size: int, **more: str) -> tuple[bytes, list[bytes]]:
        """Return head and chunks of a photo of about ``size`` bytes."""
        photo = jpeg(640, 480) + b"\xa5" * size
        body = form([("question", b"what?"), ("file", photo)])
        token = self.tokens.issue(Device(device_id=MAC, client_id="", user_id="u"), "vision", 60)
        headers = {
            "Device-Id": MAC,
            "Authorization": f"Bearer {token}",
            "Content-Type": "multipart/form-data; boundary=----ESP32_CAMERA_BOUNDARY",
            "Transfer-Encoding": "chunked",
            "Connection": "close",
            **more,
        }
        head = request("POST", "/mcp/vision/explain", headers)
        chunks = [chunk(body[at : at + 4096]) for at in range(0, len(body), 4096)]
        return head, [*chunks, b"0\r\n\r\n"]

    async def send_photo(self, size: int, **more: str) -> tuple[int, Any]:
        client = await self.connect()
        assert client.transport is not None
        head, chunks = self.upload(size, **more)
        client.transport.write(head)
        for number, piece in enumerate(chunks):
            client.transport.write(piece)
            if number % 64 == 0:
                await pause(0)
        status, body = await client.answered
        client.transport.loseConnection()
        await client.lost
        await self.all_closed()
        return status, json.loads(body)

    async def test_photo(self) -> None:
        status, answer = await self.send_photo(60_000)
        self.assertEqual((status, answer["response"]), (200, "what? 640x480"))
        self.assertEqual(self.looker.pictures, [jpeg(640, 480) + b"\xa5" * 60_000])

    async def test_a_photo_too_large(self) -> None:
        """The client sends all of it and then still reads the reason."""
        status, answer = await self.send_photo(5_500_000)
        self.assertEqual((status, answer["error"]), (413, "too_large"))
        self.assertEqual(self.looker.pictures, [])

    async def test_a_photo_without_a_valid_token(self) -> None:
        status, answer = await self.send_photo(500_000, Authorization="Bearer None")
        self.assertEqual((status, answer["error"]), (401, "missing_token"))

    async def test_an_ordinary_client_keeps_its_connection(self) -> None:
        pool = HTTPConnectionPool(reactor)
        agent = Agent(reactor, pool=pool)
        for _ in range(3):
            url = f"http://127.0.0.1:{self.port}/health".encode()
            response = await agent.request(b"GET", url)
            self.assertEqual(json.loads(await readBody(response)), {"status": "healthy"})
        self.assertEqual(self.site.connections, 1)
        await pool.closeCachedConnections()
        await self.all_closed()

    async def test_the_edge_s_reachability(self) -> None:
        line = await EdgeCheck(reactor, f"http://127.0.0.1:{self.port}/health")()
        self.assertIn("answers", line)
        self.assertIn("200", line)
        await self.all_closed()
        line = await EdgeCheck(reactor, "http://127.0.0.1:1/alive")()
        self.assertIn("does NOT answer", line)
        self.assertIn("ConnectionRefusedError", line)
