"""Settings of failover groups."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

_Seconds = Annotated[float, Meta(gt=0, le=3600)]


class FailoverSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When the next provider of a list is tried, and when a circuit opens. Seconds.

    :ivar asr: from the end of speech to the text.
    :ivar llm: from the request to the model's first output.
    :ivar tts: from a sentence to its first sound.
    :ivar vlllm: from a picture to the words about it.
    :ivar keep: sound of an utterance kept for the next recogniser, which gets only the beginning of
        a longer one.
    :ivar failures: failures in a row that open a provider's circuit.
    :ivar cooldown: how long it stays open; doubled each time that the provider fails again.
    :ivar cooldown_max: the longest.
    :ivar unused: how long a provider that no agent uses is kept open.
    """

    asr: _Seconds = 5.0
    llm: _Seconds = 6.0
    tts: _Seconds = 3.0
    vlllm: _Seconds = 10.0
    keep: Annotated[float, Meta(ge=1, le=300)] = 30.0
    failures: Annotated[int, Meta(ge=1, le=1000)] = 3
    cooldown: _Seconds = 10.0
    cooldown_max: _Seconds = 300.0
    unused: _Seconds = 600.0

    def __post_init__(self) -> None:
        if self.cooldown > self.cooldown_max:
            raise ValueError("needs cooldown <= cooldown_max")
