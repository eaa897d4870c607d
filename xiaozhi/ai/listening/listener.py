"""Utterance listener: Opus packets in, recognitions of utterances out."""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from xiaozhi.agents.settings import ListenSettings
from xiaozhi.ai.listening.echo import NEVER
from xiaozhi.ai.listening.endpointer import (
    SAMPLE_RATE,
    Endpointer,
    SpeechBegan,
    SpeechEnded,
    SpeechWent,
)
from xiaozhi.ai.listening.press import Press
from xiaozhi.ai.listening.turndetectors import detector
from xiaozhi.audio import OpusDecoder
from xiaozhi.base.errors import ProtocolError
from xiaozhi.interfaces import IRecognition, IRecognizer, IVoiceActivity


class UtteranceEvents(Protocol):
    """Observes an :class:`UtteranceListener`."""

    def utterance_ended(self, recognition: IRecognition) -> None:
        """An utterance has ended; the recogniser has received all its sound."""

    def voice_heard(self, milliseconds: int) -> None:
        """The open utterance has more sound, with this much voice in total."""

    def noise_heard(self) -> None:
        """The open utterance was too short to be speech and was dropped."""

    def words_heard(self, text: str) -> None:
        """The recogniser has an interim text of the open utterance."""


class UtteranceListener:
    """Cuts a device's sound into utterances and feeds each to a recogniser.

    The recogniser receives sound while the person still speaks.

    :ivar began: clock time at which the newest utterance began; ``NEVER`` for one by button.
    :ivar packets: packets received since the last :meth:`listen`.
    :ivar bad_packets: packets that could not be decoded.
    """

    _log = Logger()

    def __init__(
        self,
        recognizer: IRecognizer,
        activity: IVoiceActivity,
        settings: ListenSettings,
        clock: IReactorTime,
        events: UtteranceEvents,
    ) -> None:
        self._decoder = OpusDecoder(SAMPLE_RATE)
        self._clock = clock
        self._events = events
        self._pressed = False
        self._recognition: IRecognition | None = None
        self._stall: IDelayedCall | None = None
        self._fed = 0
        self._skip = 0
        self.packets = 0
        self.bad_packets = 0
        self.began = clock.seconds()
        self._equip(recognizer, activity, settings)
        self._next: tuple[IRecognizer, IVoiceActivity, ListenSettings] | None = None

    def adopt(
        self, recognizer: IRecognizer, activity: IVoiceActivity, settings: ListenSettings
    ) -> None:
        """Switch to other providers and settings from the next utterance on."""
        self._next = recognizer, activity, settings
        if not self.busy:
            self.forget()

    def _equip(
        self, recognizer: IRecognizer, activity: IVoiceActivity, settings: ListenSettings
    ) -> None:
        self._recognizer = recognizer
        self._settings = settings
        self._endpointer = Endpointer(activity, detector(settings), settings)
        self._press = Press(activity, settings)
        # Limit of a manual utterance, in bytes of sound.
        self._most = int(settings.max_utterance * SAMPLE_RATE * 2)

    def listen(self, *, manual: bool) -> None:
        """Drop the open utterance, if any, and listen for a new one.

        :param manual: the device marks the end of the utterance, see :meth:`take` (§4.4).
        """
        self.forget()
        self._pressed = manual
        self.packets = 0

    def skip(self, seconds: float) -> None:
        """Ignore the next seconds of sound."""
        self._skip = int(seconds * SAMPLE_RATE) * 2

    def hear(self, packet: bytes) -> None:
        """Process one Opus packet; an invalid one is counted and skipped."""
        self.packets += 1
        try:
            pcm = self._decoder.decode(packet)
        except ProtocolError:
            self.bad_packets += 1
            return
        if self._skip:
            skipped = min(self._skip, len(pcm))
            self._skip -= skipped
            pcm = pcm[skipped:]
        if self._pressed:
            sound = self._press.feed(pcm)
            if self._recognition is not None:
                self._feed(sound)
            elif sound:
                self._begin(sound)
            return
        for event in self._endpointer.feed(pcm):
            match event:
                case SpeechBegan(pcm=sound):
                    self._begin(sound)
                case SpeechWent(pcm=sound):
                    self._feed(sound)
                case SpeechEnded(noise=True):
                    self._drop()
                    self._events.noise_heard()
                case SpeechEnded():
                    self._end()
        if self._endpointer.in_speech:
            self._watch()
            self._events.voice_heard(self._endpointer.voiced_ms)

    @property
    def busy(self) -> bool:
        """Whether an utterance is open, or the button is pressed."""
        return self._recognition is not None or self._pressed

    def take(self) -> IRecognition | None:
        """End the open utterance: the device has marked its end.

        :return: its recognition; None: there was no utterance, or no voice in it.
        """
        recognition, self._recognition = self._recognition, None
        self.forget()
        return recognition

    def forget(self) -> None:
        """Drop an open utterance."""
        self._drop()
        self._pressed = False
        if self._next is not None:
            equipment, self._next = self._next, None
            self._equip(*equipment)
        self._press.begin()
        self._endpointer.reset()

    def close(self) -> None:
        """Stop listening."""
        self.forget()
        # Frees the decoder's memory now.
        self._decoder.reset()

    def _begin(self, sound: bytes) -> None:
        self._drop()
        # Speech by button is never an echo.
        self.began = NEVER if self._pressed else self._clock.seconds()
        self._recognition = self._recognizer.recognition(self._understood)
        self._fed = 0
        self._feed(sound)

    def _feed(self, sound: bytes) -> None:
        if self._recognition is None or self._fed > self._most:
            return
        self._fed += len(sound)
        self._recognition.feed(sound)

    def _understood(self, text: str) -> None:
        self._endpointer.understood(text)
        self._events.words_heard(text)

    def _end(self) -> None:
        recognition = self.take()
        if recognition is not None:
            self._events.utterance_ended(recognition)

    def _drop(self) -> None:
        self._unwatch()
        recognition, self._recognition = self._recognition, None
        if recognition is not None:
            recognition.cancel()

    def _watch(self) -> None:
        """End the utterance if its sound stops coming."""
        if self._stall is not None and self._stall.active():
            self._stall.reset(self._settings.stalled)
        else:
            self._stall = self._clock.callLater(self._settings.stalled, self._end)

    def _unwatch(self) -> None:
        if self._stall is not None and self._stall.active():
            self._stall.cancel()
        self._stall = None
