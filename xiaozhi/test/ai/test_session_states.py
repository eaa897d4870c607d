"""The table of a session's states and events."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.ai.session.states import (
    DRAINING,
    MOVING,
    TRANSITIONS,
    SessionEvent,
    SessionState,
    StateMachine,
)
from xiaozhi.wire.messages import ListenMode

State, Event = SessionState, SessionEvent
ANSWERING = {State.ANSWERING, State.ANSWERING_PRESS, State.LAST_ANSWER}
TURNS = {
    Event.TURN: State.ANSWERING,
    Event.PRESS_TURN: State.ANSWERING_PRESS,
    Event.LAST_TURN: State.LAST_ANSWER,
}


class TableTests(SynchronousTestCase):
    def test_every_pair_is_defined(self) -> None:
        self.assertEqual(set(TRANSITIONS), set(product(State, Event)))

    def test_a_closed_session_stays_closed(self) -> None:
        for event in Event:
            self.assertIs(TRANSITIONS[State.CLOSED, event], State.CLOSED, event)

    def test_each_state_can_be_closed(self) -> None:
        for state in State:
            self.assertIs(TRANSITIONS[state, Event.CLOSE], State.CLOSED, state)

    def test_only_turns_begin_to_answer(self) -> None:
        for (state, event), target in TRANSITIONS.items():
            if event in TURNS and state is not State.CLOSED:
                self.assertIs(target, TURNS[event], (state, event))
            elif target in ANSWERING:
                self.assertIn(state, ANSWERING, (state, event))

    def test_only_rest_and_an_interruption_end_an_answer(self) -> None:
        ends = {event for state in ANSWERING for event in Event
            if TRANSITIONS[state, event] not in ANSWERING}  # fmt: skip
        self.assertEqual(
            ends,
            {Event.LISTEN, Event.TALKED_OVER, Event.REST, Event.REST_BY_BUTTON, Event.CLOSE},
        )

    def test_a_last_answer(self) -> None:
        """A tool's request to end holds for the running turn; an interrupted one is no farewell."""
        for state in State:
            wished = TRANSITIONS[state, Event.END_REQUESTED]
            self.assertIs(wished, State.LAST_ANSWER if state in ANSWERING else state)
            self.assertIsNot(TRANSITIONS[state, Event.CUT_OFF], State.LAST_ANSWER)
            if state is not State.LAST_ANSWER:
                self.assertIs(TRANSITIONS[state, Event.CUT_OFF], state)

    def test_no_utterance_ends_listening_only(self) -> None:
        for state in State:
            after = State.IDLE if state is State.LISTENING else state
            self.assertIs(TRANSITIONS[state, Event.NO_UTTERANCE], after)


class StatusTests(SynchronousTestCase):
    @given(st.lists(st.one_of(st.sampled_from(Event), st.sampled_from(ListenMode))))
    def test_flags_follow(self, steps: list[SessionEvent | ListenMode]) -> None:
        status = StateMachine()
        for step in steps:
            if isinstance(step, ListenMode):
                status.listen_in(step)
            else:
                status.on(step)
            self.assertEqual(status.answering, status.state in ANSWERING)
            realtime = status.answering and status.mode is ListenMode.REALTIME
            self.assertEqual(status.hears, status.state is State.LISTENING or realtime)

    def test_a_new_session_hears_nothing(self) -> None:
        status = StateMachine()
        self.assertEqual((status.answering, status.hears), (False, False))

    def test_rest(self) -> None:
        for mode in ListenMode:
            status = StateMachine()
            status.on(Event.TURN)
            status.listen_in(mode)
            status.rest()
            manual = mode is ListenMode.MANUAL
            self.assertIs(status.state, State.IDLE if manual else State.LISTENING, mode)

    def test_which_process_stops(self) -> None:
        for codes, leaving in (
            ((), ""),
            ((MOVING,), MOVING),
            ((DRAINING,), DRAINING),
            ((MOVING, DRAINING), DRAINING),
            ((DRAINING, MOVING), DRAINING),
        ):
            status = StateMachine()
            for code in codes:
                status.leave(code)
            self.assertEqual(status.leaving, leaving, codes)
