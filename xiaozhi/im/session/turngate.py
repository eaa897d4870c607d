"""Interruption by a device's messages: decides which of them end the current turn."""

from __future__ import annotations

from collections import deque

from xiaozhi.im.settings import LinkSettings
from xiaozhi.wire import messages as m

# Maximum number of expected automatic starts; py-xiaozhi sends two after an `abort`.
_MOST = 8


def is_press(message: m.DeviceText) -> bool:
    """Return whether the message reports a button press (push-to-talk)."""
    return (
        type(message) is m.Listen
        and message.state is m.ListenState.START
        and message.mode is m.ListenMode.MANUAL
    )


class TurnGate:
    """Decides by the sound that the device can have played when it sent a message.

    In auto mode a device sends a ``listen start`` by itself after each ``tts stop``
    (60 ms to seconds later, §4.4), and in auto and realtime mode after ``abort`` and
    ``detect`` (§4.6). Such a start may arrive while the next turn is already playing: it
    belongs to the previous turn and does not interrupt.
    """

    __slots__ = ("_expected", "_microphone", "_mode", "_settings")

    def __init__(self, settings: LinkSettings) -> None:
        self._settings = settings
        self._microphone: m.Listen | None = None
        # Firmware starts in auto mode: it may receive speech before its first message.
        self._mode = m.ListenMode.AUTO
        # Time limits of the expected automatic starts, oldest first.
        self._expected: deque[float] = deque(maxlen=_MOST)

    @property
    def microphone(self) -> m.Listen | None:
        """The ``listen start`` that opened the microphone; None: it is closed."""
        return self._microphone

    def listens(self, start: m.Listen) -> None:
        """Note that the device has opened its microphone."""
        self._microphone = start

    def listened(self) -> m.Listen | None:
        """Note that it has closed it.

        :return: the message that had opened it.
        """
        start, self._microphone = self._microphone, None
        return start

    def stopped(self, now: float) -> None:
        """Handle a ``tts stop`` that was sent to the device."""
        # In realtime mode the microphone never closed; in manual mode the button opens it.
        if self._mode is m.ListenMode.AUTO:
            self._expect(now + self._settings.restart_timeout)

    def interrupts(self, message: m.DeviceText, now: float, heard_since: float | None) -> bool:
        """Return whether a message interrupts the current turn.

        :param heard_since: clock time at which the first sound of the turn was sent; None: no
            turn, or no sound yet.
        """
        match message:
            case m.Abort():
                if heard_since is not None and self._mode is not m.ListenMode.MANUAL:
                    self._expect(now + self._settings.follow_timeout)
                return True
            case m.Image():
                return True
            case m.Chat(text=words):
                return bool(words.strip())
            case m.Listen(state=m.ListenState.DETECT, text=words):
                self._expect(now + self._settings.follow_timeout)
                return bool(words.strip())
            case m.Listen(state=m.ListenState.START, mode=mode):
                self._mode = mode
                if mode is m.ListenMode.MANUAL:
                    self._expected.clear()
                    return True
                if self._follows(now) or heard_since is None:
                    return False
                # No person reacts faster: the message was sent before the turn was heard.
                return now - heard_since >= self._settings.reaction_time
            case _:
                return False

    def _expect(self, until: float) -> None:
        self._expected.append(until)

    def _follows(self, now: float) -> bool:
        """Return whether a start was expected, and remove that expectation."""
        expected = self._expected
        while expected:
            if expected.popleft() >= now:
                return True
        return False
