"""Sound of a button press, held back until it contains voice."""

from __future__ import annotations

from collections import deque

from xiaozhi.agents.settings import ListenSettings
from xiaozhi.ai.listening.endpointer import FRAME_BYTES, FRAME_MS
from xiaozhi.interfaces import IVoiceActivity

# Seconds of sound kept from before voice is detected, so that quiet beginnings are not lost.
_LEAD = 3.0


class Press:
    """Holds a button press back from the recogniser until it contains voice.

    In manual mode the button marks the utterance (§4.4). But a tap, or a press in silence,
    noise or DTX, is not one, and vendors invent words for such sound.

    :ivar voiced: whether the press has contained ``listen.min_speech`` of voice.
    """

    def __init__(self, activity: IVoiceActivity, settings: ListenSettings) -> None:
        self._activity = activity
        self._least = max(1, round(settings.min_speech * 1000 / FRAME_MS))
        self._recent: deque[bytes] = deque(maxlen=round(_LEAD * 1000 / FRAME_MS))
        self.begin()

    def begin(self) -> None:
        """Drop all state: the button was pressed, or the utterance was dropped."""
        self.voiced = False
        self._voiced = 0
        self._rest = b""
        self._recent.clear()

    def feed(self, pcm: bytes) -> bytes:
        """Add sound.

        :param pcm: s16le mono at 16 kHz, any length.
        :return: the sound to recognise now; empty until there is voice.
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
