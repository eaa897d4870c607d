"""Seam of synthesisers that accept text while a model writes it."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from zope.interface import Attribute, Interface

from xiaozhi.base.values import SentenceMark, SoundFormat
from xiaozhi.interfaces.providers import IProvider


class IIncrementalSynthesizer(IProvider):
    """TTS of vendors that accept the model's text incrementally."""

    sound = Attribute(
        "The :class:`~xiaozhi.base.values.SoundFormat` of the sound, unless a stream says another."
    )

    def speech(language: str) -> ISpeechStream:
        """Begin the speech of one answer.

        :param language: BCP 47; empty: detect it from the text.
        """


class ISpeechStream(Interface):
    """The speech of one answer: text in, sound out, both in pieces."""

    def feed(text: str) -> None:
        """Add text, cut anywhere. Never blocks; ignored after :meth:`finish` and
        :meth:`cancel`.

        :raises ProviderError: ``too_long``: the vendor accepts no more text; text fed before
            is still spoken.
        """

    def finish() -> None:
        """End the text; the sound ends after its last word. Idempotent."""

    def cancel() -> None:
        """Discard the rest of the text and end the vendor's request. Idempotent, also
        after :meth:`finish`; the sound ends without an error."""

    def pieces() -> AsyncGenerator[bytes | SoundFormat | SentenceMark, None]:
        """Iterate over the sound once, while text is still fed.

        A :class:`~xiaozhi.base.values.SoundFormat` may precede the first piece. A
        :class:`~xiaozhi.base.values.SentenceMark` contains the text of the following pieces;
        some vendors send none. Closing the generator is :meth:`cancel`.

        :raises ProviderError: while iterating.
        """
