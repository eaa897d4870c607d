"""Turn detectors: decide when an utterance has ended."""

from __future__ import annotations

from zope.interface import implementer

from xiaozhi.agents.settings import Detector, ListenSettings
from xiaozhi.ai.listening.unfinished import sounds_unfinished
from xiaozhi.interfaces import ITurnDetector


@implementer(ITurnDetector)
class DelayDetector:
    """Ends an utterance after ``listen.end_silence``."""

    def __init__(self, settings: ListenSettings) -> None:
        self._silence = settings.end_silence

    def begin(self) -> None:
        """See :class:`~xiaozhi.interfaces.ITurnDetector`."""

    def understood(self, text: str) -> None:
        """Ignore the words."""

    def over(self, silence: float) -> bool:
        """See :class:`~xiaozhi.interfaces.ITurnDetector`."""
        return silence >= self._silence


@implementer(ITurnDetector)
class TextDetector:
    """Chooses the silence that ends an utterance by its interim text.

    It is ``listen.max_delay`` after an unfinished phrase, ``listen.min_delay`` after a finished
    one, and ``listen.end_silence`` without text.
    """

    def __init__(self, settings: ListenSettings) -> None:
        self._settings = settings
        self._wanted = settings.end_silence

    def begin(self) -> None:
        """See :class:`~xiaozhi.interfaces.ITurnDetector`."""
        self._wanted = self._settings.end_silence

    def understood(self, text: str) -> None:
        """See :class:`~xiaozhi.interfaces.ITurnDetector`."""
        if not text.strip():
            self.begin()
        elif sounds_unfinished(text):
            self._wanted = self._settings.max_delay
        else:
            self._wanted = self._settings.min_delay

    def over(self, silence: float) -> bool:
        """See :class:`~xiaozhi.interfaces.ITurnDetector`."""
        return silence >= self._wanted


def detector(settings: ListenSettings) -> ITurnDetector:
    """Make the configured turn detector for a session."""
    return TextDetector(settings) if settings.detector is Detector.TEXT else DelayDetector(settings)
