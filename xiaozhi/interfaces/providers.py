"""Seams of speech and language vendors."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from xiaozhi.base.values import Delta, Picture, SoundFormat, ToolSpec, Transcript, Utterance
from xiaozhi.interfaces.work import Offload


class IProvider(Interface):
    """What all providers have in common."""

    def close() -> Deferred[None]:
        """Release processes and connections; running calls fail."""


class IPreparable(Interface):
    """A provider that can get ready ahead of its first call."""

    def prepare() -> None:
        """The service has started: start child processes and the like."""


class IOfModel(Interface):
    """A provider whose vendor has several models."""

    model = Attribute("The vendor's name for the one that answers; for figures and logs.")


class IAdaptive(Interface):
    """A provider that goes without what its vendor turned out to refuse."""

    refused = Attribute("What that is, a sequence of words for people: ``tools``.")


class IVoiceActivityDetector(IProvider):
    """Tells speech from the rest."""

    def detector() -> IVoiceActivity:
        """One for a session; it may keep state between frames."""


class IVoiceActivity(Interface):
    """Voice activity over one stream of sound."""

    def is_speech(pcm: bytes) -> bool:
        """:param pcm: 20 ms, s16le mono at 16 kHz: 640 bytes."""


class IRecognizer(IProvider):
    """ASR: speech to text."""

    def recognition(interim: Callable[[str], None] | None = None) -> IRecognition:
        """Start one utterance.

        :param interim: is given what has been understood so far, each time that it is
            something else, until ``finish`` or ``cancel``. A recogniser that only
            understands whole utterances never calls it.
        """


class ITurnDetector(Interface):
    """Decides when somebody who speaks has finished; one for a session."""

    def begin() -> None:
        """An utterance begins."""

    def understood(text: str) -> None:
        """What has been understood of it so far, if its recogniser tells."""

    def over(silence: float) -> bool:
        """Whether it is over.

        :param silence: seconds of sound since its last voice; asked every 20 ms.
        """


class IRecognition(Interface):
    """One utterance being recognised."""

    def feed(pcm: bytes) -> None:
        """More sound: s16le mono at 16 kHz, any length. Never blocks."""

    def finish() -> Deferred[Transcript]:
        """The utterance is over.

        :raises ProviderError: through the Deferred. Cancelling it is :meth:`cancel`.
        """

    def cancel() -> None:
        """Throw it away. Idempotent, also after :meth:`finish`."""


class ILanguageModel(IProvider):
    """LLM: the next thing to say, or the tools to run first."""

    def reply(
        dialogue: Sequence[Utterance], tools: Sequence[ToolSpec]
    ) -> AsyncGenerator[Delta, None]:
        """Continue a dialogue whose last entry is the person's or a tool's.

        Closing the generator ends the vendor's request.

        :raises ProviderError: while iterating.
        """


class ISynthesizer(IProvider):
    """TTS: text to speech."""

    sound = Attribute(
        "The :class:`~xiaozhi.base.values.SoundFormat` of the sound, unless a stream says another."
    )

    def synthesize(text: str, language: str) -> AsyncGenerator[bytes | SoundFormat, None]:
        """Speak one sentence, in pieces as they become ready.

        A format may come before the first piece, together with it: then this sentence
        is in that one. So do synthesisers that stand for several.

        :param language: BCP 47; empty: tell by the text.
        :raises ProviderError: while iterating.
        """


class IVisionModel(IProvider):
    """VLLLM: words about a picture."""

    def describe(picture: Picture, question: str) -> Deferred[str]:
        """:raises ProviderError: through the Deferred."""


class IProviderMaker(Interface):
    """A provider that can be chosen in the configuration: a ``twisted.plugin``."""

    kind = Attribute("``asr``, ``llm``, ``tts``, ``vlllm`` or ``vad``.")
    name = Attribute("What ``selected`` and the section ``providers`` call it.")
    description = Attribute("One line for people.")

    def settings() -> type[Any]:
        """The ``msgspec.Struct`` its section is read into."""

    def make(settings: Any, runtime: ProviderRuntime) -> IProvider:
        """Import what is needed and build it; nothing is started before use.

        :raises ConfigError: e.g. an optional package is missing, and how to get it.
        """


class ProviderRuntime(Protocol):
    """What providers may use of the process they live in.

    :ivar reactor: clock, processes and TCP.
    :ivar offload: for work that would hold up the reactor.
    """

    @property
    def reactor(self) -> Any: ...
    @property
    def offload(self) -> Offload: ...
