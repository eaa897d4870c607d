"""Generates the phrases that ship with the program: ``make phrases``."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import av
from twisted.internet.task import react

import xiaozhi.ai.speech
from xiaozhi.ai.speech.shipped import KEYS, digest_of, file_of
from xiaozhi.audio import resample
from xiaozhi.device.sound.voice import Voice, thread_offload
from xiaozhi.languages.texts import CATALOGUES, text

_RATE = 24000
_BITRATE = 16000


def encode(pcm: bytes) -> bytes:
    """Encode a phrase.

    :param pcm: s16le mono at 24 kHz.
    :return: Ogg/Opus in packets of 60 ms, the usual frame duration of devices.
    """
    out = io.BytesIO()
    with av.open(out, "w", format="ogg") as container:
        options = {"frame_duration": "60", "application": "voip", "vbr": "on"}
        stream: Any = container.add_stream("libopus", rate=_RATE, options=options)
        stream.bit_rate = _BITRATE
        stream.layout = "mono"
        frame = av.AudioFrame(format="s16", layout="mono", samples=len(pcm) // 2)
        frame.sample_rate = _RATE
        frame.planes[0].update(pcm)
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return out.getvalue()


async def make(reactor: Any) -> None:
    """Write all phrases into the source tree."""
    directory = Path(xiaozhi.ai.speech.__file__).parent / "shipped"
    directory.mkdir(exist_ok=True)
    voice = Voice(reactor, thread_offload(reactor))
    index = {}
    for language in CATALOGUES:
        for key in KEYS:
            words, name = text(key, language), file_of(key, language)
            pcm = await voice.of_text(words, language)
            (directory / name).write_bytes(encode(resample(pcm, 16000, _RATE)))
            index[name] = digest_of(words)
    (directory / "index.json").write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")
    await voice.close()


if __name__ == "__main__":
    from twisted.internet.defer import Deferred

    react(lambda reactor: Deferred.fromCoroutine(make(reactor)))
