"""The sound of a button press, until there is a voice in it."""

from __future__ import annotations

from collections import deque

from xiaozhi.agents.settings import ListenSettings
from xiaozhi.ai.listening.endpointer import FRAME_BYTES, FRAME_MS
from xiaozhi.interfaces import IVoiceActivity

# Seconds of sound kept from before a voice is noticed: quiet beginnings are not lost.
_LEAD = 3.0


class Press:
    """Holds a press back from the recogniser while it has no voice.

    In manual mode the person says where an utterance begins and ends (§4.4), but a tap, or
    a press in silence, in noise or during DTX is no utterance: vendors make up words for it.

    :ivar voiced: whether it has had ``listen.min_speech`` of voice.
    """

    def __init__(self, activity: IVoiceActivity, settings: ListenSettings) -> None:
        self._activity = activity
        self._least = max(1, round(settings.min_speech * 1000 / FRAME_MS))
        self._recent: deque[bytes] = deque(maxlen=round(_LEAD * 1000 / FRAME_MS))
        self.begin()

    def begin(self) -> None:
        """Start afresh: the button is pressed, or the utterance is dropped."""
        self.voiced = False
        self._voiced = 0
        self._rest = b""
        self._recent.clear()

    def feed(self, pcm: bytes) -> bytes:
        """Take more sound.

        :param pcm: s16le mono at 16 kHz, any length.
        :return: what is to be recognised now: nothing before there is a voice.
        """
        if self.voiced:
            return pcm
        data = self._rest + pcm
        whole = len(data) - len(data) % FRAME_BYTES
        self._rest = data[whole:]
        for at in range(0, whole, FRAME_BYTES):
            frame = data[at : at + FRAME_BYTES]
            self._recent.append(frame)
            self._voiced += self._activity.is_speech(frame)
        if self._voiced < self._least:
            return b""
        self.voiced = True
        sound = b"".join(self._recent) + self._rest
        self._recent.clear()
        return sound
