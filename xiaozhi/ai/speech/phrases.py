"""What the server says by itself, spoken once and kept.

So a greeting costs nothing, and an apology can be heard while the synthesiser is down.
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

    What a substitute has spoken, while the preferred synthesiser was away, is kept apart:
    it is for when nobody can speak.

    :param voice: names the voice and its settings: with another one everything is
        spoken anew.
    :param speaker: the preferred provider's name; empty: there are no substitutes.
    :param shipped: finds the packets of a phrase that came with the program; None: there
        are none.
    """

    _log = Logger()

    def __init__(
        self,
        files: IFileStore,
        voice: str,
        speaker: str = "",
        shipped: Callable[[Phrase], Awaitable[tuple[bytes, ...] | None]] | None = None,
    ) -> None:
        self._shipped = shipped
        self._files = files
        self._voice = voice
        self._speaker = speaker
        self._known: OrderedDict[str, tuple[bytes, ...]] = OrderedDict()
        self._failing = False

    async def find(self, phrase: Phrase, *, substitute: bool = False) -> tuple[bytes, ...] | None:
        """Its packets, if it has been spoken before.

        :param substitute: by a substitute.
        """
        key = self._key(phrase, substitute)
        packets = self._known.get(key)
        if packets is None:
            packets = await self._read(key)
            if packets is not None:
                self._remember(key, packets)
        else:
            self._known.move_to_end(key)
        return packets

    async def any(self, phrase: Phrase) -> tuple[bytes, ...] | None:
        """Its packets in whatever voice there is: the preferred one's, a substitute's, or
        the one that came with the program."""
        packets = await self.find(phrase) or await self.find(phrase, substitute=True)
        if packets is None and self._shipped is not None:
            key = f"shipped {self._key(phrase, True)}"
            packets = self._known.get(key)
            if packets is None and (packets := await self._shipped(phrase)) is not None:
                self._remember(key, packets)
        return packets

    async def keep(self, phrase: Phrase, packets: Sequence[bytes], speaker: str = "") -> None:
        """It has been spoken.

        :param speaker: the provider that did; empty: the preferred one.
        """
        key = self._key(phrase, bool(speaker and self._speaker) and speaker != self._speaker)
        self._remember(key, tuple(packets))
        try:
            await self._files.put(AREA, key, msgspec.msgpack.encode(list(packets)))
        except StoreError as error:
            self._failed(error)

    async def _read(self, key: str) -> tuple[bytes, ...] | None:
        try:
            data = await self._files.get(AREA, key)
            return None if data is None else msgspec.msgpack.decode(data, type=tuple[bytes, ...])
        except StoreError as error:
            self._failed(error)
        except msgspec.DecodeError:
            # A damaged file is spoken anew, and replaced.
            pass
        return None

    def _remember(self, key: str, packets: tuple[bytes, ...]) -> None:
        self._known[key] = packets
        if len(self._known) > _IN_MEMORY:
            self._known.popitem(last=False)

    def _failed(self, error: StoreError) -> None:
        if not self._failing:
            self._failing = True
            self._log.warn("phrases are not kept in files: {error}", error=error)

    def _key(self, phrase: Phrase, substitute: bool) -> str:
        told = (self._voice, phrase.language, phrase.words, astuple(phrase.form), substitute)
        return msgspec.json.encode(told).decode()
