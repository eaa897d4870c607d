"""Shipped phrases: sound for use before any synthesiser has spoken.

``make phrases`` synthesises them with espeak-ng and writes ``shipped/``: an Ogg/Opus file for
each text, and ``index.json`` with the digest of the text of each file.
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

#: Keys of the texts whose sound ships.
KEYS: Final = ("apology", "waiting")

_DIRECTORY = "shipped"
_SOUND = SoundFormat(Encoding.OGG_OPUS, 24000)

# Seconds of silence after a phrase; without it the encoder cuts off the end.
_PAUSE = 0.12

# Deadline in seconds: the person has already waited long.
_SOON = 0.0


def file_of(key: str, language: str) -> str:
    """Return the name of the file with a text's sound."""
    return f"{key}-{language}.ogg"


def digest_of(words: str) -> str:
    """Return the digest of a text for the index."""
    return sha256(words.encode()).hexdigest()[:16]


class Shipped:
    """Finds shipped phrases and encodes them in a device's format.

    :param offload: runs the reading and encoding in a thread.
    """

    def __init__(self, offload: TimedOffload) -> None:
        self._offload = offload

    async def find(self, phrase: Phrase) -> tuple[bytes, ...] | None:
        """Return the packets of a phrase; None if it is not shipped."""
        name = _names().get((phrase.language, phrase.words))
        if name is None:
            return None
        return await self._offload(_SOON, _packets, name, phrase.form)


def _packets(name: str, form: OpusForm) -> tuple[bytes, ...]:
    sound = files(__package__).joinpath(_DIRECTORY, name).read_bytes()
    return tuple(PacketMaker(_SOUND, form, form.encoder()).finish(sound, _PAUSE))


@cache
def _names() -> dict[tuple[str, str], str]:
    """Map language and words to files, except files of former words."""
    directory = files(__package__).joinpath(_DIRECTORY)
    index = json.loads(directory.joinpath("index.json").read_text())
    found = {}
    for language in CATALOGUES:
        for key in KEYS:
            name, words = file_of(key, language), text(key, language)
            if index.get(name) == digest_of(words):
                found[language, words] = name
    return found
