"""Binary framing: :mod:`xiaozhi.wire.frames`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.base.errors import ProtocolError
from xiaozhi.testing.wire import audio_up
from xiaozhi.wire.frames import codec, framing_of
from xiaozhi.wire.messages import Audio


class RoundTripTests(SynchronousTestCase):
    @given(audio_up)
    def test_version_1_has_no_timestamp(self, audio: Audio) -> None:
        pack, unpack = codec(1)
        self.assertEqual(pack(audio), audio.payload)
        self.assertEqual(unpack(pack(audio)), Audio(audio.payload))

    @given(audio_up)
    def test_version_2(self, audio: Audio) -> None:
        pack, unpack = codec(2)
        self.assertEqual(len(pack(audio)), 16 + len(audio.payload))
        self.assertEqual(unpack(pack(audio)), audio)

    @given(audio_up)
    def test_version_3(self, audio: Audio) -> None:
        pack, unpack = codec(3)
        self.assertEqual(len(pack(audio)), 4 + len(audio.payload))
        self.assertEqual(unpack(pack(audio)), Audio(audio.payload))

    @given(st.sampled_from([2, 3]), audio_up, st.binary(max_size=9))
    def test_bytes_after_the_payload_are_ignored(
        self, framing: int, audio: Audio, more: bytes
    ) -> None:
        pack, unpack = codec(framing)
        self.assertEqual(unpack(pack(audio) + more).payload, audio.payload)


class BadFrameTests(SynchronousTestCase):
    @given(st.sampled_from([1, 2, 3]), st.binary(max_size=40))
    def test_any_bytes(self, framing: int, data: bytes) -> None:
        _, unpack = codec(framing)
        try:
            audio = unpack(data)
        except ProtocolError as error:
            self.assertEqual(error.code, "bad_frame")
        else:
            self.assertIn(audio.payload, data)

    @given(st.sampled_from([2, 3]), audio_up.filter(lambda a: len(a.payload) > 0), st.data())
    def test_cut_short(self, framing: int, audio: Audio, data: st.DataObject) -> None:
        pack, unpack = codec(framing)
        whole = pack(audio)
        cut = data.draw(st.integers(1, len(whole) - 1))
        self.assertRaises(ProtocolError, unpack, whole[:cut])

    def test_empty_is_the_end_of_a_recording(self) -> None:
        for framing in (1, 2, 3):
            self.assertEqual(codec(framing)[1](b""), Audio(b""))

    def test_wrong_version_and_type(self) -> None:
        unpack_v2, unpack_v3 = codec(2)[1], codec(3)[1]
        good = codec(2)[0](Audio(b"abc"))
        for bad in (b"\0\3" + good[2:], good[:2] + b"\0\1" + good[4:]):
            with self.assertRaises(ProtocolError) as raised:
                unpack_v2(bad)
            self.assertIn("version 2 frame", raised.exception.message)
        with self.assertRaises(ProtocolError) as raised:
            unpack_v3(b"\1\0\0\1x")
        self.assertIn("type 1", raised.exception.message)

    def test_too_long_for_version_3(self) -> None:
        pack, unpack = codec(3)
        longest = Audio(bytes(65535))
        self.assertEqual(unpack(pack(longest)), longest)
        with self.assertRaises(ProtocolError) as raised:
            pack(Audio(bytes(65536)))
        self.assertEqual(raised.exception.code, "frame_too_big")

    def test_framing_of(self) -> None:
        self.assertEqual([framing_of(n) for n in (0, 1, 2, 3, 4, 99)], [1, 1, 2, 3, 1, 1])
