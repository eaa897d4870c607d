"""Double of a voice activity detector: compares loudness with a threshold."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from xiaozhi.audio import louder
from xiaozhi.interfaces import (
    IProvider,
    IVoiceActivity,
    IVoiceActivityDetector,
    ProviderRuntime,
)


class EnergySettings(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Settings of :class:`EnergyDetector`.

    :ivar threshold: RMS from which a frame is speech.
    """

    threshold: Annotated[int, msgspec.Meta(ge=1, le=32767)] = 500


@implementer(IVoiceActivityDetector, IVoiceActivity, IProvider)
class EnergyDetector:
    """Takes any loud sound for speech. Has no state, so one instance serves all."""

    Settings: ClassVar[type[msgspec.Struct]] = EnergySettings

    def __init__(self, settings: EnergySettings) -> None:
        self._threshold = settings.threshold

    @classmethod
    def make(cls, settings: EnergySettings, runtime: ProviderRuntime) -> EnergyDetector:
        """Make the detector; it uses nothing of the process."""
        return cls(settings)

    def detector(self) -> IVoiceActivity:
        """See :class:`IVoiceActivityDetector`."""
        return self

    def is_speech(self, pcm: bytes) -> bool:
        """See :class:`IVoiceActivity`."""
        return louder(pcm, self._threshold)

    def close(self) -> Deferred[None]:
        """Do nothing: there is nothing to release."""
        return succeed(None)
