"""What can be set about lists of providers."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

_Seconds = Annotated[float, Meta(gt=0, le=3600)]


class FailoverSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When the next provider of a list is asked, and when one is left alone. Seconds.

    :ivar asr: from the end of speech to the text, before the next one is asked.
    :ivar llm: from asking the model to its first output.
    :ivar tts: from a sentence to its first sound.
    :ivar vlllm: from a picture to words about it.
    :ivar keep: sound of an utterance kept for the next recogniser; of what is longer,
        that one hears the beginning.
    :ivar failures: in a row, after which a provider is left alone.
    :ivar cooldown: for how long; twice as long each time that it fails again.
    :ivar cooldown_max: the longest.
    """

    asr: _Seconds = 5.0
    llm: _Seconds = 6.0
    tts: _Seconds = 3.0
    vlllm: _Seconds = 10.0
    keep: Annotated[float, Meta(ge=1, le=300)] = 30.0
    failures: Annotated[int, Meta(ge=1, le=1000)] = 3
    cooldown: _Seconds = 10.0
    cooldown_max: _Seconds = 300.0

    def __post_init__(self) -> None:
        if self.cooldown > self.cooldown_max:
            raise ValueError("needs cooldown <= cooldown_max")
