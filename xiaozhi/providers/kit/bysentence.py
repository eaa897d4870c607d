"""Use of an incremental synthesiser one sentence at a time."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import alsoProvides, implementer

from xiaozhi.base.values import SentenceMark, SoundFormat
from xiaozhi.interfaces import IIncrementalSynthesizer, IOfModel, IPreparable, ISynthesizer


def as_synthesizer(provider: Any) -> Any:
    """Return the provider, or a synthesiser around one that is only incremental."""
    if ISynthesizer.providedBy(provider) or not IIncrementalSynthesizer.providedBy(provider):
        return provider
    return BySentence(provider)


@implementer(ISynthesizer)
class BySentence:
    """Opens a stream for each sentence, so that failover, read-ahead and kept phrases work
    with vendors that only take text incrementally.

    :ivar sound: the vendor's.
    """

    def __init__(self, provider: Any) -> None:
        self._provider = provider
        self.sound: SoundFormat = provider.sound
        if IOfModel.providedBy(provider):
            self.model: str = provider.model
            alsoProvides(self, IOfModel)
        if IPreparable.providedBy(provider):
            alsoProvides(self, IPreparable)

    async def synthesize(
        self, text: str, language: str
    ) -> AsyncGenerator[bytes | SoundFormat, None]:
        """See :class:`~xiaozhi.interfaces.ISynthesizer`."""
        stream = self._provider.speech(language)
        stream.feed(text)
        stream.finish()
        async with aclosing(stream.pieces()) as pieces:
            async for piece in pieces:
                if not isinstance(piece, SentenceMark):
                    yield piece

    def prepare(self) -> None:
        """See :class:`~xiaozhi.interfaces.IPreparable`."""
        self._provider.prepare()

    def close(self) -> Deferred[None]:
        """See :class:`~xiaozhi.interfaces.IProvider`."""
        closed: Deferred[None] = self._provider.close()
        return closed
