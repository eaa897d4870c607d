"""A session's hearing: Opus packets in, utterances being recognised out."""

from __future__ import annotations

from collections.abc import Callable

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


class UtteranceListener:
    """Cuts a device's sound into utterances and feeds each to a recogniser.

    Sound reaches the recogniser while the person still speaks.

    :ivar began: when the newest utterance began, on the clock; of one by a button:
        ``NEVER``.
    :param uttered: called with an utterance whose end was heard.
    :param voiced: called with the voiced sound, in ms, of the utterance that is
        open, whenever there is more.
    :param worded: called with what has been understood of it so far, if the recogniser
        tells.
    :param hushed: called when what was open turns out to be a noise.
    :ivar packets: that came since the last :meth:`listen`.
    """

    _log = Logger()

    def __init__(
        self,
        recognizer: IRecognizer,
        activity: IVoiceActivity,
        settings: ListenSettings,
        clock: IReactorTime,
        uttered: Callable[[IRecognition], None],
        voiced: Callable[[int], None],
        hushed: Callable[[], None],
        worded: Callable[[str], None],
    ) -> None:
        self._recognizer = recognizer
        self._endpointer = Endpointer(activity, detector(settings), settings)
        self._decoder = OpusDecoder(SAMPLE_RATE)
        self._settings = settings
        self._clock = clock
        self._uttered = uttered
        self._voiced = voiced
        self._hushed = hushed
        self._worded = worded
        self._press = Press(activity, settings)
        self._pressed = False
        self._recognition: IRecognition | None = None
        self._stall: IDelayedCall | None = None
        self._fed = 0
        self._skip = 0
        self.packets = 0
        self.bad_packets = 0
        self.began = clock.seconds()

    def listen(self, *, manual: bool) -> None:
        """Hear afresh; an open utterance is forgotten.

        :param manual: no end is listened for: :meth:`take` says where it is (§4.4).
        """
        self.forget()
        self._pressed = manual
        self.packets = 0

    def skip(self, seconds: float) -> None:
        """So much of the sound that comes next is not listened to."""
        self._skip = int(seconds * SAMPLE_RATE) * 2

    def hear(self, packet: bytes) -> None:
        """:param packet: one Opus packet; a broken one is counted and skipped."""
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
                    self._hushed()
                case SpeechEnded():
                    self._end()
        if self._endpointer.in_speech:
            self._watch()
            self._voiced(self._endpointer.voiced_ms)

    @property
    def busy(self) -> bool:
        """Whether somebody is in the middle of an utterance, or presses the button."""
        return self._recognition is not None or self._pressed

    def take(self) -> IRecognition | None:
        """The person said so: the utterance is over. None if there was none, or no voice
        in it."""
        recognition, self._recognition = self._recognition, None
        self.forget()
        return recognition

    def forget(self) -> None:
        """Throw an open utterance away."""
        self._drop()
        self._pressed = False
        self._press.begin()
        self._endpointer.reset()

    def close(self) -> None:
        """Hear no more."""
        self.forget()
        # It need not wait for the collector as the session does.
        self._decoder.reset()

    def _begin(self, sound: bytes) -> None:
        self._drop()
        # A button is held by a person.
        self.began = NEVER if self._pressed else self._clock.seconds()
        self._recognition = self._recognizer.recognition(self._understood)
        self._fed = 0
        self._feed(sound)

    def _feed(self, sound: bytes) -> None:
        # Bound of a manual utterance: what comes after is not recognised.
        if self._recognition is None or self._fed > self._limit:
            return
        self._fed += len(sound)
        self._recognition.feed(sound)

    def _understood(self, text: str) -> None:
        self._endpointer.understood(text)
        self._worded(text)

    @property
    def _limit(self) -> int:
        return int(self._settings.max_utterance * SAMPLE_RATE * 2)

    def _end(self) -> None:
        recognition = self.take()
        if recognition is not None:
            self._uttered(recognition)

    def _drop(self) -> None:
        self._unwatch()
        recognition, self._recognition = self._recognition, None
        if recognition is not None:
            recognition.cancel()

    def _watch(self) -> None:
        """Sound that stops coming in mid-speech ends the utterance."""
        if self._stall is not None and self._stall.active():
            self._stall.reset(self._settings.stalled)
        else:
            self._stall = self._clock.callLater(self._settings.stalled, self._end)

    def _unwatch(self) -> None:
        if self._stall is not None and self._stall.active():
            self._stall.cancel()
        self._stall = None
