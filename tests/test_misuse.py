"""Valid and invalid messages of an admitted device, byte for byte on real sockets."""

from __future__ import annotations

import struct

from tests.rawsocket import BINARY, PING, PONG, TEXT, RawSocket
from tests.services import get
from tests.test_refusals import MAC, RefusalCase

PACKET = b"\x58" + bytes(40)
# Messages; so many that even a slow machine sends them too fast.
FLOOD = 400
FLOODERS = [f"aa:bb:cc:dd:ef:0{number}" for number in range(3)]


class ConversationTests(RefusalCase):
    """Messages of an admitted device."""

    def assert_alive(self, socket: RawSocket) -> None:
        socket.text(type="ping")
        socket.until_text("pong")

    def test_two_hellos(self) -> None:
        """§9.28: one answer; the second hello is an error, and the conversation continues."""
        socket = self.device()
        session_id = socket.hello()
        socket.text(type="hello", version=3, transport="websocket")
        self.assertEqual(socket.until_text("error")["code"], "hello_repeated")
        socket.text(type="listen", state="detect", text="hi")
        self.assertEqual(socket.until_text("stt")["session_id"], session_id)

    def test_text_before_hello(self) -> None:
        socket = self.device()
        socket.text(type="listen", state="start", mode="auto")
        self.assertEqual(socket.until_text("error")["code"], "hello_first")
        socket.hello()
        self.assert_alive(socket)

    def test_audio_before_hello(self) -> None:
        """§9.19: not an error."""
        socket = self.device()
        for _ in range(5):
            socket.send(BINARY, PACKET)
        socket.hello()
        self.assert_alive(socket)

    def test_android_preamble(self) -> None:
        """§4.1: two texts that are not JSON, from a client that cannot set headers."""
        socket = self.device()
        socket.send(TEXT, b"Authorization: Bearer test-token")
        socket.send(TEXT, f"Device-ID: {MAC}".encode())
        socket.hello()
        self.assert_alive(socket)

    def test_no_hello(self) -> None:
        socket = self.device()
        self.assertEqual(socket.until_close(), (1008, "hello_timeout"))

    def test_malformed(self) -> None:
        """An error with its code for each message; the connection stays open."""
        socket = self.device()
        socket.hello()
        for text in (
            b"{",
            b"[]",
            b'"hello"',
            b"{}",
            b'{"type":7}',
            b'{"type":"listen","state":[]}',
            b'{"type":"mcp","payload":"text"}',
            b"[" * 100,
            b'{"type":"chat","a":' + b"[" * 60 + b"]" * 60 + b"}",
        ):
            with self.subTest(text[:40]):
                socket.send(TEXT, text)
                error = socket.until_text("error")
                self.assertTrue(error["code"] and error["message"], error)
        self.assert_alive(socket)

    def test_enveloped_error(self) -> None:
        """In the dialect of the hello."""
        socket = self.device()
        data = {"version": 1, "transport": "websocket"}
        socket.text(type="hello", data=data, timestamp=1)
        self.assertIn("session_id", socket.receive().json["data"])
        socket.send(TEXT, b"{")
        error = socket.until(lambda frame: frame.opcode == TEXT).json
        self.assertEqual(error["type"], "error")
        self.assertIn("code", error["data"])
        self.assertIn("timestamp", error)

    def test_always_malformed(self) -> None:
        socket = self.device()
        socket.hello()
        for _ in range(12):
            socket.send(TEXT, b"{")
        self.assertEqual(socket.until_close(), (1008, "malformed_limit"))

    def test_unknown_type(self) -> None:
        socket = self.device()
        socket.hello()
        socket.text(type="voice_mute", whatever=[1])
        self.assert_alive(socket)

    def test_not_utf8(self) -> None:
        socket = self.device()
        socket.hello()
        socket.send(TEXT, b"\xff\xfe")
        self.assertEqual(socket.until_close()[0], 1007)

    def test_oversize(self) -> None:
        for opcode in (TEXT, BINARY):
            socket = self.device()
            socket.hello()
            socket.send(opcode, bytes(10_001))
            self.assertEqual(socket.until_close()[0], 1009)

    def test_oversize_is_known_by_its_head(self) -> None:
        """The announced length suffices; the payload is not buffered first."""
        socket = self.device()
        socket.hello()
        socket.send_bytes(struct.pack(">BBQ", 0x82, 0xFF, 1 << 40) + bytes(4))
        self.assertEqual(socket.until_close()[0], 1009)

    def test_oversize_in_fragments(self) -> None:
        socket = self.device()
        socket.hello()
        piece = struct.pack(">BBH", 0x00, 0x80 | 126, 6000) + bytes(6004)
        socket.send_bytes(bytes([0x02]) + piece[1:] + piece)
        self.assertEqual(socket.until_close()[0], 1009)

    def test_unmasked(self) -> None:
        socket = self.device()
        socket.hello()
        socket.send_bytes(b"\x82\x01x")
        self.assertEqual(socket.until_close()[0], 1002)

    def test_flood(self) -> None:
        # With new devices, because a device's limit survives its connection.
        for device_id, payload in ((FLOODERS[0], b'{"type":"ping"}'), (FLOODERS[1], PACKET)):
            socket = self.device(device_id=device_id)
            socket.hello()
            socket.send(TEXT if payload[:1] == b"{" else BINARY, payload, FLOOD)
            self.assertEqual(socket.until_close(), (1008, "rate_limit"))

    def test_flood_of_pings(self) -> None:
        socket = self.device(device_id=FLOODERS[2])
        socket.hello()
        socket.send(PING, b"x", FLOOD)
        self.assertEqual(socket.until_close(), (1008, "rate_limit"))

    def test_ping(self) -> None:
        """§1.5: py-xiaozhi waits for the pong with its payload."""
        socket = self.device()
        socket.hello()
        socket.send(PING, b"\x01\x02\x03\x04")
        pong = socket.until(lambda frame: frame.opcode == PONG)
        self.assertEqual(pong.payload, b"\x01\x02\x03\x04")

    def test_framing(self) -> None:
        """§3.1: wrong sizes are errors, bytes after the payload are not."""
        size = len(PACKET)
        good = {2: struct.pack(">HHIII", 2, 0, 0, 0, size), 3: struct.pack(">BBH", 0, 0, size)}
        bad = {
            2: (
                b"\x00",
                struct.pack(">HHIII", 2, 0, 0, 0, size + 1) + PACKET,
                struct.pack(">HHIII", 2, 0, 0, 0, 0xFFFFFFFF) + PACKET,
                struct.pack(">HHIII", 1, 0, 0, 0, size) + PACKET,
                struct.pack(">HHIII", 2, 1, 0, 0, 2) + b"{}",
            ),
            3: (
                b"\x00\x00",
                struct.pack(">BBH", 0, 0, size + 1) + PACKET,
                struct.pack(">BBH", 1, 0, 2) + b"{}",
            ),
        }
        for version in (2, 3):
            socket = self.device(version)
            socket.hello(version)
            socket.text(type="listen", state="start", mode="manual")
            for frame in bad[version]:
                socket.send(BINARY, frame)
                self.assertEqual(socket.until_text("error")["code"], "bad_frame")
            for frame in (b"", good[version] + PACKET, good[version] + PACKET + b"more"):
                socket.send(BINARY, frame)
            self.assert_alive(socket)

    def test_framing_of_the_header(self) -> None:
        """A hello without a version: the ``Protocol-Version`` header counts."""
        socket = self.device(3)
        socket.text(type="hello", transport="websocket")
        socket.until_text("hello")
        socket.send(BINARY, b"\x00\x00\xff\xff")
        self.assertEqual(socket.until_text("error")["code"], "bad_frame")

    def test_raw_packets_may_be_anything(self) -> None:
        """Framing 1: a packet that is not Opus, has 1 byte or is empty does no harm."""
        socket = self.device()
        socket.hello()
        socket.text(type="listen", state="start", mode="manual")
        for packet in (b"", b"\x00", b"\xff" * 50, bytes(4000)):
            socket.send(BINARY, packet)
        socket.text(type="listen", state="stop")
        self.assert_alive(socket)
        socket.text(type="listen", state="detect", text="hi")
        socket.until_text("tts", state="stop")

    def test_goodbye(self) -> None:
        socket = self.device()
        socket.hello()
        socket.text(type="goodbye")
        self.assertEqual(socket.until_close(), (1000, "goodbye"))

    def tearDown(self) -> None:
        self.assertNotIn("Traceback", self.pair.output)
        status, health = get(self.pair.edge_port, "/health")
        self.assertEqual((status, health["status"]), (200, "healthy"))
