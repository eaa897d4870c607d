"""Phrases whose sound comes with the program, for when no synthesiser has ever spoken.

``make phrases`` has them spoken by espeak-ng and writes ``shipped/``: a file of Ogg/Opus
for each text, and ``index.json``, which says for which words a file was made.
"""

from __future__ import annotations

import json
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Final

from xiaozhi.ai.speech.phrases import Phrase
from xiaozhi.audio import OpusForm, PacketMaker
from xiaozhi.base.values import Encoding, SoundFormat
from xiaozhi.interfaces import TimedOffload
from xiaozhi.languages.texts import CATALOGUES, text

#: Keys of the catalogue whose sound is shipped.
KEYS: Final = ("apology", "waiting")

_DIRECTORY = "shipped"
_SOUND = SoundFormat(Encoding.OGG_OPUS, 24000)

# Seconds of silence behind a phrase: what an encoder holds would be cut off.
_PAUSE = 0.12

# Seconds in which it is wanted: somebody has been waiting for long already.
_SOON = 0.0


def file_of(key: str, language: str) -> str:
    """Name of the file with a text's sound."""
    return f"{key}-{language}.ogg"


def digest_of(words: str) -> str:
    """What the index says of a text."""
    return sha256(words.encode()).hexdigest()[:16]


class Shipped:
    """Finds phrases that came with the program, and puts them into a device's form.

    :param offload: for reading and encoding.
    """

    def __init__(self, offload: TimedOffload) -> None:
        self._offload = offload

    async def find(self, phrase: Phrase) -> tuple[bytes, ...] | None:
        """:return: packets; None: there is no such phrase."""
        name = _names().get((phrase.language, phrase.words))
        if name is None:
            return None
        return await self._offload(_SOON, _packets, name, phrase.form)


def _packets(name: str, form: OpusForm) -> tuple[bytes, ...]:
    sound = files(__package__).joinpath(_DIRECTORY, name).read_bytes()
    return tuple(PacketMaker(_SOUND, form, form.encoder()).finish(sound, _PAUSE))


@cache
def _names() -> dict[tuple[str, str], str]:
    """Files by language and words: those that were made for the words of today."""
    directory = files(__package__).joinpath(_DIRECTORY)
    index = json.loads(directory.joinpath("index.json").read_text())
    found = {}
    for language in CATALOGUES:
        for key in KEYS:
            name, words = file_of(key, language), text(key, language)
            if index.get(name) == digest_of(words):
                found[language, words] = name
    return found
