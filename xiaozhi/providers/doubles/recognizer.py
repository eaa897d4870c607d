"""Double of a recogniser: hears scripted texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar

import msgspec
from twisted.internet.defer import CancelledError, Deferred, fail
from zope.interface import implementer

from xiaozhi.base.values import Transcript
from xiaozhi.interfaces import IProvider, IRecognition, IRecognizer
from xiaozhi.providers.doubles.base import Double, DoubleSettings, Seconds

# Recognisers receive 16 kHz, 16 bits, mono.
_BYTES_PER_MS = 32


class RecognizerSettings(DoubleSettings, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Settings of :class:`ScriptedRecognizer`.

    :ivar texts: transcripts in turn, then from the start again. ``{ms}`` stands for the
        milliseconds of sound.
    :ivar language: of the transcripts, BCP 47.
    :ivar interim: seconds of sound for each further word of an interim result; 0: no
        interim results.
    """

    texts: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = ("hello",)
    language: str = "en"
    interim: Seconds = 0.0


@implementer(IRecognizer, IProvider)
class ScriptedRecognizer(Double):
    """Recognises the next text in any sound."""

    Settings: ClassVar[type[msgspec.Struct]] = RecognizerSettings
    _next = 0

    def recognition(self, interim: Callable[[str], None] | None = None) -> IRecognition:
        """See :class:`IRecognizer`."""
        return _ScriptedRecognition(self, interim)

    def so_far(self, heard_bytes: int) -> str:
        """Return the interim result after so much sound."""
        if not self._settings.interim:
            return ""
        words = self._text(heard_bytes).split()
        return " ".join(words[: int(heard_bytes / _BYTES_PER_MS / 1000 / self._settings.interim)])

    async def hear(self, heard_bytes: int) -> Transcript:
        """Return the next transcript; an empty one without sound."""
        await self._begin(self._text(heard_bytes))
        if not heard_bytes:
            return Transcript("", self._settings.language)
        text = self._text(heard_bytes)
        self._next += 1
        return Transcript(text, self._settings.language)

    def _text(self, heard_bytes: int) -> str:
        texts: tuple[str, ...] = self._settings.texts
        text = texts[self._next % len(texts)]
        return text.replace("{ms}", str(heard_bytes // _BYTES_PER_MS))


@implementer(IRecognition)
class _ScriptedRecognition:
    def __init__(
        self, recognizer: ScriptedRecognizer, interim: Callable[[str], None] | None
    ) -> None:
        self._recognizer = recognizer
        self._interim = interim
        self._told = ""
        self._bytes = 0
        self._cancelled = False
        self._result: Deferred[Transcript] | None = None

    def feed(self, pcm: bytes) -> None:
        self._bytes += len(pcm)
        text = self._recognizer.so_far(self._bytes)
        if self._interim is not None and text != self._told:
            self._told = text
            self._interim(text)

    def finish(self) -> Deferred[Transcript]:
        self._interim = None
        if self._cancelled:
            return fail(CancelledError())
        self._result = Deferred.fromCoroutine(self._recognizer.hear(self._bytes))
        return self._result

    def cancel(self) -> None:
        self._interim = None
        self._cancelled = True
        if self._result is not None:
            self._result.cancel()
