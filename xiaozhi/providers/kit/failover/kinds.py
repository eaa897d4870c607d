"""Failover over language models, synthesisers and vision models."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from twisted.internet.defer import Deferred
from zope.interface import implementer

from xiaozhi.base.errors import ProviderError
from xiaozhi.base.values import Delta, Picture, SoundFormat, ToolSpec, Utterance
from xiaozhi.interfaces import ILanguageModel, IPreparable, ISynthesizer, IVisionModel
from xiaozhi.providers.kit.failover.group import FailoverGroup

Sound = bytes | SoundFormat


@implementer(IPreparable)
class Failover:
    """Methods common to all kinds."""

    def __init__(self, group: FailoverGroup) -> None:
        self.group = group

    def prepare(self) -> None:
        """See :class:`~xiaozhi.interfaces.IPreparable`."""
        self.group.prepare()

    def close(self) -> Deferred[None]:
        """See :class:`~xiaozhi.interfaces.IProvider`."""
        return self.group.close()


@implementer(ILanguageModel)
class FailoverModel(Failover):
    """Language model over a failover group: it can switch providers until the first delta."""

    async def reply(
        self, dialogue: Sequence[Utterance], tools: Sequence[ToolSpec]
    ) -> AsyncGenerator[Delta, None]:
        """See :class:`~xiaozhi.interfaces.ILanguageModel`."""
        replies = self.group.streamed(lambda each: each.provider.reply(dialogue, tools))
        async with aclosing(replies) as stream:
            async for _, delta in stream:
                yield delta


@implementer(ISynthesizer)
class FailoverSynthesizer(Failover):
    """Synthesiser over a failover group: it can switch providers until a sentence's first sound.

    :ivar sound: format of the preferred one.
    """

    def __init__(self, group: FailoverGroup) -> None:
        super().__init__(group)
        self.sound: SoundFormat = group.candidates[0].provider.sound

    async def synthesize(self, text: str, language: str) -> AsyncGenerator[Sound, None]:
        """See :class:`~xiaozhi.interfaces.ISynthesizer`."""
        spoken = self.group.streamed(
            lambda each: _heard(text, each.provider.synthesize(text, language))
        )
        first = True
        async with aclosing(spoken) as stream:
            async for candidate, piece in stream:
                if first and candidate.provider.sound != self.sound:
                    yield candidate.provider.sound
                first = False
                yield piece


async def _heard(text: str, sound: AsyncGenerator[Sound, None]) -> AsyncGenerator[Sound, None]:
    """Pass sound on.

    :raises ProviderError: there is no sound although the text has words.
    """
    silent = any(char.isalnum() for char in text)
    async with aclosing(sound) as pieces:
        async for piece in pieces:
            if piece:
                silent = False
                yield piece
    if silent:
        raise ProviderError("no_sound", "no sound for a sentence", retryable=True)


@implementer(IVisionModel)
class FailoverVision(Failover):
    """Vision model over a failover group."""

    def describe(self, picture: Picture, question: str) -> Deferred[str]:
        """See :class:`~xiaozhi.interfaces.IVisionModel`."""
        return Deferred.fromCoroutine(
            self.group.answered(lambda each: each.provider.describe(picture, question))
        )
