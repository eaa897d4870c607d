"""Effects of a device's messages at the edge: interruption, and pending questions."""

from __future__ import annotations

from dataclasses import replace

from xiaozhi.im.playout.alertsound import AlertSound
from xiaozhi.im.session.answers import Answers, Awaited
from xiaozhi.im.session.delivery import Delivery
from xiaozhi.im.session.turngate import TurnGate, is_press
from xiaozhi.im.sessionlog.record import Record
from xiaozhi.wire import messages as m

# A device sends these only if its button was released before.
_NOT_PRESSED = frozenset((m.Abort, m.Chat, m.Image, m.Listen))


class Intake:
    """Acts on a device's messages at the edge, before the AI receives them."""

    __slots__ = ("_alert_sound", "_answers", "_down", "_record", "_turns")

    def __init__(self, down: Delivery, turns: TurnGate, answers: Answers, record: Record) -> None:
        self._down = down
        self._turns = turns
        self._answers = answers
        self._record = record
        self._alert_sound: AlertSound = down.alert_sound

    def take(self, message: m.DeviceText, now: float) -> m.DeviceText:
        """Act on a message.

        :return: the message for the AI.
        """
        packets = self._record.frames
        message = self._controlled(message, now)
        match message:
            case m.Abort():
                self._record.utterance_over()
            case m.Listen():
                return self._listens(message, packets)
            case m.Chat():
                self._answers.asks(Awaited.WORDS, message)
            case m.Image():
                self._answers.asks(Awaited.PICTURE, message)
            case _:
                pass
        return message

    def _controlled(self, message: m.DeviceText, now: float) -> m.DeviceText:
        """Stop playback at once when the device interrupts, without waiting for the AI (§4.6)."""
        down = self._down
        turn = down.turn
        press = is_press(message)
        if type(message) in _NOT_PRESSED and not press:
            down.let_go()
        if self._turns.interrupts(message, now, down.heard_since):
            self._answers.asks(Awaited.NOTHING)
            down.cut(hold=press)
            if type(message) is m.Listen and message.state is m.ListenState.START:
                return replace(message, turn=turn or 0)
        return message

    def _listens(self, message: m.Listen, packets: int) -> m.Listen:
        """:param packets: audio packets since the microphone was opened."""
        self._record.utterance_over()
        turns, answers = self._turns, self._answers
        match message.state:
            case m.ListenState.START:
                # Devices start to listen by themselves after a turn: no new question.
                answers.listens()
                if message.mode is m.ListenMode.MANUAL:
                    self._alert_sound.pressed()
                turns.listens(message)
            case m.ListenState.STOP:
                pressed = turns.listened()
                message = replace(message, packets=packets)
                said = (message,) if pressed is None else (pressed, message)
                answers.asks(Awaited.SOUND, *said)
            case m.ListenState.DETECT:
                answers.asks(Awaited.WORDS, message)
        return message
