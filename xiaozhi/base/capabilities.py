"""What a provider can do, as a value that it declares."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


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
class Capabilities:
    """Abilities of one provider. The defaults hold for providers that declare nothing.

    :ivar place: whether sound and text leave the machine.
    :ivar interim: a recogniser reports what it has understood so far.
    :ivar incremental: a synthesiser takes text as the model writes it, see
        :class:`~xiaozhi.interfaces.IIncrementalSynthesizer`.
    :ivar tools: a language model calls tools.
    :ivar vision: a vision model sees what is in a picture, or a language model takes
        pictures.
    :ivar sample_rates: in Hz, of a synthesiser's sound; empty: any.
    :ivar voices: that an agent may choose from; empty: not known, any id is accepted.
    :ivar voice_settings: what an agent's voice may set: the names of the provider's own
        settings by ``id``, ``rate``, ``pitch``, ``volume``, as pairs.
    """

    place: Place = Place.UNKNOWN
    interim: bool = False
    incremental: bool = False
    tools: bool = True
    vision: bool = True
    sample_rates: tuple[int, ...] = ()
    voices: tuple[VoiceInfo, ...] = ()
    voice_settings: tuple[tuple[str, str], ...] = ()

    def summary(self, kind: str) -> dict[str, object]:
        """The abilities that matter for a kind, for people who read ``/health``."""
        told: dict[str, object] = {"place": self.place.value}
        if kind == "asr":
            told["interim"] = self.interim
        elif kind == "llm":
            told.update(tools=self.tools)
        elif kind == "tts":
            told.update(incremental=self.incremental, voices=len(self.voices))
            if self.sample_rates:
                told["sample_rates"] = list(self.sample_rates)
        elif kind == "vlllm":
            told["vision"] = self.vision
        return told
