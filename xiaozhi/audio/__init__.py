"""Audio: Opus packets, streaming decoders for every format that providers send, and WAV files.

Everything here is pure and synchronous and independent of Twisted. PCM is s16le mono unless stated
otherwise. An object handles one stream of sound and is used by one thread at a time; different
objects may be used in different threads.
"""

from xiaozhi.audio.opus import OpusDecoder, OpusEncoder
from xiaozhi.audio.packets import SLICE_SECONDS, OpusForm, PacketMaker, size_of
from xiaozhi.audio.pcm import Resampler, louder, resample, rms
from xiaozhi.audio.reader import SoundReader
from xiaozhi.audio.wav import read_wav, write_wav

__all__ = [
    "SLICE_SECONDS",
    "OpusDecoder",
    "OpusEncoder",
    "OpusForm",
    "PacketMaker",
    "Resampler",
    "SoundReader",
    "louder",
    "read_wav",
    "resample",
    "rms",
    "size_of",
    "write_wav",
]
