"""States of a session: a transition table, and flags for fast checks of packets.

Pure: no clock, no I/O. The table has a row for each event and a column for each state.
:class:`~xiaozhi.ai.session.conversation.Conversation` carries out the transitions' effects.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from types import MappingProxyType
from typing import Final

from xiaozhi.wire.messages import ListenMode

#: Codes with which a session ends at rest because its AI process or its edge stops.
MOVING, DRAINING = "moving", "draining"


class SessionState(Enum):
    """The state of a conversation.

    :cvar IDLE: no turn runs, and the device does not listen.
    :cvar LISTENING: the device listens, or a button is pressed.
    :cvar ANSWERING: a turn runs.
    :cvar ANSWERING_PRESS: a turn runs for an utterance whose button was released.
    :cvar LAST_ANSWER: a turn runs, and the session ends after it.
    :cvar CLOSED: the session is over.
    """

    IDLE = auto()
    LISTENING = auto()
    ANSWERING = auto()
    ANSWERING_PRESS = auto()
    LAST_ANSWER = auto()
    CLOSED = auto()


class SessionEvent(Enum):
    """A control event.

    :cvar LISTEN: a ``listen start`` of the device was accepted (§4.4).
    :cvar NO_UTTERANCE: listening stopped without an utterance.
    :cvar TURN: a turn begins.
    :cvar PRESS_TURN: a turn begins for an utterance whose button was released.
    :cvar LAST_TURN: a turn begins, after which the session is to end.
    :cvar END_REQUESTED: a tool asks to end the session after the running turn.
    :cvar CUT_OFF: the edge dropped the rest of the running turn.
    :cvar TALKED_OVER: a person keeps talking over the answer, so it is cancelled.
    :cvar REST: no turn runs any more, and the device continues to listen.
    :cvar REST_BY_BUTTON: no turn runs any more, and a button press starts listening.
    :cvar CLOSE: the session ends.
    """

    LISTEN = auto()
    NO_UTTERANCE = auto()
    TURN = auto()
    PRESS_TURN = auto()
    LAST_TURN = auto()
    END_REQUESTED = auto()
    CUT_OFF = auto()
    TALKED_OVER = auto()
    REST = auto()
    REST_BY_BUTTON = auto()
    CLOSE = auto()


def _table() -> Mapping[tuple[SessionState, SessionEvent], SessionState]:
    idle, listening, answering, press, last, closed = SessionState
    event = SessionEvent
    rows = {
        # in:                   idle       listening  answering  …press     last       closed
        event.LISTEN:          (listening, listening, listening, listening, listening, closed),
        event.NO_UTTERANCE:    (idle,      idle,      answering, press,     last,      closed),
        event.TURN:            (answering, answering, answering, answering, answering, closed),
        event.PRESS_TURN:      (press,     press,     press,     press,     press,     closed),
        event.LAST_TURN:       (last,      last,      last,      last,      last,      closed),
        event.END_REQUESTED:   (idle,      listening, last,      last,      last,      closed),
        event.CUT_OFF:         (idle,      listening, answering, press,     answering, closed),
        event.TALKED_OVER:     (idle,      listening, listening, listening, listening, closed),
        event.REST:            (listening, listening, listening, listening, listening, closed),
        event.REST_BY_BUTTON:  (idle,      idle,      idle,      idle,      idle,      closed),
        event.CLOSE:           (closed,    closed,    closed,    closed,    closed,    closed),
    }  # fmt: skip
    return MappingProxyType(
        {
            (state, occurred): target
            for occurred, targets in rows.items()
            for state, target in zip(SessionState, targets, strict=True)
        }
    )


#: The state after an event, for every pair of a state and an event.
TRANSITIONS: Final = _table()

_ANSWERING = (SessionState.ANSWERING, SessionState.ANSWERING_PRESS, SessionState.LAST_ANSWER)


class StateMachine:
    """The state of one session, and flags that depend on it.

    The flags are attributes, not properties, as some are read for every packet.

    :ivar mode: mode of the device's last ``listen start``.
    :ivar leaving: the code with which the session ends as soon as it is at rest; empty: no
        process stops.
    :ivar answering: whether a turn runs.
    :ivar hears: whether the device's sound is processed; during a turn only in realtime mode,
        in which devices cancel their own echo (§4.6).
    """

    __slots__ = ("answering", "hears", "leaving", "mode", "state")

    def __init__(self) -> None:
        self.state = SessionState.IDLE
        self.mode = ListenMode.AUTO
        self.leaving = ""
        self.answering = self.hears = False

    def on(self, event: SessionEvent) -> None:
        """Move to the state that follows an event."""
        self.state = TRANSITIONS[self.state, event]
        self._derive()

    def listen_in(self, mode: ListenMode) -> None:
        """Set the mode of a ``listen start``, whether accepted or not."""
        self.mode = mode
        self._derive()

    def rest(self) -> None:
        """Return to rest after an answer, as the device's mode requires."""
        manual = self.mode is ListenMode.MANUAL
        self.on(SessionEvent.REST_BY_BUTTON if manual else SessionEvent.REST)

    def leave(self, code: str) -> None:
        """Set the code of a stopping process; a stopping edge takes precedence over our own."""
        if code == DRAINING or not self.leaving:
            self.leaving = code

    def _derive(self) -> None:
        self.answering = self.state in _ANSWERING
        self.hears = self.state is SessionState.LISTENING or (
            self.answering and self.mode is ListenMode.REALTIME
        )
