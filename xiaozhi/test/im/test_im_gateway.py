from __future__ import annotations

import json
from itertools import count

from autobahn.twisted.websocket import WebSocketServerProtocol
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.base.values import BridgeStatus
from xiaozhi.im.ingress.gateway import EdgeServices, Gateway, new_session_id
from xiaozhi.im.ingress.pages import EdgePages, Surroundings, edge_site
from xiaozhi.im.ingress.port import EdgePort, EdgePortFactory
from xiaozhi.im.settings import EdgeSettings, GatewaySettings, LimitSettings
from xiaozhi.im.websocket.protocol import DeviceFactory, DeviceProtocol
from xiaozhi.metrics.registry import Metrics
from xiaozhi.testing.edge import (
    FakeAuthenticator,
    FakeBridge,
    FakeInbox,
    FakeLog,
    FakePresence,
)
from xiaozhi.testing.posting import AcceptingInbox, insiders, posting
from xiaozhi.web.site import WebSite
from xiaozhi.wire.messages import Audio, Stt

MAC = "aa:bb:cc:dd:ee:ff"

# The exact bytes of firmware 2.4.2 (§1.2): Host without a port, the headers in the order of their
# names, no Origin, no subprotocol.
FIRMWARE = (
    b"GET /xiaozhi/v1/ HTTP/1.1\r\n"
    b"Host: voice.example.org\r\n"
    b"Authorization: Bearer secret\r\n"
    b"Client-Id: 5f6d3c2e-1111-4222-8333-444455556666\r\n"
    b"Connection: Upgrade\r\n"
    b"Device-Id: aa:bb:cc:dd:ee:ff\r\n"
    b"Protocol-Version: 1\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
    b"Upgrade: websocket\r\n\r\n"
)
HELLO = (
    '{"type":"hello","version":1,"features":{"mcp":true},"transport":"websocket",'
    '"audio_params":{"format":"opus","sample_rate":16000,"channels":1,"frame_duration":60}}'
)


def frame(opcode: int, payload: bytes) -> bytes:
    """A client's frame, masked with zeros."""
    size = len(payload)
    if size < 126:
        head = bytes([0x80 | opcode, 0x80 | size])
    elif size < 65536:
        head = bytes([0x80 | opcode, 0xFE]) + size.to_bytes(2, "big")
    else:
        head = bytes([0x80 | opcode, 0xFF]) + size.to_bytes(8, "big")
    return head + b"\0\0\0\0" + payload


def frames(data: bytes) -> list[tuple[int, bytes]]:
    """A server's frames: opcode and payload."""
    found = []
    while data:
        size, start = data[1], 2
        assert not size & 0x80, "servers do not mask"
        if size == 126:
            size, start = int.from_bytes(data[2:4], "big"), 4
        elif size == 127:
            size, start = int.from_bytes(data[2:10], "big"), 10
        assert data[0] & 0xF0 == 0x80, "devices get no fragments and no extensions"
        found.append((data[0] & 15, data[start : start + size]))
        data = data[start + size :]
    return found


class Wire(StringTransport):
    """A TCP connection that can be handed over, as Twisted's own."""

    protocol: object = None
    wrappedProtocol: object

    def setTcpNoDelay(self, on: bool) -> None:
        self.no_delay = on

    def getTcpNoDelay(self) -> bool:
        return True

    def feed(self, data: bytes) -> None:
        self.protocol.dataReceived(data)  # type: ignore[attr-defined]

    def lose(self, clean: bool = True) -> None:
        reason = ConnectionDone() if clean else ConnectionLost()
        self.protocol.connectionLost(Failure(reason))  # type: ignore[attr-defined]

    def unregisterProducer(self) -> None:
        self.producer = None

    def abortConnection(self) -> None:
        super().abortConnection()
        self.aborted = True

    aborted = False

    def take(self) -> bytes:
        data: bytes = self.value()
        self.clear()
        return data


class PortCase(SynchronousTestCase):
    """The whole edge behind one port, without a network."""

    insiders = insiders()
    settings = EdgeSettings(
        gateway=GatewaySettings(
            max_connections=3, max_waiting=4, origins=("http://localhost:8006",)
        ),
        limits=LimitSettings(max_message_bytes=70_000),
    )

    def setUp(self) -> None:
        self.clock = Clock()
        self.bridge = FakeBridge()
        self.log = FakeLog()
        self.presence = FakePresence()
        self.inbox = FakeInbox()
        self.posted = AcceptingInbox()
        self.authenticator = FakeAuthenticator()
        numbers = count(1)
        self.gateway = Gateway(
            EdgeServices(self.bridge, self.log, self.authenticator, self.presence, self.inbox),
            self.clock,
            self.settings,
            "im-1",
            new_session_id=lambda: f"s{next(numbers)}",
        )
        self.checks = {"store": lambda: ""}
        self.useful = {"presence": lambda: ""}
        self.nodes = [{"node": "im-1", "connections": 0}]
        site = self.site_with()
        sockets = DeviceFactory(self.gateway)
        sockets.doStart()
        self.door = EdgePortFactory(self.gateway.entrance, sockets, site)

    def site_with(self, metrics: Metrics | None = None) -> WebSite:
        """Make the site over this test's parts."""
        around = Surroundings(self.checks, self.useful, nodes=lambda: self.nodes)
        pages = EdgePages(
            gateway=self.gateway,
            bridge=self.bridge,
            around=around,
            posting=posting(self.posted),
            insiders=self.insiders,
            metrics=metrics,
        )
        return edge_site(pages, self.clock)

    def dial(self, host: str = "") -> Wire:
        address = IPv4Address("TCP", host, 4711) if host else None
        wire = Wire(peerAddress=address)
        door = self.door.buildProtocol(address)
        assert door is not None
        wire.protocol = door
        door.makeConnection(wire)
        return wire

    def request(self, head: bytes) -> tuple[int, dict[str, str], dict[str, object]]:
        """Send a request and return the whole answer."""
        wire = self.dial()
        wire.feed(head)
        self.clock.advance(0)
        self.assertTrue(wire.disconnecting)
        return self.answer(wire.take())

    def answer(self, data: bytes) -> tuple[int, dict[str, str], dict[str, object]]:
        top, _, body = data.partition(b"\r\n\r\n")
        first, *lines = top.decode().split("\r\n")
        headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
        self.assertEqual(int(headers["content-length"]), len(body))
        self.assertEqual(headers["content-type"], "application/json")
        return int(first.split()[1]), headers, json.loads(body)

    def connect(self, head: bytes = FIRMWARE) -> Wire:
        wire = self.dial()
        wire.feed(head)
        self.assertTrue(wire.take().startswith(b"HTTP/1.1 101 "))
        return wire

    def greet(self, head: bytes = FIRMWARE) -> Wire:
        wire = self.connect(head)
        wire.feed(frame(1, HELLO.encode()))
        ((opcode, payload),) = frames(wire.take())
        self.assertEqual((opcode, json.loads(payload)["type"]), (1, "hello"))
        return wire

    def close_frame(self, wire: Wire) -> tuple[int, str]:
        ((_opcode, payload),) = [f for f in frames(wire.take()) if f[0] == 8]
        return int.from_bytes(payload[:2], "big"), payload[2:].decode()


class HandshakeTests(PortCase):
    def test_as_the_firmware_sends_it(self) -> None:
        """§1.2, §1.3; §9, 20: no Origin, no subprotocol, no port in Host."""
        wire = self.dial()
        wire.feed(FIRMWARE)
        answer = wire.take()
        self.assertTrue(answer.startswith(b"HTTP/1.1 101 "))
        self.assertIn(b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n", answer)
        self.assertNotIn(b"Extensions", answer)
        self.assertNotIn(b"Sec-WebSocket-Protocol", answer)
        self.assertTrue(wire.no_delay)
        self.assertEqual(
            self.authenticator.asked,
            [("Bearer secret", MAC, "5f6d3c2e-1111-4222-8333-444455556666")],
        )

    def test_the_name_it_knows_us_by_goes_to_the_ai(self) -> None:
        for host, known in (
            (b"voice.example.org", "voice.example.org"),
            (b"192.0.2.7:8000", "192.0.2.7"),
            (b"[::1]:8000", ""),
        ):
            self.greet(FIRMWARE.replace(b"voice.example.org", host))
            self.assertEqual(self.bridge.sessions[-1].opening.host, known)

    def test_the_language_it_prefers(self) -> None:
        for header, language in (
            (b"Accept-Language: zh-CN\r\n", "zh-CN"),
            (b"accept-language: fi, de;q=0.7\r\n", "de"),
            (b"", "en"),
        ):
            wire = self.greet(FIRMWARE.replace(b"Device-Id", header + b"Device-Id", 1))
            assert isinstance(wire.protocol, DeviceProtocol)
            link = self.gateway.link_of(MAC)
            assert link is not None
            self.assertEqual(link._answers.language, language)

    def test_the_http_protocol_is_released(self) -> None:
        wire = self.connect()
        self.assertIsInstance(wire.protocol, DeviceProtocol)
        self.assertEqual(self.door.waiting, 0)

    def test_byte_by_byte(self) -> None:
        wire = self.dial()
        for octet in FIRMWARE + frame(1, HELLO.encode()):
            wire.feed(bytes([octet]))
        answer = wire.take()
        self.assertTrue(answer.startswith(b"HTTP/1.1 101 "))
        hello = json.loads(frames(answer.partition(b"\r\n\r\n")[2])[0][1])
        self.assertEqual(hello["session_id"], "s1")

    def test_everything_in_one_segment(self) -> None:
        wire = self.dial()
        wire.feed(FIRMWARE + frame(1, HELLO.encode()) + frame(2, b"opus"))
        self.assertEqual(self.bridge.sessions[0].sent, [Audio(b"opus")])

    def test_under_a_transport_that_cannot_be_handed_over(self) -> None:
        wire = self.dial()
        door = wire.protocol
        assert isinstance(door, EdgePort)
        door.dataReceived(FIRMWARE)
        door.dataReceived(frame(1, HELLO.encode()))
        self.assertEqual(len(self.bridge.sessions), 1)
        door.connectionLost(Failure(ConnectionDone()))
        self.assertIsNotNone(self.bridge.sessions[0].ended)
        self.assertEqual(self.gateway.connections, 0)

    def test_under_tls(self) -> None:
        """A TLS transport keeps its protocol under another name."""
        wire = self.dial()
        door = wire.protocol
        assert isinstance(door, EdgePort)
        wire.wrappedProtocol = door
        door.dataReceived(FIRMWARE)
        self.assertIsInstance(wire.wrappedProtocol, DeviceProtocol)

    def test_both_paths_with_and_without_a_slash(self) -> None:
        for number, path in enumerate((b"/ws", b"/ws/", b"/xiaozhi/v1")):
            device = b"device-%d" % number
            head = FIRMWARE.replace(b"/xiaozhi/v1/", path).replace(MAC.encode(), device)
            self.connect(head)

    def test_other_paths_are_404(self) -> None:
        status, _, body = self.request(FIRMWARE.replace(b"/xiaozhi/v1/", b"/other?token=secret"))
        self.assertEqual((status, body["error"]), (404, "not_found"))
        self.assertNotIn("secret", str(body))

    def test_a_browser_by_its_query(self) -> None:
        """§1.4, §10: a browser cannot set headers."""
        for number, (query, token) in enumerate(
            (
                (b"device-id=d0&client-id=c&authorization=Bearer%20secret", "Bearer secret"),
                (b"device_id=d1&client_id=c&token=secret", "secret"),
                (b"mac_address=d2&client-id=c&Authorization=secret", "secret"),
            )
        ):
            head = (
                b"GET /xiaozhi/v1/?" + query + b" HTTP/1.1\r\nHost: localhost:8000\r\n"
                b"Connection: keep-alive, Upgrade\r\nOrigin: http://localhost:8006\r\n"
                b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                b"Upgrade: websocket\r\n\r\n"
            )
            self.connect(head)
            self.assertEqual(self.authenticator.asked[-1], (token, f"d{number}", "c"))

    def test_lower_case_headers_and_a_bare_token(self) -> None:
        """§10: the Flutter client."""
        head = FIRMWARE.replace(b"Bearer secret", b"secret")
        for name in (b"Authorization", b"Client-Id", b"Device-Id", b"Protocol-Version"):
            head = head.replace(name, name.lower())
        self.greet(head)

    def test_protocol_version_without_one_in_the_hello(self) -> None:
        wire = self.connect(FIRMWARE.replace(b"Protocol-Version: 1", b"Protocol-Version: 3"))
        wire.feed(frame(1, b'{"type":"hello"}') + frame(2, b"\0\0\0\4opus"))
        self.assertEqual(self.bridge.sessions[0].sent, [Audio(b"opus")])


class RefusalTests(PortCase):
    def test_wrong_token(self) -> None:
        """§1.4: with a status before the 101; §10: py-xiaozhi's ``Bearer None``."""
        for token in (b"Bearer wrong", b"Bearer None"):
            status, headers, body = self.request(FIRMWARE.replace(b"Bearer secret", token))
            self.assertEqual(status, 401)
            self.assertEqual(headers["www-authenticate"], "Bearer")
            code, message = "bad_token", "the token is not valid"
            refusal = {"success": False, "error": code, "message": message, "code": code}
            self.assertEqual(body, refusal)
        self.assertEqual(self.gateway.connections, 0)

    def test_no_token(self) -> None:
        head = FIRMWARE.replace(b"Authorization: Bearer secret\r\n", b"")
        self.assertEqual(self.request(head)[0], 401)
        self.assertIsNone(self.authenticator.asked[0][0])

    def test_no_device_id(self) -> None:
        status, _, body = self.request(FIRMWARE.replace(b"Device-Id", b"X-Other"))
        self.assertEqual((status, body["error"]), (400, "no_device_id"))

    def test_unprintable_device_id(self) -> None:
        status, _, body = self.request(FIRMWARE.replace(MAC.encode(), b"caf\xc3\xa9"))
        self.assertEqual((status, body["error"]), (400, "bad_id"))

    def test_bad_websocket_request(self) -> None:
        status, _, body = self.request(FIRMWARE.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"short"))
        self.assertEqual((status, body["error"]), (400, "bad_handshake"))
        self.assertIn("Sec-WebSocket-Key", str(body["message"]))

    def test_a_token_in_the_query_is_in_no_answer(self) -> None:
        broken = FIRMWARE.replace(b"/xiaozhi/v1/ HTTP", b"/ws?token=secret x HTTP")
        status, _, body = self.request(broken)
        self.assertEqual(status, 400)
        self.assertNotIn("secret", str(body))

    def test_full(self) -> None:
        for number in range(3):
            self.connect(FIRMWARE.replace(MAC.encode(), b"device-%d" % number))
        status, headers, body = self.request(FIRMWARE)
        self.assertEqual((status, body["error"]), (503, "too_many_connections"))
        self.assertIn("retry-after", headers)

    def test_an_exception_of_ours(self) -> None:
        def fail(token: object, device_id: object, client_id: object) -> None:
            raise RuntimeError("oops")

        self.authenticator.authenticate = fail  # type: ignore[method-assign,assignment]
        status, _, body = self.request(FIRMWARE)
        self.assertEqual((status, body["error"]), (500, "internal"))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)


class RequestHeadTests(PortCase):
    def test_head_too_big(self) -> None:
        status, _, body = self.request(b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000)
        self.assertEqual((status, body["error"]), (431, "head_too_big"))

    def test_half_a_head(self) -> None:
        wire = self.dial()
        wire.feed(b"GET / HTTP/1.1\r\n")
        self.clock.pump([0.25] * 41)
        self.assertEqual(self.answer(wire.take())[0], 408)
        self.assertTrue(wire.disconnecting)
        # A peer that does not even read the answer is disconnected.
        self.clock.pump([0.25] * 41)
        self.assertTrue(wire.aborted)
        wire.lose(False)
        self.assertEqual(self.door.waiting, 0)

    def test_silence(self) -> None:
        wire = self.dial()
        self.clock.pump([0.25] * 41)
        self.assertEqual(wire.take(), b"")
        self.assertTrue(wire.aborted)
        self.assertEqual(self.gateway.entrance.refusals.counts, {"silent": 1})

    def test_disconnected_before_the_request(self) -> None:
        wire = self.dial()
        wire.lose()
        self.assertEqual(self.door.waiting, 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_too_many_waiting(self) -> None:
        for _ in range(4):
            self.dial()
        self.assertIsNone(self.door.buildProtocol(None))
        self.assertEqual(self.gateway.entrance.refusals.counts, {"too_many_waiting": 1})


class AddressTests(PortCase):
    """Limits by address, for all kinds of connections."""

    settings = EdgeSettings(
        gateway=GatewaySettings(
            max_per_address=3,
            max_waiting_per_address=2,
            address_rate=1.0,
            address_burst=10,
            device_rate=0.1,
            device_burst=2,
            trusted_proxies=("10.0.0.0/8",),
        )
    )
    ONE, OTHER, PROXY = "192.0.2.1", "192.0.2.2", "10.0.0.1"

    def let_in(self, host: str) -> bool:
        return self.door.buildProtocol(IPv4Address("TCP", host, 4711)) is not None

    def device(self, name: str, host: str, head: bytes = FIRMWARE) -> Wire:
        wire = self.dial(host)
        wire.feed(head.replace(MAC.encode(), name.encode()))
        return wire

    def counts(self) -> dict[str, int]:
        return dict(self.gateway.entrance.refusals.counts)

    def test_at_once(self) -> None:
        wires = [self.device(f"d{number}", self.ONE) for number in range(3)]
        self.assertFalse(self.let_in(self.ONE))
        self.assertTrue(self.let_in(self.OTHER))
        self.assertEqual(self.counts(), {"address_full": 1})
        wires[0].lose()
        self.assertTrue(self.let_in(self.ONE))

    def test_of_all_kinds(self) -> None:
        """Devices, refused ones, probes, and connections without a request."""
        device = self.device("d", self.ONE)
        refused = self.dial(self.ONE)
        refused.feed(FIRMWARE.replace(b"secret", b"wrong"))
        probe = self.dial(self.ONE)
        probe.feed(b"GET /alive HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertFalse(self.let_in(self.ONE))
        for wire in (device, refused, probe):
            wire.lose()
        self.assertEqual(self.gateway.entrance.peers.addresses, 0)
        silent = self.dial(self.ONE)
        silent.lose()
        self.assertEqual(self.gateway.entrance.peers.addresses, 0)

    def test_waiting(self) -> None:
        """One address cannot take all places of connections without a request."""
        wires = [self.dial(self.ONE) for _ in range(2)]
        self.assertFalse(self.let_in(self.ONE))
        self.assertEqual(self.counts(), {"address_waiting": 1})
        self.assertTrue(self.let_in(self.OTHER))
        wires[0].feed(FIRMWARE)
        self.assertTrue(self.let_in(self.ONE))

    def test_rate(self) -> None:
        for _ in range(10):
            self.dial(self.ONE).lose()
        self.assertFalse(self.let_in(self.ONE))
        self.assertTrue(self.let_in(self.OTHER))
        self.assertEqual(self.counts(), {"address_rate": 1})
        self.clock.advance(1)
        self.assertTrue(self.let_in(self.ONE))

    def test_behind_a_proxy(self) -> None:
        """Its connections count for their original addresses and get an answer."""

        def head(host: str) -> bytes:
            return FIRMWARE.replace(b"Host:", b"X-Forwarded-For: %s\r\nHost:" % host.encode())

        wires = [self.device(f"d{number}", self.PROXY, head(self.ONE)) for number in range(3)]
        refused = self.device("d3", self.PROXY, head(self.ONE))
        status, _headers, body = self.answer(refused.take())
        self.assertEqual((status, body["error"]), (429, "address_full"))
        self.assertTrue(refused.disconnecting)
        refused.lose()
        other = self.device("d4", self.PROXY, head(self.OTHER))
        self.assertTrue(other.take().startswith(b"HTTP/1.1 101 "))
        for wire in (*wires, other):
            wire.lose()
        self.assertEqual(self.gateway.entrance.peers.addresses, 0)
        self.assertEqual(self.door.waiting, 0)

    def test_an_untrusted_proxy_is_not_believed(self) -> None:
        for number in range(3):
            host = b"X-Forwarded-For: 198.51.100.%d\r\nHost:" % number
            self.device(f"d{number}", self.ONE, FIRMWARE.replace(b"Host:", host))
        self.assertFalse(self.let_in(self.ONE))

    def test_a_device_that_connects_again_and_again(self) -> None:
        """It has to wait, and its existing connection stays."""
        self.greet()
        kept = self.greet()
        status, headers, body = self.request(FIRMWARE)
        self.assertEqual((status, body["error"]), (429, "device_rate"))
        self.assertIn("retry-after", headers)
        kept.feed(frame(2, b"opus"))
        self.assertEqual(self.bridge.sessions[1].sent, [Audio(b"opus")])
        self.greet(FIRMWARE.replace(MAC.encode(), b"another"))
        self.clock.advance(10)
        self.greet()

    def test_a_device_id_alone_does_not_lock_its_owner_out(self) -> None:
        for _ in range(5):
            self.assertEqual(self.request(FIRMWARE.replace(b"secret", b"wrong"))[0], 401)
        self.greet()

    def test_shown_in_health(self) -> None:
        self.request(FIRMWARE.replace(b"secret", b"wrong"))
        wire = self.dial()
        wire.feed(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n")
        wire.feed(b"Authorization: Bearer admin\r\n\r\n")
        self.assertEqual(self.answer(wire.take())[2]["refused"], {"bad_token": 1})


class ConnectionTests(PortCase):
    def test_a_conversation(self) -> None:
        wire = self.greet()
        (session,) = self.bridge.sessions
        self.assertEqual(session.opening.session_id, "s1")
        self.assertEqual(session.opening.device.device_id, MAC)
        self.assertTrue(session.opening.hello.features.mcp)
        session.events.received(Stt("hi"))
        ((_opcode, payload),) = frames(wire.take())
        self.assertEqual(json.loads(payload), {"type": "stt", "text": "hi", "session_id": "s1"})
        self.assertIs(self.gateway.link_of(MAC), self.gateway.link("s1"))

    def test_dropped_without_a_close_frame(self) -> None:
        """§1.1: how devices disconnect."""
        wire = self.greet()
        wire.lose(False)
        self.assertEqual(self.log.event_data("closed")["code"], 1006)
        self.assertEqual(self.bridge.sessions[0].ended[0], "device_gone")  # type: ignore[index]
        self.assertEqual(self.gateway.connections, 0)
        self.assertIsNone(self.gateway.link_of(MAC))
        self.assertEqual(self.presence.released, [(MAC, "s1")])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_closed_properly(self) -> None:
        """§10: py-xiaozhi and browsers."""
        wire = self.greet()
        wire.feed(frame(8, (1000).to_bytes(2, "big") + b"bye"))
        self.assertEqual(frames(wire.take())[0][0], 8)
        self.assertTrue(wire.disconnecting)
        wire.lose()
        closed = self.log.event_data("closed")
        self.assertEqual((closed["code"], closed["reason"]), (1000, "bye"))

    def test_the_newest_connection_wins(self) -> None:
        """§9, 22 and 23: the old one ends before the new one begins."""
        former = self.greet()
        newer = self.greet()
        self.assertEqual(self.close_frame(former), (4001, "replaced"))
        first, second = self.bridge.sessions
        self.assertEqual(first.ended, ("replaced", "replaced"))
        self.assertEqual(self.gateway.link_of(MAC), self.gateway.link("s2"))
        # Messages of the old connection are dropped.
        former.feed(frame(2, b"opus"))
        self.assertEqual((first.sent, second.sent), ([], []))
        # Its end does not remove the newer one.
        former.lose()
        self.assertEqual(self.gateway.link_of(MAC), self.gateway.link("s2"))
        self.assertEqual(self.gateway.connections, 1)
        newer.feed(frame(2, b"opus"))
        self.assertEqual(second.sent, [Audio(b"opus")])

    def test_without_a_hello_it_replaces_no_connection_elsewhere(self) -> None:
        """A busy edge may accept a connection that its device has already left."""
        wire = self.connect()
        self.assertEqual((self.presence.claims, self.inbox.readers), ([], {}))
        wire.feed(frame(1, HELLO.encode()))
        self.assertEqual([claim.session_id for claim, _ in self.presence.claims], ["s1"])
        self.assertEqual(self.inbox.readers[MAC][0], "s1")
        wire.lose()
        self.assertEqual(self.inbox.readers, {})

    def test_replaced_in_another_process(self) -> None:
        wire = self.greet()
        presence, replaced = self.presence.claims[0]
        self.assertEqual((presence.node, presence.session_id), ("im-1", "s1"))
        replaced()
        self.assertEqual(self.close_frame(wire), (4001, "replaced"))

    def test_presence_failures_do_not_affect_a_device(self) -> None:
        self.presence.broken = RuntimeError("redis is away")
        wire = self.greet()
        wire.lose()
        self.assertEqual(self.gateway.connections, 0)

    def test_tcp_is_dropped_soon_after_our_close(self) -> None:
        """§1.1; §9, 20: devices do not echo a Close frame."""
        wire = self.greet()
        self.bridge.sessions[0].events.closed("farewell", "")
        self.assertEqual(self.close_frame(wire), (1000, "farewell"))
        self.clock.pump([0.25] * 3)
        self.assertFalse(wire.aborted)
        self.clock.pump([0.25] * 2)
        self.assertTrue(wire.aborted)
        wire.lose(False)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_long_reason_is_cut_between_characters(self) -> None:
        wire = self.greet()
        self.bridge.sessions[0].events.closed("x" * 119 + "再见", "")
        self.assertEqual(self.close_frame(wire), (1011, "x" * 119))

    def test_an_echoed_close_ends_it_at_once(self) -> None:
        wire = self.greet()
        self.bridge.sessions[0].events.closed("farewell", "")
        wire.feed(frame(8, (1000).to_bytes(2, "big")))
        self.assertTrue(wire.aborted or wire.disconnecting)

    def test_oversize_message(self) -> None:
        wire = self.greet()
        wire.feed(frame(1, b"x" * 70_001))
        code, reason = self.close_frame(wire)
        self.assertEqual(code, 1009)
        self.assertIn("70000", reason)
        self.assertEqual(self.log.event_data("closed")["code"], 1009)
        self.assertEqual(self.bridge.sessions[0].sent, [])
        self.clock.pump([0.25] * 5)
        self.assertTrue(wire.aborted)

    def test_the_largest_message_is_taken(self) -> None:
        wire = self.greet()
        wire.feed(frame(2, b"x" * 70_000))
        self.assertEqual(len(self.bridge.sessions[0].sent[0].payload), 70_000)

    def test_text_that_is_not_utf8(self) -> None:
        wire = self.greet()
        wire.feed(frame(1, b"\xff\xfe"))
        self.assertEqual(self.close_frame(wire)[0], 1007)

    def test_fragments(self) -> None:
        wire = self.greet()
        wire.feed(b"\x02\x82\0\0\0\0op" + b"\x80\x82\0\0\0\0us")
        self.assertEqual(self.bridge.sessions[0].sent, [Audio(b"opus")])

    def test_bytes_like_a_frame_inside_another(self) -> None:
        """TCP may split anywhere: the rest of a message may begin like a whole packet."""
        inner = frame(2, b"opus")
        for size in (200, 5000):
            wire = self.greet()
            session = self.bridge.sessions[-1]
            whole = frame(2, b"x" * (size - len(inner)) + inner)
            at = len(whole) - len(inner)
            wire.feed(whole[:at])
            wire.feed(whole[at:])
            (audio,) = session.sent
            self.assertEqual(len(audio.payload), size)
            wire.lose()

    def test_pings_of_py_xiaozhi_are_answered(self) -> None:
        """§1.5; §9, 21."""
        wire = self.greet()
        wire.feed(frame(9, b"abc"))
        self.assertEqual(frames(wire.take()), [(10, b"abc")])

    def test_our_pings(self) -> None:
        wire = self.greet()
        self.clock.pump([0.25] * 122)
        self.assertEqual(frames(wire.take()), [(9, b"")])
        wire.feed(frame(10, b""))
        self.clock.pump([0.25] * 122)
        self.assertEqual(frames(wire.take()), [(9, b"")])
        self.clock.pump([0.25] * 82)
        self.assertEqual(self.close_frame(wire), (1011, "ping_timeout"))

    def test_a_full_write_buffer_reaches_the_link(self) -> None:
        wire = self.greet()
        assert wire.producer is not None
        wire.producer.pauseProducing()
        self.clock.pump([0.25] * 84)
        self.assertEqual(self.close_frame(wire), (1008, "slow_reader"))

    def test_backpressure_stops_reading(self) -> None:
        wire = self.greet()
        events = self.bridge.sessions[0].events
        events.pause_sending()
        self.assertEqual(wire.producerState, "paused")
        events.resume_sending()
        self.assertEqual(wire.producerState, "producing")

    def test_a_device_that_is_held_back_can_still_echo_our_close(self) -> None:
        wire = self.greet()
        events = self.bridge.sessions[0].events
        events.pause_sending()
        events.closed("farewell", "")
        self.assertEqual(self.close_frame(wire), (1000, "farewell"))
        self.assertEqual(wire.producerState, "producing")

    def test_a_failing_link_closes_with_1011(self) -> None:
        wire = self.greet()

        def fail(message: object) -> None:
            raise RuntimeError("oops")

        self.bridge.sessions[0].send = fail  # type: ignore[method-assign]
        wire.feed(frame(2, b"opus"))
        self.assertEqual(self.close_frame(wire), (1011, "internal"))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_two_hundred_bytes_and_more(self) -> None:
        """Frame lengths of one, two and eight bytes."""
        wire = self.greet()
        link = self.gateway.link_of(MAC)
        assert link is not None
        for size in (0, 125, 126, 65535, 65536):
            self.bridge.sessions[0].events.received(Stt("x" * size))
            ((_, payload),) = frames(wire.take())
            self.assertEqual(len(json.loads(payload)["text"]), size)


class DrainTests(PortCase):
    def test_everyone_is_sent_away(self) -> None:
        """§1.1: 1001, and no new connections."""
        wires = [self.greet(FIRMWARE.replace(MAC.encode(), b"d%d" % n)) for n in range(2)]
        drained = self.gateway.drain(5.0)
        self.assertNoResult(drained)
        for wire in wires:
            self.assertEqual(self.close_frame(wire), (1001, "going_away"))
        self.assertEqual(self.bridge.sessions[0].ended[0], "edge_stopping")  # type: ignore[index]
        self.assertEqual(self.request(FIRMWARE)[0], 503)
        wires[0].lose()
        self.assertNoResult(drained)
        wires[1].lose()
        self.successResultOf(drained)
        self.gateway.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_server(self) -> None:
        self.successResultOf(self.gateway.drain(5.0))
        self.assertEqual(self.clock.getDelayedCalls(), [])


class StructureTests(SynchronousTestCase):
    def test_no_option_of_autobahn_is_copied_into_every_connection(self) -> None:
        for name in WebSocketServerProtocol.CONFIG_ATTRS:
            if name not in DeviceProtocol.CONFIG_ATTRS:
                self.assertTrue(hasattr(DeviceProtocol, name), name)

    def test_session_ids_fit_unescaped_into_json(self) -> None:
        """§2.2"""
        for _ in range(50):
            self.assertRegex(new_session_id(), r"\A[A-Za-z0-9_-]{24}\Z")

    def test_status_of_the_fake(self) -> None:
        self.assertEqual(FakeBridge().status(), BridgeStatus("connected", 1, 0))
