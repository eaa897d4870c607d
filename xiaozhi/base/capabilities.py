"""Capabilities that a provider declares, and needs of an agent that they must meet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

#: What an agent's voice may set.
VOICE_FIELDS = ("id", "rate", "pitch", "volume")


class Place(Enum):
    """Where a provider computes."""

    LOCAL = "local"
    REMOTE = "remote"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class VoiceInfo:
    """One voice of a synthesiser.

    :ivar id: the vendor's name for it.
    :ivar languages: BCP 47 tags that it speaks; empty: not known.
    :ivar name: for people; empty: the id.
    :ivar sample: URL of a sample of its sound; empty: none.
    """

    id: str
    languages: tuple[str, ...] = ()
    name: str = ""
    sample: str = ""


@dataclass(frozen=True, slots=True)
class VoiceSetting:
    """A provider's own setting for one field of an agent's voice.

    :ivar field: of the voice: ``id``, or ``rate``, ``pitch``, ``volume`` as factors of the
        normal one.
    :ivar name: of the provider's setting.
    :ivar normal: value of the setting for the factor 1; an integer if it takes integers.
    """

    field: str
    name: str
    normal: float = 1.0

    def value(self, told: str | float) -> str | float:
        """Convert a field of the voice to the provider's setting."""
        if isinstance(told, str):
            return told
        scaled = told * self.normal
        return round(scaled) if isinstance(self.normal, int) else scaled


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Abilities of one provider. The defaults hold for providers that declare nothing.

    :ivar place: whether sound and text leave the machine.
    :ivar interim: a recogniser reports the text understood so far.
    :ivar incremental: a synthesiser takes text as the model writes it, see
        :class:`~xiaozhi.interfaces.IIncrementalSynthesizer`.
    :ivar tools: a language model calls tools.
    :ivar vision: a vision model sees the contents of a picture.
    :ivar sample_rates: of a synthesiser's sound, in Hz; empty: any.
    :ivar voices: that an agent may choose from; empty: not known, any id is accepted.
    :ivar voice_settings: settings that an agent's voice may change.
    """

    place: Place = Place.UNKNOWN
    interim: bool = False
    incremental: bool = False
    tools: bool = True
    vision: bool = True
    sample_rates: tuple[int, ...] = ()
    voices: tuple[VoiceInfo, ...] = ()
    voice_settings: tuple[VoiceSetting, ...] = ()

    def voice_setting(self, field: str) -> VoiceSetting | None:
        """Find the setting for a field of the voice; None: it cannot be told."""
        return next((each for each in self.voice_settings if each.field == field), None)

    def summary(self, kind: str) -> dict[str, object]:
        """Return the abilities that matter for a kind, for people who read ``/health``."""
        told: dict[str, object] = {"place": self.place.value}
        if kind == "asr":
            told["interim"] = self.interim
        elif kind == "llm":
            told["tools"] = self.tools
        elif kind == "tts":
            told["incremental"] = self.incremental
            told["voices"] = len(self.voices)
            told["sample_rates"] = list(self.sample_rates)
        elif kind == "vlllm":
            told["vision"] = self.vision
        return told


@dataclass(frozen=True, slots=True)
class Needs:
    """Abilities that an agent's settings rely on.

    :ivar interim: why interim results are needed, the key of a setting; empty: they are
        not. Likewise ``tools`` and ``vision``.
    """

    interim: str = ""
    tools: str = ""
    vision: str = ""

    def wanted(self) -> Iterator[tuple[str, str, str]]:
        """Return kind of provider, ability and reason of each need."""
        for kind, ability in (("asr", "interim"), ("llm", "tools"), ("vlllm", "vision")):
            if reason := getattr(self, ability):
                yield kind, ability, reason
