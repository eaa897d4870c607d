"""Conversation: decides who speaks, and when.

In manual mode the device marks the end of an utterance; in auto and realtime mode we find
it. In realtime mode the microphone stays open, and voice interrupts the answer (§4.4, §4.6).
:mod:`xiaozhi.ai.session.states` has the states.
"""

from __future__ import annotations

from dataclasses import replace

from twisted.logger import Logger

from xiaozhi.ai.listening.wake import is_wake_word
from xiaozhi.ai.session import wiring
from xiaozhi.ai.session.idle import Idle
from xiaozhi.ai.session.leases import Succession
from xiaozhi.ai.session.services import AgentServices
from xiaozhi.ai.session.shared import SessionServices
from xiaozhi.ai.session.states import DRAINING, MOVING, SessionEvent, SessionState, StateMachine
from xiaozhi.ai.session.tools import SessionTools
from xiaozhi.ai.timeline.timeline import Overheard
from xiaozhi.ai.turn.interruption import Interruption
from xiaozhi.ai.turn.turncontrol import Answer, TurnControl
from xiaozhi.ai.vision.pictures import sent_picture
from xiaozhi.base import trace
from xiaozhi.base.call import calling
from xiaozhi.base.errors import ProtocolError
from xiaozhi.interfaces import IRecognition
from xiaozhi.languages.texts import text
from xiaozhi.wire import messages as m

# Turn numbers reserved for each incarnation of a session.
_TURNS = 1_000_000

# Seconds without a packet after which the microphone counts as closed.
_OPEN_MICROPHONE = 2.0

# The parts that refer to the conversation.
_PARTS = (
    *("_announcements", "_context", "_control", "_end", "_idle"),
    *("_interruption", "_listener", "_roles", "_tools"),
)


class Conversation:
    """The conversation of a session, with one agent at a time.

    :param shared: includes the services of the session's first agent.
    """

    _log = Logger()

    def __init__(
        self, opening: m.SessionOpen, shared: SessionServices, end: wiring.EdgeSide
    ) -> None:
        self._opening = opening
        self._id = opening.session_id
        self._shared = shared
        self._clock = shared.clock
        self._end = end
        self._request: trace.TracedMessage | None = None  # the newest message
        self._status = StateMachine()
        self._last_sound = 0.0  # in seconds of the clock
        self._succession = Succession(shared.agent)
        self._tools = SessionTools(opening, end.send, shared, self._end_after_answer)
        self._roles = wiring.make_roles(opening, shared)
        self._tools.offer("roles", self._roles.tools)
        self._context = wiring.make_context(opening, shared, self._tools, self._roles, end)
        self._listener = wiring.make_listener(shared, lambda: self._context.call(), self)
        self._announcements = wiring.make_announcements(self._id, shared, self)
        # The edge may still play and report turns of an earlier incarnation.
        first = (opening.incarnation - 1) * _TURNS
        output = wiring.make_output(opening, shared, end)
        self._control = TurnControl(first, self._context, output, self._answered)
        settings = shared.settings
        self._interruption = Interruption(
            self._id, self._control, settings.listen, settings.turn.recognize, self._clock, self
        )
        self._idle = Idle(opening.device.device_id, settings.idle, self._clock, self._quiet)

    @property
    def state(self) -> SessionState:
        """The state of the conversation."""
        return self._status.state

    # --- from the edge ----------------------------------------------------------------

    def hear(self, audio: m.Audio, request: trace.TracedMessage | None) -> None:
        """Handle an audio packet of the device."""
        self._request = request
        self._shared.counts.frames_up += 1
        status = self._status
        # When idle, the sound precedes the report of a wake word or a ``listen start`` (§4.4).
        if not status.hears:
            return
        self._last_sound = self._clock.seconds()
        if audio.payload:
            self._listener.hear(audio.payload)
        elif status.state is SessionState.LISTENING and (
            self._listener.busy or status.mode is not m.ListenMode.REALTIME
        ):
            # A browser ends a recording with an empty packet (§13); in realtime mode this
            # ends the utterance only.
            self._listen_stopped(0)

    def handle(self, message: m.Uplink, request: trace.TracedMessage | None) -> None:
        """Handle any other message of the edge."""
        self._request = request
        self._shared.counts.messages.add("up", type(message).__name__.lower())
        match message:
            case m.Listen(state=m.ListenState.START, mode=mode, turn=turn):
                self._listen(mode, turn)
            case m.Listen(state=m.ListenState.STOP, packets=packets):
                self._listen_stopped(packets)
            case m.Listen(text=words):
                self._detected(words)
            case m.Chat(text=words):
                self._typed(words)
            case m.Say(text=words):
                self._announcements.ask(words)
            case m.Abort():
                self._stop_answer()
                self._announcements.interrupted()
                self._rest()
            case m.Playback():
                self._played(message)
            case m.Mcp() | m.Iot():
                self._tools.received(message)
            case m.Image():
                self._shown(message)
            case m.Vision(command=command):
                self._end.send(m.Error("unsupported", f"vision command {command!r}"))
            case m.Ping():
                self._end.send(m.Pong(int(self._shared.runtime.seconds() * 1000)))
            case m.Goodbye():
                self._end.end("goodbye")
            case m.Leave():
                self._status.leave(DRAINING)
            case m.Unknown(type=kind):
                self._log.debug("{session_id}: ignored a {kind}", session_id=self._id, kind=kind)
        if self._status.leaving:
            self._leave_at_rest()

    def draining(self) -> None:
        """End the session as soon as it is at rest: this process stops."""
        self._status.leave(MOVING)
        self._leave_at_rest()

    def adopt(self, services: AgentServices) -> None:
        """Switch to another agent, or another version of it, at the next turn."""
        self._succession.put(services)

    def close(self) -> None:
        """End the conversation and all its work."""
        self._status.on(SessionEvent.CLOSE)
        self._interruption.forget()
        self._idle.busy()
        self._control.cancel()
        self._context.dialogue.close()
        self._listener.close()
        self._announcements.forget()
        self._shared.counts.bad_packets += self._listener.bad_packets
        self._tools.close()
        self._succession.close()
        # Later: the caller may be one of the parts.
        self._clock.callLater(0, self._let_go)

    def _let_go(self) -> None:
        """Break the reference cycles with the parts, so that their memory is freed now: the
        garbage collector seldom runs."""
        for part in _PARTS:
            delattr(self, part)

    # --- listening ----------------------------------------------------------------------

    def _listen(self, mode: m.ListenMode, turn: int) -> None:
        """:param turn: the turn that the device interrupts, in the edge's judgement."""
        status = self._status
        status.listen_in(mode)
        manual = mode is m.ListenMode.MANUAL
        if status.answering:
            # Before the answer has started, the device cannot interrupt it: the message belongs
            # to the previous utterance and only changes the mode (§4.4, §4.6).
            unheard = status.state is SessionState.ANSWERING_PRESS and not self._control.started
            if not (manual or unheard or turn == self._control.turns):
                return
            self._stop_answer()
            self._announcements.interrupted()
        status.on(SessionEvent.LISTEN)
        self._listener.listen(manual=manual)
        if manual:
            self._interruption.forget()
            self._idle.busy()
            return
        self._idle.listening()
        self._announcements.started()
        self._announcements.offer()

    def _listen_stopped(self, packets: int) -> None:
        """:param packets: packets that the device has sent since the button was pressed."""
        if self._status.state is not SessionState.LISTENING:
            return
        self._idle.busy()
        manual = self._status.mode is m.ListenMode.MANUAL
        lost = manual and self._listener.packets < packets
        recognition = self._listener.take()
        if recognition is not None:
            self._answer_utterance(
                recognition, SessionEvent.PRESS_TURN if manual else SessionEvent.TURN
            )
            return
        self._status.on(SessionEvent.NO_UTTERANCE)
        if lost:
            # Packets were dropped because they were too late, and the person expects an answer.
            self._end.send(wiring.sound_lost(self._context.talk.current))
        self._at_rest()

    def utterance_ended(self, recognition: IRecognition) -> None:
        """Answer an utterance that the endpointer has ended."""
        self._answer_utterance(recognition, SessionEvent.TURN)

    def _answer_utterance(self, recognition: IRecognition, event: SessionEvent) -> None:
        if self._status.answering or self._interruption.deciding:
            with calling(self._context.call()):
                self._interruption.utterance_ended(recognition)
        else:
            after = self._context.echo.after(self._listener.began)
            self._begin(
                lambda turn: turn.answer(recognition.finish(), spoken=True, after=after), event
            )

    def voice_heard(self, milliseconds: int) -> None:
        """Consider voice as an interruption; without an answer, restart the idle time."""
        if self._status.answering:
            self._interruption.voice_heard(milliseconds)
        else:
            self._idle.listening()

    def noise_heard(self) -> None:
        """Continue after noise."""
        if self._status.answering:
            self._interruption.noise_heard()
        else:
            self._at_rest()

    def words_heard(self, text: str) -> None:
        """Consider words over an answer as an interruption."""
        if self._status.answering:
            self._interruption.words_heard(text)

    # --- interruption -------------------------------------------------------------------

    def speaking(self) -> bool:
        """Return whether a person is in the middle of an utterance."""
        return self._listener.busy

    def interrupted_by(self, over: Overheard) -> None:
        """Answer the words over the answer; a further utterance may already be open."""
        self._begin(lambda turn: turn.answer_overheard(over), afresh=False)

    def undisturbed(self) -> None:
        """Continue: no utterance over the answer had words."""
        self._at_rest()

    def talked_over(self) -> None:
        """Cancel the answer and listen: a person keeps talking over it."""
        self._stop_answer()
        self._announcements.interrupted()
        self._status.on(SessionEvent.TALKED_OVER)
        self._idle.listening()

    # --- other ways to begin a turn -------------------------------------------------------

    def may_announce(self) -> bool:
        """Return whether an announcement may start: nobody speaks."""
        return self._resting and not self._listener.busy and self._status.leaving != DRAINING

    def announce(self, answer: Answer) -> None:
        """Start the turn of an announcement."""
        self._begin(answer)

    def _detected(self, words: str) -> None:
        wake = self._shared.settings.wake
        if not is_wake_word(words, wake.words):
            self._typed(words)
            return
        # An open microphone also picks up the word itself.
        if greetings := self._roles.greetings:
            greeting = greetings[self._control.turns % len(greetings)]
            self._begin(lambda turn: turn.greet(words, greeting))
        elif self._status.answering:
            self._stop_answer()
            self._announcements.interrupted()
            self._listener.forget()
            self._rest()
        elif self._status.mode is not m.ListenMode.MANUAL:
            self._listener.listen(manual=False)
            self._announcements.offer()
        self._listener.skip(wake.tail)

    def _typed(self, words: str) -> None:
        if words.strip():
            self._begin(lambda turn: turn.answer(wiring.typed(words)))

    def _shown(self, image: m.Image) -> None:
        question = image.text or text("photo_question", self._context.talk.current)
        try:
            picture = sent_picture(image.data, self._shared.settings.max_pixels)
        except ProtocolError as error:
            self._end.send(m.Error(error.code, error.message))
            return
        # The lambda finds the agent after _begin() has adopted a new one.
        self._begin(
            lambda turn: turn.recite(question, self._shared.agent.vlllm.describe(picture, question))
        )

    # --- the turn ---------------------------------------------------------------------------

    def _begin(
        self, answer: Answer, event: SessionEvent = SessionEvent.TURN, *, afresh: bool = True
    ) -> None:
        """Cancel the running turn, if any, and start another.

        :param afresh: drop the open utterance.
        """
        self._idle.busy()
        if self._succession.pending:
            self._adopt_next()
        if afresh:
            self._interruption.forget()
            self._listener.listen(manual=False)
        self._status.on(event)
        with calling(self._context.call()):
            self._control.begin(answer, self._request)

    def _adopt_next(self) -> None:
        """Switch to another agent between two turns; keep the dialogue and the device's tools."""
        self._control.cancel()
        services = self._succession.advance()
        shared = self._shared = replace(self._shared, agent=services)
        settings = shared.settings
        roles = wiring.make_roles(self._opening, shared)
        roles.recalled(self._roles.name)
        self._roles = roles
        self._tools.adopt(shared)
        self._tools.offer("roles", roles.tools)
        self._context = wiring.adopted_context(self._context, self._opening, shared)
        self._context.dialogue.adopt(roles, services.llm, settings.dialogue)
        self._listener.adopt(
            wiring.ContextRecognizer(services.asr, lambda: self._context.call()),
            services.vad.detector(),
            settings.listen,
        )
        output = wiring.make_output(self._opening, shared, self._end)
        self._control.adopt(self._context, output)
        self._interruption.adopt(settings.listen, settings.turn.recognize)
        self._announcements.adopt(settings.announcements, settings.announce)
        self._idle.adopt(self._opening.device.device_id, settings.idle)

    def _answered(self) -> None:
        """Continue after a turn that was not cancelled. If an utterance over it is still being
        recognised, it is answered later."""
        self._succession.settle()
        # The sound of the wake word is over.
        self._listener.skip(0.0)
        if self._status.state is SessionState.LAST_ANSWER:
            self._end.end("farewell")
            return
        if self._control.cut:
            self._announcements.interrupted()
        else:
            self._announcements.answered(starts=self._status.mode is m.ListenMode.AUTO)
        self._rest()
        self._leave_at_rest()

    def _played(self, report: m.Playback) -> None:
        current = report.turn == self._control.turns
        if current and report.state is m.PlaybackState.FLUSHED:
            # A farewell that was cut off must not end the session.
            self._status.on(SessionEvent.CUT_OFF)
        self._control.playback(report)
        early = current and report.state is m.PlaybackState.FINISHED and self._control.taken
        if early and self._status.leaving == DRAINING:  # no further sentence begins
            self._stop_answer()
            self._rest()

    def _stop_answer(self) -> None:
        self._context.confirmation.forget()
        self._interruption.forget()
        self._control.cancel()
        if self._status.answering:
            self._listener.skip(0.0)

    def _rest(self) -> None:
        """Listen again after an answer, unless a button starts listening: realtime devices and
        browsers send no further ``listen start`` (§4.4, §13)."""
        self._status.rest()
        if self._status.mode is m.ListenMode.MANUAL:
            self._listener.forget()
        else:
            # An utterance over the end of the answer may be open.
            if not self._listener.busy:
                self._listener.listen(manual=False)
            self._idle.listening()
        self._announcements.offer()

    def _at_rest(self) -> None:
        """Do the work that waits for rest."""
        self._announcements.offer()
        self._leave_at_rest()

    def _leave_at_rest(self) -> None:
        leaving = self._status.leaving
        if not leaving or not self._resting:
            return
        # Queued announcements would be lost in a move.
        stays = leaving == MOVING and self._announcements.waiting
        quiet = self._status.state is SessionState.IDLE or not self._listener.busy
        if quiet and not stays:
            self._end.end(leaving)

    def _quiet(self) -> None:
        """Say goodbye or end the session: nobody has spoken for the idle time."""
        if self._listener.busy:
            self._idle.listening()
            return
        # A device that has stopped sending sound no longer listens.
        deaf = self._clock.seconds() - self._last_sound > _OPEN_MICROPHONE
        if self._shared.settings.idle.farewell and not deaf:
            self._begin(lambda turn: turn.bid_farewell(), SessionEvent.LAST_TURN)
        else:
            self._end.end("farewell")

    @property
    def _resting(self) -> bool:
        """Whether no turn runs and no utterance over the last answer is being recognised."""
        status = self._status
        return (
            not status.answering
            and status.state is not SessionState.CLOSED
            and not self._interruption.deciding
        )

    def _end_after_answer(self) -> None:
        self._status.on(SessionEvent.END_REQUESTED)
