"""Providers with scripted answers: for tests, demonstrations and load.

All delays run on the runtime's reactor, so on virtual time where that is a
``Clock``. With ``fail`` every call fails with that code after its delay; with
``hang`` it never answers; ``trouble`` does such things to some calls only.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, TypeVar

import msgspec
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import deferLater
from zope.interface import implementer

from xiaozhi.audio import louder
from xiaozhi.base.errors import ProviderError
from xiaozhi.base.values import (
    Delta,
    Encoding,
    Picture,
    Role,
    SoundFormat,
    TextDelta,
    ToolCall,
    ToolSpec,
    Transcript,
    Utterance,
)
from xiaozhi.interfaces import (
    ILanguageModel,
    IProvider,
    IRecognition,
    IRecognizer,
    ISynthesizer,
    IVisionModel,
    IVoiceActivity,
    IVoiceActivityDetector,
    ProviderRuntime,
)

Seconds = Annotated[float, msgspec.Meta(ge=0, le=3600)]
_D = TypeVar("_D", bound="_Double")


class InjectedFault(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A fault of some calls only.

    :ivar when: with those whose text has this in it: what would be heard, what the person
        said last, what is to be spoken, what is asked about a picture.
    :ivar fail: and ``retryable``, ``hang``: see :class:`DoubleSettings`.
    :ivar crawl: seconds before the answer, and between two words or tenths of a second
        of sound, on top of what these take anyway.
    """

    when: str
    fail: str = ""
    retryable: bool = False
    hang: bool = False
    crawl: Seconds = 0.0


_NO_TROUBLE = InjectedFault(when="")


class DoubleSettings(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """
    :ivar delay: seconds before an answer begins.
    :ivar fail: code of the error every call ends with; empty: none.
    :ivar retryable: whether that error says so.
    :ivar hang: never answer.
    :ivar trouble: what else goes wrong, and when; the first that fits counts.
    """

    delay: Seconds = 0.0
    fail: str = ""
    retryable: bool = False
    hang: bool = False
    trouble: tuple[InjectedFault, ...] = ()


class _Double:
    """The common part of all doubles."""

    def __init__(self, settings: Any, clock: Any) -> None:
        self._settings = settings
        self._clock = clock
        self._closed = False

    @classmethod
    def make(cls: type[_D], settings: Any, runtime: ProviderRuntime) -> _D:
        """Nothing is needed but the clock."""
        return cls(settings, runtime.reactor)

    def close(self) -> Deferred[None]:
        """From now on calls fail with ``closed``."""
        self._closed = True
        return succeed(None)

    async def _begin(self, about: str) -> float:
        """Wait, hang or fail, as the settings say.

        :param about: the call's text, by which they tell whether there is trouble.
        :return: seconds to wait between the pieces of the answer.
        """
        settings = self._settings
        trouble = next((one for one in settings.trouble if one.when in about), _NO_TROUBLE)
        if settings.hang or trouble.hang:
            await Deferred()
        await self._sleep(settings.delay + trouble.crawl)
        if self._closed:
            raise ProviderError("closed", "the provider was closed", retryable=False)
        for one in (settings, trouble):
            if one.fail:
                raise ProviderError(
                    one.fail, "told to fail by configuration", retryable=one.retryable
                )
        return trouble.crawl

    async def _sleep(self, seconds: float) -> None:
        if seconds > 0:
            await deferLater(self._clock, seconds)


# --- recognition -----------------------------------------------------------------------

# Of what a recogniser is fed: 16 kHz, 16 bits.
_BYTES_PER_MS = 32


class RecognizerSettings(DoubleSettings, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """
    :ivar texts: what is heard, in turn, then from the start again. ``{ms}`` in one is
        filled in: how much sound there was.
    :ivar language: of all of them, BCP 47.
    :ivar interim: seconds of sound after each of which an interim result has one word
        more; 0: no interim results.
    """

    texts: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = ("hello",)
    language: str = "en"
    interim: Seconds = 0.0


@implementer(IRecognizer, IProvider)
class ScriptedRecognizer(_Double):
    """Hears the next text each time there was any sound."""

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
        """The next transcript; an empty one if nothing came."""
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


# --- dialogue --------------------------------------------------------------------------


class ScriptedCall(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A tool to call.

    :ivar when: asked for only where the person's last words contain this.
    :ivar arguments: a JSON object; a text ``{words}`` in it stands for those words.
    """

    name: str
    arguments: dict[str, Any] = {}
    when: str = ""


class ModelSettings(DoubleSettings, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """
    :ivar answers: said in turn, then from the start again. ``{words}`` in one is filled
        in: what the person said.
    :ivar replies: answers by what the person said exactly; they win.
    :ivar recall: words that are answered with what the person said before them.
    :ivar calls: tools asked for instead of an answer to the person, if offered.
    :ivar token_delay: seconds between the words of an answer.
    """

    answers: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = ("All right.",)
    replies: dict[str, str] = {}
    recall: str = ""
    calls: tuple[ScriptedCall, ...] = ()
    token_delay: Seconds = 0.0


@implementer(ILanguageModel, IProvider)
class ScriptedModel(_Double):
    """Answers word by word; an answer to a tool's result is the result itself."""

    Settings: ClassVar[type[msgspec.Struct]] = ModelSettings
    _next = 0
    _calls = 0

    async def reply(
        self, dialogue: Sequence[Utterance], tools: Sequence[ToolSpec]
    ) -> AsyncGenerator[Delta, None]:
        """See :class:`ILanguageModel`."""
        last = dialogue[-1]
        crawl = await self._begin(last.text)
        if last.role is not Role.TOOL:
            calls = self._calls_for(last.text, tools)
            for call in calls:
                yield call
            if calls:
                return
        for number, word in enumerate(_words(self._answer(dialogue))):
            if number:
                await self._sleep(self._settings.token_delay + crawl)
            yield TextDelta(word)

    def _calls_for(self, said: str, tools: Sequence[ToolSpec]) -> list[ToolCall]:
        offered = {tool.name for tool in tools}
        calls = []
        for call in self._settings.calls:
            if call.name in offered and call.when in said:
                self._calls += 1
                filled = {
                    key: said if value == "{words}" else value
                    for key, value in call.arguments.items()
                }
                arguments = msgspec.json.encode(filled).decode()
                calls.append(ToolCall(f"call-{self._calls}", call.name, arguments))
        return calls

    def _answer(self, dialogue: Sequence[Utterance]) -> str:
        *earlier, last = dialogue
        if last.role is Role.TOOL:
            return last.text
        if last.text and last.text == self._settings.recall:
            said = [each.text for each in earlier if each.role is Role.USER]
            return said[-1] if said else "Nothing."
        replies: Mapping[str, str] = self._settings.replies
        if last.text in replies:
            return replies[last.text]
        answers: tuple[str, ...] = self._settings.answers
        answer = answers[self._next % len(answers)]
        self._next += 1
        return answer.replace("{words}", last.text)


def _words(text: str) -> list[str]:
    """Words with the space before them, joining to the text."""
    return [(" " if number else "") + word for number, word in enumerate(text.split(" ")) if word]


# --- speech ----------------------------------------------------------------------------


class ToneSettings(DoubleSettings, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """
    :ivar sample_rate: Hz of the PCM.
    :ivar milliseconds: sound for each character of a text.
    :ivar frequency: Hz of the tone.
    :ivar level: its amplitude, 0 to 32767.
    :ivar pace: how many times faster than real time it comes; 0: at once.
    """

    sample_rate: Annotated[int, msgspec.Meta(ge=8000, le=48000)] = 24000
    milliseconds: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 60
    frequency: Annotated[int, msgspec.Meta(ge=20, le=4000)] = 440
    level: Annotated[int, msgspec.Meta(ge=0, le=32767)] = 3000
    pace: Annotated[float, msgspec.Meta(ge=0)] = 0.0


@implementer(ISynthesizer, IProvider)
class ToneSynthesizer(_Double):
    """A tone as long as the text would take to say, in pieces of 0.1 s."""

    Settings: ClassVar[type[msgspec.Struct]] = ToneSettings

    def __init__(self, settings: ToneSettings, clock: Any) -> None:
        super().__init__(settings, clock)
        rate = settings.sample_rate
        self.sound = SoundFormat(Encoding.PCM, rate, 1)
        # A tenth of a second holds whole periods of any multiple of 10 Hz.
        frequency = max(10, settings.frequency // 10 * 10)
        self._piece = array(
            "h",
            (
                round(settings.level * math.sin(2 * math.pi * frequency * index / rate))
                for index in range(rate // 10)
            ),
        ).tobytes()

    async def synthesize(self, text: str, language: str) -> AsyncGenerator[bytes, None]:
        """See :class:`ISynthesizer`."""
        crawl = await self._begin(text)
        settings = self._settings
        pause = crawl + (0.1 / settings.pace if settings.pace else 0.0)
        left = len(text) * settings.milliseconds * settings.sample_rate // 1000 * 2
        first = True
        while left > 0:
            if not first:
                await self._sleep(pause)
            first = False
            yield self._piece[:left]
            left -= len(self._piece)


# --- vision and voice activity -----------------------------------------------------------


class ScriptedVisionSettings(DoubleSettings, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """:ivar answers: given in turn, then from the start again."""

    answers: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = ("A picture.",)


@implementer(IVisionModel, IProvider)
class ScriptedVision(_Double):
    """Sees what it was told to see."""

    Settings: ClassVar[type[msgspec.Struct]] = ScriptedVisionSettings
    _next = 0

    def describe(self, picture: Picture, question: str) -> Deferred[str]:
        """See :class:`IVisionModel`."""

        async def answer() -> str:
            await self._begin(question)
            answers: tuple[str, ...] = self._settings.answers
            self._next += 1
            return answers[(self._next - 1) % len(answers)]

        return Deferred.fromCoroutine(answer())


class EnergySettings(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """:ivar threshold: RMS from which a frame is speech."""

    threshold: Annotated[int, msgspec.Meta(ge=1, le=32767)] = 500


@implementer(IVoiceActivityDetector, IVoiceActivity, IProvider)
class EnergyDetector:
    """Takes any loud sound for speech. Has no state, so one serves all."""

    Settings: ClassVar[type[msgspec.Struct]] = EnergySettings

    def __init__(self, settings: EnergySettings) -> None:
        self._threshold = settings.threshold

    @classmethod
    def make(cls, settings: EnergySettings, runtime: ProviderRuntime) -> EnergyDetector:
        """Nothing is needed of the process."""
        return cls(settings)

    def detector(self) -> IVoiceActivity:
        """See :class:`IVoiceActivityDetector`."""
        return self

    def is_speech(self, pcm: bytes) -> bool:
        """See :class:`IVoiceActivity`."""
        return louder(pcm, self._threshold)

    def close(self) -> Deferred[None]:
        """Nothing to release."""
        return succeed(None)
