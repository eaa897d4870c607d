"""Seams of speech and language vendors."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from xiaozhi.base.capabilities import Capabilities
from xiaozhi.base.values import (
    Delta,
    Picture,
    SoundFormat,
    ToolSpec,
    Transcript,
    Utterance,
)
from xiaozhi.interfaces.work import Offload


class IProvider(Interface):
    """Methods common to all providers."""

    def close() -> Deferred[None]:
        """Release processes and connections; running calls fail. Idempotent."""


class IPreparable(Interface):
    """A provider that can prepare before its first call."""

    def prepare() -> None:
        """Start child processes and similar; called when the service runs."""


class IOfModel(Interface):
    """A provider whose vendor has several models."""

    model = Attribute("The vendor's name for the model that answers; for metrics and logs.")


class IAdaptive(Interface):
    """A provider that works without a feature that its vendor has refused."""

    refused = Attribute("The refused features, for people: a sequence such as ``tools``.")


class IVoiceActivityDetector(IProvider):
    """Detects speech in sound."""

    def detector() -> IVoiceActivity:
        """Make a detector for one session; it may keep state between frames."""


class IVoiceActivity(Interface):
    """Voice activity over one stream of sound."""

    def is_speech(pcm: bytes) -> bool:
        """Return whether a frame contains voice.

        :param pcm: 20 ms, s16le mono at 16 kHz: 640 bytes.
        """


class IRecognizer(IProvider):
    """ASR: speech to text."""

    def recognition(interim: Callable[[str], None] | None = None) -> IRecognition:
        """Start one utterance.

        :param interim: called with the text understood so far whenever it changes, until
            ``finish`` or ``cancel``. A recogniser of whole utterances never calls it, and
            does not declare the capability ``interim``.
        """


class ITurnDetector(Interface):
    """Decides when a speaker has finished; one per session."""

    def begin() -> None:
        """Start an utterance."""

    def understood(text: str) -> None:
        """Handle an interim text; never called if the recogniser has none."""

    def over(silence: float) -> bool:
        """Return whether the utterance has ended; called every 20 ms.

        :param silence: seconds of sound since its last voice.
        """


class IRecognition(Interface):
    """One utterance being recognised."""

    def feed(pcm: bytes) -> None:
        """Add sound: s16le mono at 16 kHz, any length. Never blocks."""

    def finish() -> Deferred[Transcript]:
        """End the utterance and return its text.

        :raises ProviderError: through the Deferred. Cancelling it is :meth:`cancel`.
        """

    def cancel() -> None:
        """Discard the utterance. Idempotent, also after :meth:`finish`."""


class ILanguageModel(IProvider):
    """LLM: the next reply of a dialogue, or tool calls to run first."""

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

        A format directly before the first piece applies to this sentence. Failover groups use
        it. An empty text has no sound.

        :param language: BCP 47; empty: detect it from the text.
        :raises ProviderError: while iterating.
        """


class IVisionModel(IProvider):
    """VLLLM: answers questions about a picture."""

    def describe(picture: Picture, question: str) -> Deferred[str]:
        """Answer a question about a picture.

        :raises ProviderError: through the Deferred.
        """


class ICapable(Interface):
    """A provider maker that declares capabilities. Makers without it count as
    :class:`~xiaozhi.base.capabilities.Capabilities` with its defaults."""

    def capabilities(settings: Any) -> Capabilities:
        """Return the capabilities with these settings.

        :param settings: an instance of the maker's ``settings()``.
        """


class IProviderMaker(Interface):
    """A provider that the configuration can name: a ``twisted.plugin``."""

    kind = Attribute("``asr``, ``llm``, ``tts``, ``vlllm`` or ``vad``.")
    name = Attribute("Its name in ``selected`` and in the section ``providers``.")
    description = Attribute("One line for people.")

    def settings() -> type[Any]:
        """Return the ``msgspec.Struct`` that its section is read into."""

    def make(settings: Any, runtime: ProviderRuntime) -> IProvider:
        """Import the adapter and build it; nothing starts before its first use.

        :raises ConfigError: e.g. an optional package is missing, with how to install it.
        """


class ProviderRuntime(Protocol):
    """Facilities of the process that providers may use.

    :ivar reactor: clock, processes and TCP.
    :ivar offload: runs a function in a worker thread.
    """

    @property
    def reactor(self) -> Any: ...
    @property
    def offload(self) -> Offload: ...
