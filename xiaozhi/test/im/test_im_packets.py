"""Packets extracted from a stream of bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.im.websocket.packets import MOST, packet_at
from xiaozhi.test.im import test_im_gateway as gateway
from xiaozhi.wire.messages import Audio, Chat

masks = st.binary(min_size=4, max_size=4)


def frame(payload: bytes, mask: bytes = b"\x01\x02\x03\x04", first: int = 0x82) -> bytes:
    """A client's frame, masked byte by byte."""
    size = len(payload)
    if size < 126:
        length = bytes((0x80 | size,))
    elif size < 65536:
        length = b"\xfe" + size.to_bytes(2, "big")
    else:
        length = b"\xff" + size.to_bytes(8, "big")
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return bytes((first,)) + length + mask + masked


class PacketTests(SynchronousTestCase):
    @given(st.binary(max_size=MOST), masks, st.binary(max_size=9), st.binary(max_size=20))
    def test_read(self, payload: bytes, mask: bytes, before: bytes, after: bytes) -> None:
        data = before + frame(payload, mask)
        self.assertEqual(packet_at(data + after, len(before)), (payload, len(data)))

    @given(st.binary(max_size=300), masks, st.data())
    def test_not_whole(self, payload: bytes, mask: bytes, draw: st.DataObject) -> None:
        whole = frame(payload, mask)
        size = draw.draw(st.integers(0, len(whole) - 1))
        self.assertIsNone(packet_at(whole[:size], 0))

    def test_lengths_around_the_steps(self) -> None:
        for size in (0, 1, 3, 4, 5, 124, 125, 126, 127, 255, 256, MOST):
            data = frame(bytes(size))
            self.assertEqual(packet_at(data, 0), (bytes(size), len(data)), size)

    def test_other_frames_are_not_handled(self) -> None:
        for first in range(256):
            if first != 0x82:
                self.assertIsNone(packet_at(frame(b"packet", first=first), 0), hex(first))

    def test_longer_frames_are_not_handled(self) -> None:
        for size in (MOST + 1, 65535, 65536):
            self.assertIsNone(packet_at(frame(bytes(size)), 0), size)

    def test_unmasked_frames_are_not_handled(self) -> None:
        for length in (b"\x04", b"\x7e\x00\x80", b"\x7f" + bytes(7) + b"\x80"):
            self.assertIsNone(packet_at(b"\x82" + length + bytes(200), 0))

    def test_a_length_not_in_its_shortest_form_is_not_handled(self) -> None:
        for length in (b"\xfe\x00\x7d", b"\xff" + bytes(7) + b"\x04"):
            self.assertIsNone(packet_at(b"\x82" + length + bytes(200), 0))


class StreamTests(gateway.PortCase):
    """With any content and TCP segmentation, the session gets the same."""

    STREAM = b"".join(
        (
            frame(b"one"),
            frame(b"two" * 50),
            frame(b"", first=0x89),  # ping
            frame(b"thr", first=0x02) + frame(b"ee", first=0x80),  # in two fragments
            frame(b'{"type":"chat","text":"hi"}', first=0x81),
            frame(b"four"),
            frame(b"fi", first=0x02) + frame(b"", first=0x89) + frame(b"ve", first=0x80),
            frame(b"six" * 400),
            frame(b""),
            frame(b"seven"),
        )
    )
    MEANT = (
        *(Audio(payload) for payload in (b"one", b"two" * 50, b"three")),
        Chat("hi"),
        *(Audio(payload) for payload in (b"four", b"five", b"six" * 400, b"", b"seven")),
    )

    def sent_in(self, pieces: list[bytes]) -> list[object]:
        wire = self.greet()
        for piece in pieces:
            wire.feed(piece)
        pongs = [one for one in gateway.frames(wire.take()) if one[0] == 10]
        self.assertEqual(len(pongs), 2)
        wire.lose()
        return list(self.bridge.sessions[-1].sent)

    def test_at_once(self) -> None:
        self.assertEqual(self.sent_in([self.STREAM]), list(self.MEANT))

    def test_byte_by_byte(self) -> None:
        pieces = [bytes((byte,)) for byte in self.STREAM]
        self.assertEqual(self.sent_in(pieces), list(self.MEANT))

    def test_cut_anywhere(self) -> None:
        for size in (2, 3, 5, 7, 11, 23, 64, 101, 150, 1000):
            pieces = [self.STREAM[at : at + size] for at in range(0, len(self.STREAM), size)]
            self.assertEqual(self.sent_in(pieces), list(self.MEANT), size)

    def test_nothing_is_taken_after_the_end(self) -> None:
        wire = self.greet()
        session = self.bridge.sessions[-1]
        goodbye = frame(b'{"type":"goodbye"}', first=0x81)
        wire.feed(frame(b"last") + goodbye + frame(b"late") + frame(b"later"))
        wire.feed(frame(b"too late"))
        self.assertEqual(session.sent, [Audio(b"last")])
