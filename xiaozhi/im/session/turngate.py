"""Interruption by a device's messages: which of them end the turn it hears."""

from __future__ import annotations

from collections import deque

from xiaozhi.im.settings import LinkSettings
from xiaozhi.wire import messages as m

# Automatic starts that can be expected at a time; py-xiaozhi owes two after an `abort`.
_MOST = 8


def is_press(message: m.DeviceText) -> bool:
    """Whether the button is pressed down (press-to-talk)."""
    return (
        type(message) is m.Listen
        and message.state is m.ListenState.START
        and message.mode is m.ListenMode.MANUAL
    )


class TurnGate:
    """Judges a device's messages by what the device can have heard when it sent them.

    In auto mode a device sends a ``listen start`` by itself after each ``tts stop``
    (60 ms to seconds later, §4.4), and in auto and realtime after ``abort`` and
    ``detect`` (§4.6). Such a start may arrive while the next turn is already being
    played: it belongs to the turn before and interrupts nothing.

    :ivar microphone: the ``listen start`` that opened the microphone; None: it is closed.
        Set by the link.
    """

    __slots__ = ("_expected", "_mode", "_settings", "microphone")

    def __init__(self, settings: LinkSettings) -> None:
        self._settings = settings
        self.microphone: m.Listen | None = None
        # Firmware expects one at first: it may be sent speech before it has said anything.
        self._mode = m.ListenMode.AUTO
        # Until when each automatic start may come; the oldest first.
        self._expected: deque[float] = deque(maxlen=_MOST)

    def stopped(self, now: float) -> None:
        """Note that the device has been sent a ``tts stop``."""
        # In realtime its microphone never closed, in manual it waits for the button.
        if self._mode is m.ListenMode.AUTO:
            self._expect(now + self._settings.restart_timeout)

    def interrupts(self, message: m.DeviceText, now: float, heard_since: float | None) -> bool:
        """Decide whether a message interrupts the current turn.

        :param heard_since: when the first sound of the turn was sent; None: no sound of
            a turn that is not over has been sent.
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
                # No person reacts faster: the message was sent before any of the turn was heard.
                return now - heard_since >= self._settings.reaction_time
            case _:
                return False

    def _expect(self, until: float) -> None:
        self._expected.append(until)

    def _follows(self, now: float) -> bool:
        """Match an automatic start to one that is expected, if any."""
        expected = self._expected
        while expected:
            if expected.popleft() >= now:
                return True
        return False
