"""Conversion of a synthesiser's sound to a device's packets."""

from __future__ import annotations

import io
import math
from array import array
from functools import cache

import av
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.audio import OpusDecoder, OpusForm, PacketMaker, rms
from xiaozhi.audio.ogg import OggPackets
from xiaozhi.base.errors import ProviderError
from xiaozhi.base.values import Encoding, SoundFormat
from xiaozhi.wire.opus import packet_ms

RATES = (16000, 24000, 48000)
DURATIONS = (20, 40, 60)


@cache
def tone(seconds: float, rate: int) -> bytes:
    return array(
        "h",
        (round(8000 * math.sin(2 * math.pi * 440 * i / rate)) for i in range(int(rate * seconds))),
    ).tobytes()


@cache
def ogg(frame_ms: int, seconds: float = 1.2, layout: str = "mono") -> bytes:
    """Make an Ogg/Opus file as a vendor sends it."""
    file = io.BytesIO()
    with av.open(file, "w", format="ogg") as container:
        options = {"frame_duration": str(frame_ms), "application": "voip"}
        stream = container.add_stream("libopus", 48000, layout=layout, options=options)
        frame = av.AudioFrame(format="s16", layout=layout, samples=int(48000 * seconds))
        frame.sample_rate = 48000
        sound = tone(seconds, 48000)
        if layout == "stereo":
            left = array("h", sound)
            sound = array("h", (x for one in left for x in (one, one))).tobytes()
        frame.planes[0].update(sound.ljust(frame.planes[0].buffer_size, b"\0"))
        for packet in stream.encode(frame):
            container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    return file.getvalue()


def packets_of(file: bytes) -> list[bytes]:
    return [packet for packet, _ in OggPackets().feed(file)][2:]


def made(
    sound: SoundFormat, form: OpusForm, data: bytes, piece: int = 4096, pause: float = 0.12
) -> list[bytes]:
    maker = PacketMaker(sound, form, form.encoder())
    packets: list[bytes] = []
    *pieces, last = [data[at : at + piece] for at in range(0, len(data), piece)] or [b""]
    for one in pieces:
        some = maker.feed(one)
        while some:
            packets += some
            some = maker.more()
    return packets + maker.finish(last, pause)


def decoded(packets: list[bytes], rate: int = 16000) -> bytes:
    decoder = OpusDecoder(rate)
    return b"".join(map(decoder.decode, packets))


class PacketMakerTests(SynchronousTestCase):
    def test_rate_and_duration_are_the_devices(self) -> None:
        for rate in RATES:
            for duration in DURATIONS:
                form = OpusForm(rate, duration, 8, 40000, "lowdelay")
                packets = made(SoundFormat(Encoding.PCM, 22050), form, tone(0.9, 22050))
                self.assertEqual({packet_ms(packet) for packet in packets}, {float(duration)})
                pcm = decoded(packets)
                # All of it, and the pause.
                self.assertGreaterEqual(len(pcm) / 32000, 0.9 + 0.12)
                self.assertLess(len(pcm) / 32000, 0.9 + 0.12 + 0.06)
                self.assertGreater(rms(pcm[3200:25600]), 3000)

    def test_the_end_is_not_cut(self) -> None:
        """The last tenth of a second of a tone is complete (§9: last words cut)."""
        form = OpusForm(24000, 60, 8, 40000, "lowdelay")
        pcm = decoded(made(SoundFormat(Encoding.PCM, 24000), form, tone(1.0, 24000)))
        self.assertGreater(rms(pcm[int(0.95 * 32000) : int(0.995 * 32000)]), 3000)

    def test_right_packets_pass_untouched(self) -> None:
        for duration in DURATIONS:
            file = ogg(duration)
            form = OpusForm(24000, duration, 8, 40000, "lowdelay")
            packets = made(SoundFormat(Encoding.OGG_OPUS), form, file)
            whole = packets_of(file)
            self.assertEqual(packets[: len(whole)], whole)
            pause = packets[len(whole) :]
            self.assertGreaterEqual(sum(map(packet_ms, pause)), 120)
            self.assertLess(rms(decoded(pause)), 10)

    def test_others_are_encoded_anew(self) -> None:
        for file in (ogg(20), ogg(60, layout="stereo")):
            packets = made(
                SoundFormat(Encoding.OGG_OPUS), OpusForm(24000, 60, 8, 40000, "lowdelay"), file
            )
            self.assertEqual({packet_ms(packet) for packet in packets}, {60.0})
            pcm = decoded(packets)
            self.assertGreaterEqual(len(pcm) / 32000, 1.2)
            self.assertGreater(rms(pcm[6400:32000]), 3000)

    @given(st.integers(1, 3000), st.sampled_from([20, 60]))
    def test_pieces_do_not_matter(self, piece: int, duration: int) -> None:
        form = OpusForm(24000, 60, 8, 40000, "lowdelay")
        file = ogg(duration, 0.5)
        whole = made(SoundFormat(Encoding.OGG_OPUS), form, file, len(file))
        self.assertEqual(made(SoundFormat(Encoding.OGG_OPUS), form, file, piece), whole)

    def test_no_ogg(self) -> None:
        form = OpusForm(24000, 60, 8, 40000, "lowdelay")
        self.assertRaises(
            ProviderError, made, SoundFormat(Encoding.OGG_OPUS), form, b"<html>no</html>" * 9
        )

    def test_longer_packets_among_right_ones(self) -> None:
        """They would fail to decode on the device, without a trace."""
        form = OpusForm(24000, 20, 8, 40000, "lowdelay")
        maker = PacketMaker(SoundFormat(Encoding.OGG_OPUS), form, form.encoder())
        first = ogg(20, 0.2)
        self.assertTrue(maker.feed(first))
        # The same stream continues with other packets.
        file = ogg(60, 0.5)
        serial = first[14:18]
        pages = file.split(b"OggS")[3:]
        later = b"".join(b"OggS" + page[:10] + serial + page[14:] for page in pages)
        self.assertRaises(ProviderError, maker.feed, later)

    def test_much_at_once_comes_in_slices(self) -> None:
        """One call must not occupy a thread for long."""
        form = OpusForm(24000, 60, 8, 40000, "lowdelay")
        maker = PacketMaker(SoundFormat(Encoding.PCM, 24000), form, form.encoder())
        self.assertEqual(len(maker.feed(tone(3.0, 24000))), 4)
        slices = 1
        while maker.more():
            slices += 1
        self.assertGreaterEqual(slices, 12)
