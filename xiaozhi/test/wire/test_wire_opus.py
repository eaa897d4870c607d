"""How long an Opus packet sounds, by its head."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.audio import OpusEncoder
from xiaozhi.testing.house import SPEECH
from xiaozhi.wire.opus import has_voice, packet_ms


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
        has_voice(data)


class HasVoiceTests(SynchronousTestCase):
    def test_flags(self) -> None:
        """RFC 6716, 4.2.3: one bit for each 20 ms of a SILK layer."""
        for packet, voice in (
            (b"", False),
            (b"\x58", False),  # DTX
            (b"\x58\x00", False),
            (b"\x58\x10", False),  # the redundancy flag behind three voice flags
            (b"\x58\x20", True),
            (b"\x58\x80", True),
            (b"\x50\x40", True),  # 40 ms
            (b"\x50\x20", False),
            (b"\x48\x80", True),  # 20 ms
            (b"\x48\x40", False),
            (b"\x40\x80", True),  # 10 ms
            (b"\x78\x80", True),  # hybrid
            (b"\x78\x7f", False),
            (b"\xf8\xff", None),  # CELT
            (b"\x59\xff", None),  # two frames
        ):
            self.assertIs(has_voice(packet), voice, packet)

    def test_of_real_encoders(self) -> None:
        silence = bytes(1920)
        for duration in (20, 40, 60):
            for application in ("voip", "audio"):
                encoder = OpusEncoder(16000, duration, 0, 16000, application)
                size = 32 * duration
                quiet = [encoder.encode(silence[:size])[0] for _ in range(20)]
                loud = [encoder.encode(SPEECH[:size])[0] for _ in range(5)]
                self.assertFalse(any(has_voice(packet) for packet in quiet[5:]))
                self.assertTrue(all(has_voice(packet) is not False for packet in loud[1:]))
