"""Voice activity by WebRTC's detector."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
import webrtcvad
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from xiaozhi.audio import louder
from xiaozhi.interfaces import (
    IProvider,
    IVoiceActivity,
    IVoiceActivityDetector,
    ProviderRuntime,
)

_RATE = 16000


class WebrtcSettings(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Settings of WebRTC's detector.

    :ivar aggressiveness: 0 classifies most as speech, 3 least.
    :ivar floor: RMS below which a frame is always silence.
    """

    aggressiveness: Annotated[int, msgspec.Meta(ge=0, le=3)] = 2
    floor: Annotated[int, msgspec.Meta(ge=0, le=2000)] = 50


@implementer(IVoiceActivityDetector, IProvider)
class WebrtcDetector:
    """The default detector; about 3 µs per frame."""

    Settings: ClassVar[type[msgspec.Struct]] = WebrtcSettings

    def __init__(self, settings: WebrtcSettings) -> None:
        self._settings = settings

    @classmethod
    def make(cls, settings: WebrtcSettings, runtime: ProviderRuntime) -> WebrtcDetector:
        """Make the detector; it needs nothing of the process."""
        return cls(settings)

    def detector(self) -> IVoiceActivity:
        """See :class:`IVoiceActivityDetector`."""
        return _Activity(self._settings)

    def close(self) -> Deferred[None]:
        """Do nothing: there is nothing to release."""
        return succeed(None)


@implementer(IVoiceActivity)
class _Activity:
    def __init__(self, settings: WebrtcSettings) -> None:
        self._vad = webrtcvad.Vad(settings.aggressiveness)
        self._floor = settings.floor

    def is_speech(self, pcm: bytes) -> bool:
        # The detector adapts to silence. After (nearly) digital silence it classifies any noise as
        # speech for seconds, so it must not get digital silence.
        if not louder(pcm, self._floor):
            return False
        return bool(self._vad.is_speech(pcm, _RATE))
