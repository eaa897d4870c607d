"""Capabilities that a provider declares, and needs of an agent that they must meet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

#: Fields of an agent's voice.
VOICE_FIELDS = ("id", "rate", "pitch", "volume")


class Place(Enum):
    """The place where a provider computes."""

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

    def value(self, given: str | float) -> str | float:
        """Convert a field of the voice to the provider's setting."""
        if isinstance(given, str):
            return given
        scaled = given * self.normal
        return round(scaled) if isinstance(self.normal, int) else scaled


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Capabilities of one provider. The defaults apply to providers that declare none.

    :ivar place: whether sound and text leave the machine.
    :ivar interim: a recogniser reports interim text.
    :ivar incremental: a synthesiser accepts text while the model writes it, see
        :class:`~xiaozhi.interfaces.IIncrementalSynthesizer`.
    :ivar tools: a language model calls tools.
    :ivar vision: a vision model sees the contents of a picture.
    :ivar sample_rates: of a synthesiser's sound, in Hz; empty: any.
    :ivar voices: voices that an agent may choose from; empty: unknown, any id is accepted.
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
        """Return the setting for a field of the voice; None: the provider has none."""
        return next((each for each in self.voice_settings if each.field == field), None)

    def summary(self, kind: str) -> dict[str, object]:
        """Return the capabilities that matter for a kind, for ``/health``."""
        found: dict[str, object] = {"place": self.place.value}
        if kind == "asr":
            found["interim"] = self.interim
        elif kind == "llm":
            found["tools"] = self.tools
        elif kind == "tts":
            found["incremental"] = self.incremental
            found["voices"] = len(self.voices)
            found["sample_rates"] = list(self.sample_rates)
        elif kind == "vlllm":
            found["vision"] = self.vision
        return found


@dataclass(frozen=True, slots=True)
class Needs:
    """Capabilities that an agent's settings need.

    :ivar interim: key of the setting that needs interim results; empty: none. Likewise
        ``tools`` and ``vision``.
    """

    interim: str = ""
    tools: str = ""
    vision: str = ""

    def wanted(self) -> Iterator[tuple[str, str, str]]:
        """Yield the kind of provider, the capability and the reason of each need."""
        for kind, ability in (("asr", "interim"), ("llm", "tools"), ("vlllm", "vision")):
            if reason := getattr(self, ability):
                yield kind, ability, reason
