"""Limits of a device: frames, time of a message, length of a text."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.im.session.ratelimit import Allowance, Allowances
from xiaozhi.im.settings import EdgeSettings, GatewaySettings, LimitSettings
from xiaozhi.im.websocket.protocol import DeviceFactory
from xiaozhi.test.im.test_im_gateway import FIRMWARE, MAC, PortCase, Wire, frame, frames

TEXT, BINARY, CONTINUATION, PING, PONG = 1, 2, 0, 9, 10


def part(opcode: int, payload: bytes = b"") -> bytes:
    """Make a frame that is not the last of its message."""
    whole = frame(opcode, payload)
    return bytes([whole[0] & 0x7F]) + whole[1:]


class FloodTests(PortCase):
    """Frames of every kind, more than a device may send at once."""

    settings = EdgeSettings(
        limits=LimitSettings(messages_per_second=10, message_burst=50, message_timeout=5)
    )

    # The first frame of the flood, and the others.
    TABLE = (
        ("packets", b"", frame(BINARY, b"opus")),
        ("empty packets", b"", frame(BINARY, b"")),
        ("texts", b"", frame(TEXT, b'{"type":"ping"}')),
        ("empty texts", b"", frame(TEXT, b"")),
        ("pings", b"", frame(PING, b"")),
        ("unsolicited pongs", b"", frame(PONG, b"")),
        ("long pongs", b"", frame(PONG, b"x" * 125)),
        ("empty fragments of a text", part(TEXT), part(CONTINUATION)),
        ("empty fragments of sound", part(BINARY), part(CONTINUATION)),
        ("fragments", part(TEXT, b"x"), part(CONTINUATION, b"y")),
        ("pongs within a message", part(TEXT, b"x"), frame(PONG, b"")),
        ("pings within a message", part(TEXT, b"x"), frame(PING, b"")),
        ("messages of two frames", b"", part(TEXT) + frame(CONTINUATION, b'{"type":"ping"}')),
    )

    def test_table(self) -> None:
        for what, first, rest in self.TABLE:
            self.setUp()
            wire = self.greet()
            wire.feed(first)
            for _ in range(20):
                wire.feed(rest)
            malformed = b"malformed" in wire.value()
            self.assertTrue(
                malformed or 8 not in [opcode for opcode, _ in frames(wire.take())], what
            )
            for _ in range(60):
                wire.feed(rest)
            code, reason = (1008, "malformed_limit") if malformed else self.close_frame(wire)
            self.assertEqual(code, 1008, what)
            self.assertIn(reason, ("rate_limit", "malformed_limit"), what)

    def test_a_flood_in_one_segment_is_not_parsed_to_its_end(self) -> None:
        """A thousand frames after the excess one cost nothing."""
        for flood in (frame(PONG, b""), part(CONTINUATION), frame(TEXT, b'{"type":"ping"}')):
            self.setUp()
            wire = self.greet()
            head = part(BINARY) if flood == part(CONTINUATION) else b""
            wire.feed(head + flood * 10_000)
            self.assertEqual(self.close_frame(wire), (1008, "rate_limit"))
            before = self.door.sockets.traffic.incomingWebSocketFrames  # type: ignore[attr-defined]
            wire.feed(flood * 10_000)
            self.assertEqual(wire.take(), b"")
            after = self.door.sockets.traffic.incomingWebSocketFrames  # type: ignore[attr-defined]
            self.assertEqual(after, before)

    def test_normal_traffic_is_not_a_flood(self) -> None:
        """A pong for each ping, a text in fragments, for hours."""
        wire = self.greet()
        for _ in range(500):
            self.clock.advance(1)
            wire.feed(frame(PONG, b""))
            wire.feed(part(TEXT, b'{"type":'))
            wire.feed(frame(PING, b"x"))
            wire.feed(frame(CONTINUATION, b'"ping"}'))
        self.assertNotIn(8, [opcode for opcode, _ in frames(wire.take())])


class TimeTests(PortCase):
    """A message has ``message_timeout`` from its first byte to its last."""

    settings = EdgeSettings(limits=LimitSettings(message_timeout=5))
    SLOW = (1008, "message_time_limit")

    # The first bytes, and the bytes of each later second.
    TABLE = (
        ("the first byte of a frame", b"\x81", b""),
        ("a header without its mask", frame(TEXT, b"x" * 200)[:6], b""),
        ("half a text", frame(TEXT, b'{"type":"ping"}')[:9], b""),
        ("a trickle of a text", frame(TEXT, b"x" * 1000)[:20], b"x"),
        ("half a packet", frame(BINARY, b"opus" * 20)[:30], b""),
        ("half a ping", frame(PING, b"x" * 20)[:9], b""),
        ("a fragment and no more", part(TEXT, b"x"), b""),
        ("empty fragments", part(BINARY), part(CONTINUATION)),
        ("fragments", part(TEXT, b"x"), part(CONTINUATION, b"x")),
        ("pings within a message", part(TEXT, b"x"), frame(PING, b"x")),
        ("pongs within a message", part(TEXT, b"x"), frame(PONG, b"x")),
    )

    def test_table(self) -> None:
        for what, first, then in self.TABLE:
            self.setUp()
            wire = self.greet()
            wire.feed(first)
            for second in range(7):
                closed = 8 in [opcode for opcode, _ in frames(wire.value())]
                self.assertEqual(closed, second >= 5, f"{what}, {second} s")
                if not closed:
                    wire.feed(then)
                    self.clock.pump([0.25] * 4)
            self.assertEqual(self.close_frame(wire), self.SLOW, what)

    def test_each_message_has_its_own_time(self) -> None:
        """Segments that always end within a frame are not a slow message."""
        for one in (frame(TEXT, b'{"type":"ping"}'), frame(BINARY, b"opus"), frame(PING, b"x")):
            self.setUp()
            wire = self.greet()
            wire.feed(one[:3])
            for _ in range(30):
                self.clock.pump([0.25] * 4)
                wire.feed(one[3:] + one[:3])
            self.assertNotIn(8, [opcode for opcode, _ in frames(wire.take())])

    def test_while_we_do_not_read_time_stands_still(self) -> None:
        wire = self.greet()
        wire.feed(part(TEXT, b"x"))
        events = self.bridge.sessions[0].events
        events.pause_sending()
        self.clock.pump([0.25] * 80)
        events.resume_sending()
        self.clock.pump([0.25] * 16)
        self.assertNotIn(8, [opcode for opcode, _ in frames(wire.take())])
        self.clock.pump([0.25] * 8)
        self.assertEqual(self.close_frame(wire), self.SLOW)

    def test_nothing_is_left_over(self) -> None:
        wire = self.greet()
        wire.feed(part(TEXT, b"x"))
        wire.lose()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class LengthTests(PortCase):
    """Limits of texts, by type."""

    settings = EdgeSettings(
        limits=LimitSettings(
            max_message_bytes=300_000, max_text_bytes=2000, max_typed_bytes=100, byte_burst=900_000
        )
    )
    LONG, PICTURE = "x" * 2500, "A" * 200_000
    URI = f"data:image/png;base64,{PICTURE}"

    # A text, and the error; None: it is accepted.
    TABLE: tuple[tuple[dict[str, object], str | None], ...] = (
        ({"type": "chat", "text": "x" * 100}, None),
        ({"type": "chat", "text": "x" * 101}, "max_typed_bytes"),
        ({"type": "chat", "text": "文" * 33}, None),
        ({"type": "chat", "text": "文" * 34}, "max_typed_bytes"),
        ({"type": "chat", "data": {"text": "x" * 101}}, "max_typed_bytes"),
        ({"type": "listen", "state": "detect", "text": "x" * 101}, "max_typed_bytes"),
        ({"type": "listen", "state": "text", "text": "x" * 101}, "max_typed_bytes"),
        ({"type": "image", "text": "x" * 101, "url": "http://a/b"}, "max_typed_bytes"),
        ({"type": "image", "image_data": {"data": PICTURE}}, None),
        ({"type": "image", "data": PICTURE}, None),
        ({"type": "chat", "text": "x", "pad": LONG}, "max_text_bytes"),
        ({"type": "abort", "reason": LONG}, "max_text_bytes"),
        ({"type": "goodbye", "reason": LONG}, "max_text_bytes"),
        ({"type": "iot", "states": LONG}, "max_text_bytes"),
        ({"type": "vision", "cmd": LONG}, "max_text_bytes"),
        ({"type": "unheard-of", "x": LONG}, "max_text_bytes"),
        ({"type": "hello", "x": LONG}, "max_text_bytes"),
        ({"type": LONG}, "max_text_bytes"),
        ({"type": "mcp", "payload": {"id": 1, "result": "word " * 500}}, "max_text_bytes"),
        # The answer of a browser's camera contains the picture.
        ({"type": "mcp", "payload": {"id": 1, "result": {"photo_data": PICTURE}}}, None),
        (
            {
                "type": "mcp",
                "payload": {"id": 1, "result": {"p": f"data:image/png;base64,{PICTURE}"}},
            },
            None,
        ),
    )

    def test_table(self) -> None:
        for message, error in self.TABLE:
            self.setUp()
            wire = self.greet()
            wire.feed(frame(TEXT, json.dumps(message, ensure_ascii=False).encode()))
            told = [json.loads(data) for opcode, data in frames(wire.take()) if opcode == TEXT]
            errors = [each["message"] for each in told if each["type"] == "error"]
            if error is None:
                self.assertEqual(errors, [], message["type"])
            else:
                self.assertEqual(len(errors), 1, message["type"])
                self.assertIn(f"limits.{error}", errors[0])
                self.assertEqual(self.bridge.sessions[0].sent, [])
            # The conversation continues.
            wire.feed(frame(TEXT, b'{"type":"chat","text":"tea"}'))
            self.assertEqual(self.bridge.sessions[0].sent[-1].text, "tea")

    def test_repeatedly(self) -> None:
        wire = self.greet()
        for _ in range(11):
            wire.feed(frame(TEXT, json.dumps({"type": "x", "x": self.LONG}).encode()))
        self.assertEqual(self.close_frame(wire), (1008, "malformed_limit"))

    def test_the_defaults(self) -> None:
        limits = LimitSettings()
        self.assertEqual((limits.max_text_bytes, limits.max_typed_bytes), (65_536, 8192))


class ReconnectTests(PortCase):
    """A limit belongs to the device, however often it connects."""

    settings = EdgeSettings(
        gateway=GatewaySettings(device_burst=1000),
        limits=LimitSettings(
            messages_per_second=10,
            message_burst=50,
            max_message_bytes=10_000,
            bytes_per_second=1000,
            byte_burst=10_000,
        ),
    )

    def spend(self, payload: bytes, most: int, head: bytes = FIRMWARE) -> int:
        """Return the number of packets that one connection can send; hello costs one, too."""
        wire = self.greet(head)
        before = len(self.bridge.sessions[-1].sent)
        for _ in range(most):
            wire.feed(frame(BINARY, payload))
        sent = len(self.bridge.sessions[-1].sent) - before
        self.leave(wire)
        return sent

    def leave(self, wire: Wire) -> None:
        wire.lose()

    def test_messages(self) -> None:
        self.assertEqual(self.spend(b"opus", 40), 40)
        # 9 are left; the hello takes one.
        self.assertEqual(self.spend(b"opus", 40), 8)
        self.clock.advance(2)
        self.assertEqual(self.spend(b"opus", 40), 19)
        self.clock.advance(60)
        self.assertEqual(self.spend(b"opus", 60), 49)

    def test_bytes(self) -> None:
        self.assertEqual(self.spend(b"x" * 1000, 9), 9)
        self.assertEqual(self.spend(b"x" * 1000, 9), 0)
        self.clock.advance(3)
        self.assertLess(self.spend(b"x" * 1000, 9), 4)

    def test_when_the_newer_connection_takes_over(self) -> None:
        wire = self.greet()
        for _ in range(45):
            wire.feed(frame(BINARY, b"opus"))
        self.assertLess(self.spend(b"opus", 40), 5)

    def test_each_device_has_its_own(self) -> None:
        self.spend(b"opus", 60)
        other = FIRMWARE.replace(MAC.encode(), b"aa:bb:cc:dd:ee:00")
        self.assertEqual(self.spend(b"opus", 40, other), 40)

    def test_bad_messages_in_a_row_are_the_connections(self) -> None:
        wire = self.greet()
        for _ in range(10):
            wire.feed(frame(TEXT, b"rubbish"))
        wire.lose()
        wire = self.greet()
        wire.feed(frame(TEXT, b"rubbish"))
        self.assertNotIn(8, [opcode for opcode, _ in frames(wire.take())])


class AllowancesTests(SynchronousTestCase):
    def test_bounded(self) -> None:
        kept = Allowances(LimitSettings(), most=10)
        for number in range(100):
            allowance = kept.take(str(number), 0.0)
            self.assertTrue(allowance.admit(0.0, 4_000_000))
            kept.keep(str(number), allowance, 0.0)
            self.assertLessEqual(len(kept), 10)
        self.assertFalse(kept.take("99", 0.0).admit(0.0, 1_000_000))
        self.assertTrue(kept.take("0", 0.0).admit(0.0, 1_000_000))

    def test_full_ones_are_forgotten(self) -> None:
        kept = Allowances(LimitSettings())
        for number in range(100):
            allowance = kept.take(str(number), 0.0)
            allowance.admit(0.0, 4_000_000)
            kept.keep(str(number), allowance, 0.0)
        self.assertEqual(len(kept), 100)
        for number in range(100):
            kept.keep("x", Allowance(LimitSettings(), 100.0 + number), 100.0 + number)
        self.assertLessEqual(len(kept), 1)


class PartialTests(PortCase):
    """Incomplete messages of many devices at once."""

    settings = EdgeSettings(
        gateway=GatewaySettings(max_partial_bytes=1_048_576, max_connections=100)
    )

    def test_bounded_for_all_devices_together(self) -> None:
        wires = []
        for number in range(30):
            wires.append(self.greet(FIRMWARE.replace(MAC.encode(), b"d%d" % number)))
            wires[-1].feed(frame(TEXT, b"x" * 1_000_000)[:100])
        sockets: DeviceFactory = self.door.sockets  # type: ignore[assignment]
        for _ in range(14):
            for wire in wires:
                wire.feed(b"x" * 65_000)
                self.assertLess(sockets.held, 30 * 65_536 + 1_048_576)
        codes = [frames(wire.take()) for wire in wires]
        closed = [int.from_bytes(each[0][1][:2], "big") for each in codes if each]
        self.assertEqual(set(closed), {1013})
        self.assertGreater(len(closed), 20)
        # A message of ordinary length is still accepted.
        wire = self.greet()
        wire.feed(frame(TEXT, b'{"type":"chat","text":"tea"}'))
        self.assertEqual(self.bridge.sessions[-1].sent[-1].text, "tea")
        for each in wires:
            each.lose()
        self.assertEqual(sockets.held, 0)

    def test_nothing_is_held_of_messages_that_are_whole(self) -> None:
        wire = self.greet()
        wire.feed(part(TEXT, b"x" * 1000) + frame(CONTINUATION, b"x"))
        wire.feed(frame(TEXT, b"x" * 1000) + frame(BINARY, b"x" * 2000))
        sockets: DeviceFactory = self.door.sockets  # type: ignore[assignment]
        self.assertEqual(sockets.held, 0)
