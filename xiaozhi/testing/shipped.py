"""Generates the phrases that ship with the program: ``make phrases``."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
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


def missing(directory: Path, index: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Find the phrases without a file for their present words.

    :param index: the digest of the words of each file.
    :return: words and language of each file that must be written.
    """
    found = {}
    for language in CATALOGUES:
        for key in KEYS:
            words, name = text(key, language), file_of(key, language)
            if index.get(name) != digest_of(words) or not (directory / name).exists():
                found[name] = words, language
    return found


async def make(reactor: Any) -> None:
    """Write the missing phrases into the source tree; to record one anew, delete its file."""
    directory = Path(xiaozhi.ai.speech.__file__).parent / "shipped"
    listing = directory / "index.json"
    index = json.loads(listing.read_text()) if listing.exists() else {}
    voice = Voice(reactor, thread_offload(reactor))
    for name, (words, language) in missing(directory, index).items():
        pcm = await voice.of_text(words, language)
        (directory / name).write_bytes(encode(resample(pcm, 16000, _RATE)))
        index[name] = digest_of(words)
    listing.write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")
    await voice.close()


if __name__ == "__main__":
    from twisted.internet.defer import Deferred

    react(lambda reactor: Deferred.fromCoroutine(make(reactor)))
