"""What the server says by itself, spoken once and kept.

So a greeting costs nothing, and an apology can be heard while the synthesiser is down.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from twisted.logger import Logger

from xiaozhi.audio import OpusForm
from xiaozhi.errors import StoreError
from xiaozhi.interfaces import IFileStore

#: The area of the file store.
AREA = "phrases"

# Phrases in memory; a phrase is some 10 kB.
_IN_MEMORY = 256


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words in one language, in the form one device wants.

    :ivar language: BCP 47; empty: as the words are.
    """

    words: str
    language: str
    form: OpusForm


class Phrases:
    """Phrases as packets, in memory and in files.

    Bound: the last 256 in memory; the file store has bounds of its own. A store that
    cannot be read or written costs a synthesis, nothing else.

    :param voice: names the voice and its settings: with another one everything is
        spoken anew.
    """

    _log = Logger()

    def __init__(self, files: IFileStore, voice: str) -> None:
        self._files = files
        self._voice = voice
        self._known: OrderedDict[Phrase, tuple[bytes, ...]] = OrderedDict()
        self._failing = False

    async def find(self, phrase: Phrase) -> tuple[bytes, ...] | None:
        """Its packets, if it has been spoken before."""
        packets = self._known.get(phrase)
        if packets is None:
            packets = await self._read(phrase)
            if packets is not None:
                self._remember(phrase, packets)
        else:
            self._known.move_to_end(phrase)
        return packets

    async def keep(self, phrase: Phrase, packets: Sequence[bytes]) -> None:
        """It has been spoken."""
        self._remember(phrase, tuple(packets))
        try:
            await self._files.put(AREA, self._key(phrase), msgspec.msgpack.encode(list(packets)))
        except StoreError as error:
            self._failed(error)

    async def _read(self, phrase: Phrase) -> tuple[bytes, ...] | None:
        try:
            data = await self._files.get(AREA, self._key(phrase))
            return None if data is None else msgspec.msgpack.decode(data, type=tuple[bytes, ...])
        except StoreError as error:
            self._failed(error)
        except msgspec.DecodeError:
            # A damaged file is spoken anew, and replaced.
            pass
        return None

    def _remember(self, phrase: Phrase, packets: tuple[bytes, ...]) -> None:
        self._known[phrase] = packets
        if len(self._known) > _IN_MEMORY:
            self._known.popitem(last=False)

    def _failed(self, error: StoreError) -> None:
        if not self._failing:
            self._failing = True
            self._log.warn("phrases are not kept in files: {error}", error=error)

    def _key(self, phrase: Phrase) -> str:
        form = phrase.form
        told = (form.sample_rate, form.frame_duration, form.complexity, form.bitrate)
        return msgspec.json.encode((self._voice, phrase.language, phrase.words, told)).decode()
