"""Transcription and speech with any vendor that speaks the OpenAI dialect."""

from __future__ import annotations

import re
import secrets
import struct
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, Self

import msgspec
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.logger import Logger
from twisted.web.iweb import IAgent
from zope.interface import implementer

from xiaozhi.audio.sniff import SoundKind, sniff
from xiaozhi.base.errors import ProviderError
from xiaozhi.base.values import Encoding, SoundFormat, Transcript
from xiaozhi.interfaces import IOfModel, IRecognition, IRecognizer, ISynthesizer, ProviderRuntime
from xiaozhi.providers.kit.errors import error_text
from xiaozhi.providers.kit.http.answer import VendorAnswer
from xiaozhi.providers.kit.http.client import VendorClient
from xiaozhi.providers.kit.json import decode_json
from xiaozhi.providers.kit.transcripts import language_tag
from xiaozhi.providers.openai.settings import VendorSettings

_RATE = 16000
_BYTES_PER_SECOND = 2 * _RATE
_TEXT_LIMIT = 1 << 20
_PLAIN = re.compile(r"audio/(?:x-)?(?:pcm|l16|raw|wave?|s16le)|application/octet-stream")
# Matches pages and JSON, but not a recogniser's tags: <|zh|>, [BLANK_AUDIO].
_NO_WORDS = re.compile(r"<[!?/a-z]|\{\s*[\"}]|\[\s*[\[{\"\]\d]", re.IGNORECASE)
# An error as the first event of a stream.
_EVENT = re.compile(rb"(?:(?:event|id|retry|:)[^\r\n]*[\r\n]+){0,4}data:[ \t]*([^\r\n]*)")


class TranscriptionSettings(VendorSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of transcription.

    :ivar language: BCP 47 hint for the vendor; empty: it detects the language.
    :ivar prompt: words that are likely to be said.
    :ivar max_seconds: sound kept of one utterance; the rest is dropped.
    """

    model: Annotated[str, msgspec.Meta(min_length=1)] = "whisper-1"
    language: str = ""
    prompt: str = ""
    temperature: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    max_seconds: Annotated[float, msgspec.Meta(ge=1, le=300)] = 60.0


@implementer(IRecognizer, IOfModel)
class OpenAITranscription:
    """``POST /audio/transcriptions`` with the whole utterance as WAV."""

    Settings: ClassVar[type[msgspec.Struct]] = TranscriptionSettings

    def __init__(
        self, settings: TranscriptionSettings, reactor: Any, agent: IAgent | None = None
    ) -> None:
        self.model = settings.model
        self.settings = settings
        self.client = VendorClient(settings, reactor, agent)

    @classmethod
    def make(cls, settings: TranscriptionSettings, runtime: ProviderRuntime) -> Self:
        """Make the recogniser; it connects at the first utterance."""
        return cls(settings, runtime.reactor)

    def recognition(self, interim: Callable[[str], None] | None = None) -> IRecognition:
        """See :class:`~xiaozhi.interfaces.IRecognizer`; it recognises whole utterances only."""
        return _Recognition(self)

    def close(self) -> Deferred[None]:
        """Fail running transcriptions and close connections."""
        return self.client.close()


@implementer(IRecognition)
class _Recognition:
    """Collects sound; beyond ``max_seconds`` the rest is dropped, which is logged once."""

    _log = Logger()

    def __init__(self, owner: OpenAITranscription) -> None:
        self._owner = owner
        self._pcm = bytearray()
        self._room = int(owner.settings.max_seconds * _RATE) * 2
        self._cut = False
        self._cancelled = False
        self._running: Deferred[Transcript] | None = None

    def feed(self, pcm: bytes) -> None:
        if self._cancelled or self._running is not None:
            return
        room = self._room - len(self._pcm)
        self._pcm += pcm[:room]
        if len(pcm) > room and not self._cut:
            self._cut = True
            self._log.warn("utterance cut at {seconds} s", seconds=self._owner.settings.max_seconds)

    def finish(self) -> Deferred[Transcript]:
        if self._cancelled:
            return fail(CancelledError())
        if len(self._pcm) < 2:
            return succeed(Transcript(""))
        pcm = bytes(self._pcm)
        self._pcm.clear()
        self._running = Deferred.fromCoroutine(self._transcribe(pcm))
        return self._running

    def cancel(self) -> None:
        self._cancelled = True
        self._pcm.clear()
        if self._running is not None:
            self._running.cancel()

    async def _transcribe(self, pcm: bytes) -> Transcript:
        settings = self._owner.settings
        fields = settings.merged(
            {
                "model": settings.model,
                "response_format": "json",
                "language": settings.language.split("-")[0] or None,
                "prompt": settings.prompt or None,
                "temperature": settings.temperature,
            }
        )
        body, media_type = multipart(fields, wav(pcm))
        answer = await self._owner.client.post("/audio/transcriptions", body, media_type)
        data = await answer.read(_TEXT_LIMIT)
        if fields.get("response_format") == "text":
            return Transcript(self._plain(data), settings.language)
        try:
            value = decode_json(data)
        except ValueError:
            raise self._bad(data) from None
        if not isinstance(value, dict) or not isinstance(value.get("text"), str):
            raise self._bad(data)
        if not value["text"].strip():
            # As in any object, a message alone is not an error; it may say that nothing was spoken.
            error = self._owner.client.reported({"object": "transcription"} | value)
            if error is not None:
                raise error
        named = language_tag(str(value.get("language") or ""))
        return Transcript(value["text"].strip(), settings.language or named)

    def _plain(self, data: bytes) -> str:
        """Return the text of an answer that is not JSON.

        :raises ProviderError: ``bad_answer``: a page, JSON, or not text at all.
        """
        try:
            text = data.decode("utf-8-sig").strip()
        except UnicodeDecodeError:
            raise self._bad(data) from None
        if _NO_WORDS.match(text) or any(ord(char) < 32 and char not in "\t\n\r" for char in text):
            raise self._bad(data)
        return text

    def _bad(self, data: bytes) -> ProviderError:
        """Make the error that an answer reports, or a generic one without what a person may have
        said: it quotes the error text of JSON and pages, and nothing of other answers.
        """
        client, value, told = self._owner.client, _decoded(data), "not a JSON object"
        if (error := client.reported(value)) is not None:
            return error
        if data.lstrip()[:1] == b"<" or isinstance(value, dict):
            told = client.shorten(error_text(data))
        return ProviderError("bad_answer", f"no text in the answer: {told}", retryable=True)


def _decoded(data: bytes) -> Any:
    """Return the JSON of an answer, or of its first event with data; None: it has no JSON."""
    data = data.removeprefix(b"\xef\xbb\xbf").strip()
    if (event := _EVENT.match(data)) is not None:
        data = event[1]
    try:
        return decode_json(data)
    except ValueError:
        return None


_Format = Literal["pcm", "wav", "mp3", "opus"]
_ENCODINGS: dict[str, Encoding] = {
    "pcm": Encoding.PCM,
    "wav": Encoding.WAV,
    "mp3": Encoding.MP3,
    "opus": Encoding.OGG_OPUS,
}


class OpenAISpeechSettings(VendorSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of speech synthesis.

    :ivar sample_rate: Hz of the vendor's PCM; other formats declare theirs.
    """

    model: Annotated[str, msgspec.Meta(min_length=1)] = "gpt-4o-mini-tts"
    voice: str = "alloy"
    response_format: _Format = "pcm"
    sample_rate: Annotated[int, msgspec.Meta(ge=8000, le=48000)] = 24000
    speed: Annotated[float, msgspec.Meta(ge=0.25, le=4)] | None = None


@implementer(ISynthesizer, IOfModel)
class OpenAISpeech:
    """``POST /audio/speech``, streamed as it arrives."""

    Settings: ClassVar[type[msgspec.Struct]] = OpenAISpeechSettings

    def __init__(
        self, settings: OpenAISpeechSettings, reactor: Any, agent: IAgent | None = None
    ) -> None:
        self.model = settings.model
        self._settings = settings
        self._client = VendorClient(settings, reactor, agent)
        self.sound = SoundFormat(_ENCODINGS[settings.response_format], settings.sample_rate)

    @classmethod
    def make(cls, settings: OpenAISpeechSettings, runtime: ProviderRuntime) -> Self:
        """Make the synthesiser; it connects at the first sentence."""
        return cls(settings, runtime.reactor)

    def close(self) -> Deferred[None]:
        """Fail running syntheses and close connections."""
        return self._client.close()

    async def synthesize(
        self, text: str, language: str
    ) -> AsyncGenerator[bytes | SoundFormat, None]:
        """See :class:`~xiaozhi.interfaces.ISynthesizer`. The vendor detects the language from the
        text. PCM is yielded in whole samples.
        """
        settings = self._settings
        request = settings.merged(
            {
                "model": settings.model,
                "voice": settings.voice or None,
                "input": text,
                "response_format": settings.response_format,
                "speed": settings.speed,
            }
        )
        answer = await self._client.post("/audio/speech", msgspec.json.encode(request))
        try:
            rest, kind = await self._beginning(answer)
            plain = kind is SoundKind.PCM
            if plain and (sound := _announced(answer, self.sound)) != self.sound:
                yield sound
            whole = 2 if plain else 1
            while rest:
                end = len(rest) - len(rest) % whole
                if end:
                    yield rest[:end]
                chunk = await answer.chunk()
                rest = rest[end:] + chunk if chunk else b""
        finally:
            answer.close()

    async def _beginning(self, answer: VendorAnswer) -> tuple[bytes, SoundKind | None]:
        """Return the first bytes of the sound and their detected format; None: there is no sound.

        :raises ProviderError: ``bad_answer``: not sound; with the vendor's error text.
        """
        head, kind = b"", None
        while kind is None and (chunk := await answer.chunk()):
            head += chunk
            kind = sniff(head, self.sound.encoding, complete=False)
        if kind is None and head:
            kind = sniff(head, self.sound.encoding, complete=True)
        if kind not in (SoundKind.TEXT, SoundKind.OTHER):
            return head, kind
        if kind is SoundKind.TEXT:
            head += await answer.read(_TEXT_LIMIT)
            if (error := self._client.reported(_decoded(head))) is not None:
                raise error
        words = self._client.shorten(error_text(head)) if kind is SoundKind.TEXT else "another file"
        raise ProviderError("bad_answer", f"no sound in the answer: {words}", retryable=True)


def _announced(answer: VendorAnswer, sound: SoundFormat) -> SoundFormat:
    """Return the format, for PCM with the rate and channels in the answer's head."""
    if sound.encoding is not Encoding.PCM or not _PLAIN.fullmatch(answer.media_type):
        return sound
    rate, channels = (_number(answer.parameters.get(name, "")) for name in ("rate", "channels"))
    return replace(
        sound,
        sample_rate=rate if 8000 <= rate <= 96000 else sound.sample_rate,
        channels=channels if channels in (1, 2) else sound.channels,
    )


def _number(text: str) -> int:
    text = text.strip('"')
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 0


def wav(pcm: bytes) -> bytes:
    """Return s16le mono at 16 kHz with a WAV header."""
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", 36 + len(pcm), b"WAVE", b"fmt ", 16),
        *(1, 1, _RATE, _BYTES_PER_SECOND, 2, 16),
        *(b"data", len(pcm)),
    )
    return header + pcm


def multipart(fields: Mapping[str, Any], sound: bytes) -> tuple[bytes, str]:
    """Return a form with the sound as ``file``, and its media type."""
    boundary = secrets.token_hex(16)
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    parts.append(
        f"--{boundary}\r\n"
        'Content-Disposition: form-data; name="file"; filename="speech.wav"\r\n'
        "Content-Type: audio/wav\r\n\r\n"
    )
    body = b"".join((*(p.encode() for p in parts), sound, f"\r\n--{boundary}--\r\n".encode()))
    return body, f"multipart/form-data; boundary={boundary}"
