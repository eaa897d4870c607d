"""Offline speech with espeak-ng."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, ClassVar

import msgspec
from twisted.internet.defer import Deferred
from zope.interface import implementer

from xiaozhi.base.errors import ConfigError, ProviderError
from xiaozhi.base.values import Encoding, SoundFormat
from xiaozhi.interfaces import IPreparable, IProvider, ISynthesizer, ProviderRuntime
from xiaozhi.providers.kit.process.worker import Worker, WorkerOptions

#: The output format of espeak-ng, for every voice.
SAMPLE_RATE = 22050

#: The longest text of one call; sentences are far shorter.
MAX_CHARACTERS = 2000

#: Language tags, in lower case, whose voice has another name.
_VOICES = {
    "zh": "cmn",
    "zh-hk": "yue",
    "zh-mo": "yue",
    "zh-yue": "yue",
    "en": "en-us",
    "en-gb": "en-gb-x-rp",
    "no": "nb",
}

#: The voice for a script that the language is not written in, or without a language.
_SCRIPT_VOICES = {"han": "cmn", "kana": "ja", "hangul": "ko", "cyrillic": "ru"}

#: The scripts of languages that are not written in Latin alone.
_SCRIPTS = {
    "cmn": {"han"},
    "yue": {"han"},
    "hak": {"han"},
    "ja": {"han", "kana"},
    "ko": {"hangul", "han"},
    "ru": {"cyrillic"},
    "uk": {"cyrillic"},
    "be": {"cyrillic"},
    "bg": {"cyrillic"},
    "sr": {"cyrillic", "latin"},
    "mk": {"cyrillic"},
    "kk": {"cyrillic"},
}

Voice = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9-]+(\+[A-Za-z0-9]+)?$")]


def script_of(character: str) -> str:
    """Return ``han``, ``kana``, ``hangul``, ``cyrillic``, ``latin``, ``other``, or empty: a
    character that belongs to the run around it.
    """
    if character.isascii():
        return "latin" if character.isalpha() else ""
    if not character.isalpha():
        return ""
    name = unicodedata.name(character, "")
    if name.startswith(("CJK UNIFIED", "CJK COMPATIBILITY")):
        return "han"
    if name.startswith(("HIRAGANA", "KATAKANA", "HALFWIDTH KATAKANA")):
        return "kana"
    for script in ("LATIN", "HANGUL", "CYRILLIC"):
        if name.startswith(script):
            return script.lower()
    return "other"


def split_scripts(text: str) -> list[tuple[str, str]]:
    """Split a text where the script changes: ``[(script, piece), …]``; the pieces join to the text.

    Kana and ideographs together are Japanese: one run of ``kana``. A text without letters is one
    run of ``""``.
    """
    japanese = any(script_of(character) == "kana" for character in text)
    runs: list[list[str]] = []
    for character in text:
        script = script_of(character)
        if japanese and script == "han":
            script = "kana"
        if runs and (not script or runs[-1][0] in ("", script)):
            runs[-1][0] = runs[-1][0] or script
            runs[-1][1] += character
        else:
            runs.append([script, character])
    return [(script, piece) for script, piece in runs]


class EspeakSettings(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Settings of espeak-ng.

    :ivar voice: for text without a known language whose script implies none.
    :ivar voices: by BCP 47 tag or script name, added to the built-in ones.
    :ivar rate: words per minute.
    :ivar pitch: 0 to 100.
    :ivar volume: 0 to 200; 100 is full scale without distortion.
    :ivar timeout: seconds without output after which a sentence fails.
    """

    voice: Voice = "en-us"
    voices: dict[str, Voice] = {}
    rate: Annotated[int, msgspec.Meta(ge=80, le=450)] = 165
    pitch: Annotated[int, msgspec.Meta(ge=0, le=100)] = 50
    volume: Annotated[int, msgspec.Meta(ge=0, le=200)] = 100
    timeout: Annotated[float, msgspec.Meta(gt=0, le=600)] = 10.0


@implementer(ISynthesizer, IProvider, IPreparable)
class EspeakSynthesizer:
    """Speaks with espeak-ng in a child process."""

    Settings: ClassVar[type[msgspec.Struct]] = EspeakSettings

    sound = SoundFormat(Encoding.PCM, SAMPLE_RATE, 1)

    def __init__(self, settings: EspeakSettings, worker: Worker, installed: frozenset[str]) -> None:
        """:param installed: names of the installed voices, in lower case."""
        self._settings = settings
        self._worker = worker
        self._installed = installed
        self._voices: Mapping[str, str] = _VOICES | {
            tag.lower(): voice for tag, voice in settings.voices.items()
        }

    @classmethod
    def make(cls, settings: EspeakSettings, runtime: ProviderRuntime) -> EspeakSynthesizer:
        """Make the synthesiser.

        :raises ConfigError: espeak-ng or a voice is not installed.
        """
        if find_spec("espeakng_loader") is None:
            raise ConfigError(
                "espeak-ng is not installed; in the checkout: pip install '.[offline]'"
            )
        import espeakng_loader

        data = Path(espeakng_loader.get_data_path())
        voices = frozenset(path.name.lower() for path in (data / "lang").glob("*/*"))
        voices |= {path.name.lower() for path in (data / "lang").glob("*") if path.is_file()}
        for voice in (settings.voice, *settings.voices.values()):
            if voice.partition("+")[0].lower() not in voices:
                raise ConfigError(f"espeak-ng has no voice {voice}")
        options = WorkerOptions(timeout=settings.timeout)
        worker = Worker(runtime.reactor, "xiaozhi.providers.offline.espeak_child", options=options)
        return cls(settings, worker, voices)

    async def synthesize(self, text: str, language: str) -> AsyncGenerator[bytes, None]:
        """See :class:`ISynthesizer`."""
        # Control characters are commands to the engine.
        text = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in text).strip()
        if not text:
            return
        if len(text) > MAX_CHARACTERS:
            raise ProviderError(
                "too_long", f"more than {MAX_CHARACTERS} characters in one call", retryable=False
            )
        settings = self._settings
        request = self._worker.request(
            json.dumps(
                {
                    "runs": self.runs(text, language),
                    "rate": settings.rate,
                    "pitch": settings.pitch,
                    "volume": settings.volume,
                }
            ).encode()
        )
        request.end()
        async with aclosing(request.pieces()) as pieces:
            async for piece in pieces:
                yield piece

    def runs(self, text: str, language: str) -> list[tuple[str, str]]:
        """Return ``[(voice, piece), …]``: each piece with a voice for its script."""
        main = self._voice_of(language)
        base = main.partition("+")[0]
        runs: list[tuple[str, str]] = []
        for script, piece in split_scripts(text):
            voice = self._run_voice(script, main, base)
            if runs and runs[-1][0] == voice:
                voice, piece = voice, runs.pop()[1] + piece
            runs.append((voice, piece))
        return runs

    def prepare(self) -> None:
        """See :class:`IPreparable`."""
        self._worker.prepare()

    def close(self) -> Deferred[None]:
        """See :class:`IProvider`."""
        return self._worker.close()

    def _run_voice(self, script: str, main: str, base: str) -> str:
        own = _SCRIPTS.get(base.lower(), {"latin"})
        if script in own or (script in ("", "other") and main):
            return main or self._settings.voice
        if script == "latin":
            return self._settings.voice if not main or base.lower() in _SCRIPTS else main
        if script in _SCRIPT_VOICES:
            return self._voices.get(script, _SCRIPT_VOICES[script])
        return main or self._settings.voice

    def _voice_of(self, language: str) -> str:
        """Return the voice for a BCP 47 tag; empty: no tag, or no such voice."""
        tag = language.lower().replace("_", "-")
        while tag:
            voice = self._voices.get(tag, tag)
            if voice.partition("+")[0].lower() in self._installed:
                return voice
            tag = tag.rpartition("-")[0]
        return ""

    @property
    def worker(self) -> Worker:
        """The child process."""
        return self._worker
