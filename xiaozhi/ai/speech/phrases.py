"""Phrases that the service says by itself, synthesised once and cached.

A greeting then costs no synthesis, and an apology is audible while the synthesiser is down.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import astuple, dataclass

import msgspec
from twisted.logger import Logger

from xiaozhi.audio import OpusForm
from xiaozhi.base.errors import StoreError
from xiaozhi.interfaces import IFileStore

#: The area of the file store.
AREA = "phrases"

# Phrases in memory, of about 10 kB each.
_IN_MEMORY = 256


@dataclass(frozen=True, slots=True)
class Phrase:
    """A text in one language and one audio format.

    :ivar language: BCP 47; empty: detect it from the words.
    """

    words: str
    language: str
    form: OpusForm


class PhraseStore:
    """Packets of phrases in memory and in files, shared by all voices of the process.

    Bound: the last 256 in memory; the file store has its own bounds. If the file store fails,
    phrases are synthesised again.
    """

    _log = Logger()

    def __init__(self, files: IFileStore) -> None:
        self._files = files
        self._known: OrderedDict[str, tuple[bytes, ...]] = OrderedDict()
        self._failing = False

    def known(self, key: str) -> tuple[bytes, ...] | None:
        """Return packets from memory; None if they are not there."""
        if (packets := self._known.get(key)) is not None:
            self._known.move_to_end(key)
        return packets

    def remember(self, key: str, packets: tuple[bytes, ...]) -> None:
        """Keep packets in memory only."""
        self._known[key] = packets
        self._known.move_to_end(key)
        if len(self._known) > _IN_MEMORY:
            self._known.popitem(last=False)

    async def read(self, key: str) -> tuple[bytes, ...] | None:
        """Return packets from memory or a file; None if neither has them."""
        packets = self.known(key)
        if packets is None and (packets := await self._read_file(key)) is not None:
            self.remember(key, packets)
        return packets

    async def write(self, key: str, packets: tuple[bytes, ...]) -> None:
        """Keep packets in memory and in a file."""
        self.remember(key, packets)
        try:
            await self._files.put(AREA, key, msgspec.msgpack.encode(list(packets)))
        except StoreError as error:
            self._failed(error)

    async def _read_file(self, key: str) -> tuple[bytes, ...] | None:
        try:
            data = await self._files.get(AREA, key)
            return None if data is None else msgspec.msgpack.decode(data, type=tuple[bytes, ...])
        except StoreError as error:
            self._failed(error)
        except msgspec.DecodeError:
            # The phrase is synthesised again, which replaces the damaged file.
            pass
        return None

    def _failed(self, error: StoreError) -> None:
        if not self._failing:
            self._failing = True
            self._log.warn(
                "phrases are not cached in files, a restart synthesises them again: {error}",
                error=error,
            )


class Phrases:
    """The phrases of one voice.

    Phrases by a substitute, from a time when the preferred synthesiser failed, are kept apart
    and used only while no synthesiser works.

    :param voice: identifies the voice and its settings; another voice has other phrases.
    :param speaker: the preferred provider's name; empty: there are no substitutes.
    :param shipped: finds the packets of a phrase that ships with the program; None: none
        ship.
    """

    def __init__(
        self,
        store: PhraseStore,
        voice: str,
        speaker: str = "",
        shipped: Callable[[Phrase], Awaitable[tuple[bytes, ...] | None]] | None = None,
    ) -> None:
        self._store = store
        self._voice = voice
        self._speaker = speaker
        self._shipped = shipped

    async def find(self, phrase: Phrase, *, substitute: bool = False) -> tuple[bytes, ...] | None:
        """Return the packets of a phrase; None if it is not cached.

        :param substitute: look for a substitute's.
        """
        return await self._store.read(self._key(phrase, substitute))

    async def any(self, phrase: Phrase) -> tuple[bytes, ...] | None:
        """Return the packets of a phrase in the preferred voice, else a substitute's, else the
        shipped one; None if there are none."""
        packets = await self.find(phrase) or await self.find(phrase, substitute=True)
        if packets is None and self._shipped is not None:
            key = f"shipped {self._key(phrase, True)}"
            packets = self._store.known(key)
            if packets is None and (packets := await self._shipped(phrase)) is not None:
                self._store.remember(key, packets)
        return packets

    async def keep(self, phrase: Phrase, packets: Sequence[bytes], speaker: str = "") -> None:
        """Cache a phrase.

        :param speaker: the provider that synthesised it; empty: the preferred one.
        """
        substitute = bool(speaker and self._speaker) and speaker != self._speaker
        await self._store.write(self._key(phrase, substitute), tuple(packets))

    def _key(self, phrase: Phrase, substitute: bool) -> str:
        parts = (self._voice, phrase.language, phrase.words, astuple(phrase.form), substitute)
        return msgspec.json.encode(parts).decode()
