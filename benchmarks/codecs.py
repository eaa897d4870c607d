"""The floor of the AI service's work with sound: the bare codec.

PyAV decodes packets of devices and resamples them to 16 kHz, and encodes answers with
the service's settings. There is one stream per device, and each gets a packet in turn.
The answers are the same tones as the service's, because libopus needs half as much CPU
again for some sounds as for others. (Synthesised English costs as much as these tones.)

``python -m benchmarks.codecs`` has the commands ``decode`` and ``encode``; both return
the CPU seconds per second of sound.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from av import AudioFrame, AudioResampler, CodecContext, Packet
from twisted.internet.defer import Deferred

from benchmarks.commands import obey
from benchmarks.frames import FRAME_SECONDS
from benchmarks.near_side import packets
from benchmarks.voice import quiet, voice
from xiaozhi.agents.settings import SpeechSettings
from xiaozhi.ai.speech.sentences import SentenceSplitter
from xiaozhi.providers.doubles.synthesizer import ToneSettings, ToneSynthesizer

T = TypeVar("T")

_UP, _NATIVE, _DOWN = 16000, 48000, 24000


def _codec(mode: str, rate: int) -> Any:
    codec: Any = CodecContext.create("libopus", mode)  # type: ignore[call-overload]
    codec.sample_rate, codec.layout, codec.format = rate, "mono", "s16"
    return codec


def _decoder() -> Callable[[bytes], object]:
    codec, resampler = _codec("r", _NATIVE), AudioResampler("s16", "mono", _UP)

    def decode(packet: bytes) -> object:
        return [resampler.resample(frame) for frame in codec.decode(Packet(packet))]

    return decode


def _encoder(settings: SpeechSettings) -> Callable[[AudioFrame], object]:
    codec = _codec("w", _DOWN)
    codec.bit_rate = settings.bitrate
    codec.options = {
        "application": settings.application,
        "frame_duration": str(round(FRAME_SECONDS * 1000)),
        "compression_level": str(settings.complexity),
    }
    codec.open()
    encode: Callable[[AudioFrame], object] = codec.encode
    return encode


def _frames(pcm: bytes) -> list[AudioFrame]:
    size = round(_DOWN * FRAME_SECONDS) * 2
    frames = []
    for at in range(0, len(pcm) - size + 1, size):
        frame = AudioFrame(format="s16", layout="mono", samples=size // 2)
        frame.sample_rate = _DOWN
        frame.planes[0].update(pcm[at : at + size].ljust(frame.planes[0].buffer_size, b"\0"))
        frames.append(frame)
    return frames


def _cost(codecs: Sequence[Callable[[T], object]], sound: Sequence[T]) -> float:
    began = time.process_time()
    for piece in sound:
        for codec in codecs:
            codec(piece)
    return (time.process_time() - began) / (len(sound) * len(codecs) * FRAME_SECONDS)


def decode(streams: int, seconds: float) -> float:
    """Return the CPU seconds per second of a device's speech."""
    sound = [one.payload for one in packets(voice(seconds, _UP))]
    return _cost([_decoder() for _ in range(streams)], sound)


def encode(streams: int, words: str, speech: dict[str, Any]) -> Deferred[float]:
    """Return the CPU seconds per second of an answer.

    :param speech: the service's settings that differ from the defaults.
    """
    settings = SpeechSettings(**speech)

    async def cost() -> float:
        sound = _frames(await _spoken(words, settings.pause))
        return _cost([_encoder(settings) for _ in range(streams)], sound)

    return Deferred.fromCoroutine(cost())


async def _spoken(words: str, seconds: float) -> bytes:
    """Synthesise an answer with the double, with a pause after each sentence."""
    tone = ToneSynthesizer(ToneSettings(sample_rate=_DOWN), None)
    # Not digital silence, which takes libopus three times as long.
    pause = quiet(seconds, _DOWN)
    splitter = SentenceSplitter()
    said = [
        b"".join([piece async for piece in tone.synthesize(sentence, "en")]) + pause
        for sentence in splitter.feed(words) + splitter.flush()
    ]
    return b"".join(said)


def main() -> None:
    from twisted.internet import reactor

    obey(reactor, {"decode": decode, "encode": encode})


if __name__ == "__main__":
    main()
