"""How long an Opus packet sounds, by its head."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.wire.opus import packet_ms


class PacketMsTests(SynchronousTestCase):
    def test_lengths(self) -> None:
        """RFC 6716, 3.1."""
        for packet, ms in (
            (b"\x00", 10),
            (b"\x18", 60),
            (b"\x19", 120),
            (b"\x58", 60),
            (b"\x79", 40),
            (b"\x80", 2.5),
            (b"\x83\x04", 10),
            (b"\xf8", 20),
            (b"\xfa", 40),
            (b"\xfb\x03", 60),
            (b"\xfb\xc6", 120),
        ):
            self.assertEqual(packet_ms(packet), ms)

    def test_no_packets(self) -> None:
        for data in (b"", b"\xfb", b"\xfb\x00", b"\xfb\x07", b"\x1b\x03", b"\xff\x3f"):
            self.assertEqual(packet_ms(data), 0)

    @given(st.binary())
    def test_any_bytes(self, data: bytes) -> None:
        self.assertTrue(packet_ms(data) == 0 or 2.5 <= packet_ms(data) <= 120)
