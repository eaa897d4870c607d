"""One device's talk with the assistant: who is to speak, and when.

Idle, Listening, Answering, Closed. In manual mode the device says where an
utterance ends, in auto and realtime we do; in realtime the microphone stays
open and a voice interrupts the answer (§4.4, §4.6).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import Enum, auto

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from xiaozhi.ai.listening.wake import is_wake_word
from xiaozhi.ai.session import wiring
from xiaozhi.ai.session.idle import Idle
from xiaozhi.ai.session.interruption import Interruption
from xiaozhi.ai.session.shared import SharedServices
from xiaozhi.ai.session.tools import SessionTools
from xiaozhi.ai.session.turncontrol import TurnControl
from xiaozhi.ai.timeline.timeline import Overheard
from xiaozhi.ai.turn.turn import Turn
from xiaozhi.ai.vision.pictures import sent_picture
from xiaozhi.base import trace
from xiaozhi.base.errors import ProtocolError
from xiaozhi.interfaces import IRecognition, ISessionEvents, ISessionLink
from xiaozhi.languages.texts import text
from xiaozhi.runtime.cancelling import Gate
from xiaozhi.wire import messages as m

# More turns than one incarnation of a session has.
_TURNS = 1_000_000

# How a session ends when the AI's process stops, and when the edge's does.
_WE_STOP, _EDGE_STOPS = "moving", "draining"

# Seconds without a packet after which a microphone is closed.
_OPEN_MICROPHONE = 2.0


# What a session is made of, and refers to it.
_PARTS = (
    "_abilities",
    "_announcements",
    "_barge_in",
    "_ears",
    "_floor",
    "_idle",
    "_mind",
    "_roles",
    "_tray",
)


class SessionState(Enum):
    IDLE = auto()
    LISTENING = auto()
    ANSWERING = auto()
    CLOSED = auto()


@implementer(ISessionEvents)
class Session:
    """See the module.

    :param assistant: what all sessions share: providers, functions, settings.
    """

    _log = Logger()

    def __init__(
        self, opening: m.SessionOpen, link: ISessionLink, assistant: SharedServices
    ) -> None:
        self._id = opening.session_id
        self._link = link
        self._assistant = assistant
        self._counts = assistant.counts
        self._request: trace.TracedMessage | None = None  # what was received last
        self._clock: IReactorTime = assistant.clock
        self.state = SessionState.IDLE
        self._mode = m.ListenMode.AUTO
        self._ending = False
        self._sound = 0.0  # when some came last
        self._leaving = ""  # a process stops: with what code to end at rest
        self._released = False  # a press is over and being recognised
        self._gate = Gate(is_open=True)
        self._abilities = SessionTools(opening, self._send, assistant, self._end_after_answer)
        self._ears = wiring.ears_of(
            assistant, self._uttered, self._voiced, self._hushed, self._worded
        )
        self._tray = assistant.desk.tray(self._handle)
        self._announcements = wiring.announcements_of(
            self._id, assistant, self._may_announce, self._begin
        )
        self._roles = wiring.roles_of(opening, assistant)
        self._abilities.offer("roles", self._roles.tools)
        self._mind = wiring.mind_of(opening, assistant, self._abilities, self._roles, self._send)
        mouth = wiring.mouth_of(opening, assistant, self._send, self._gate)
        # What the edge still plays and reports of an earlier incarnation is no turn of ours.
        self._floor = TurnControl(
            (opening.incarnation - 1) * _TURNS, self._mind, mouth, self._answered
        )
        self._barge_in = Interruption(
            self._id,
            self._floor,
            assistant.settings.listen,
            assistant.settings.turn.recognize,
            self._clock,
            lambda: self._ears.busy,
            self._interrupted_by,
            self._talked_over,
            self._undisturbed,
        )
        device_id, idle = opening.device.device_id, assistant.settings.idle
        self._idle = Idle(device_id, idle, self._clock, self._quiet)

    def _send(self, message: m.Downlink) -> None:
        if type(message) is not m.Audio:
            self._counts.messages.add("down", type(message).__name__.lower())
        self._link.send(message)

    # --- from the edge ----------------------------------------------------------------

    def received(self, message: m.Uplink) -> None:
        self._tray.put(message, trace.current())

    def _handle(self, message: m.Uplink, request: trace.TracedMessage | None) -> None:
        self._request = request
        if type(message) is m.Audio:
            self._counts.frames_up += 1
            self._hear(message)
        else:
            self._counts.messages.add("up", type(message).__name__.lower())
            self._told(message)
        if self._leaving:
            self._leave_at_rest()

    def _told(self, message: m.Uplink) -> None:
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
                self._abilities.received(message)
            case m.Image():
                self._shown(message)
            case m.Vision(command=command):
                self._send(m.Error("unsupported", f"vision command {command!r}"))
            case m.Ping():
                self._send(m.Pong(int(self._assistant.seconds() * 1000)))
            case m.Goodbye():
                self._end("goodbye")
            case m.Leave():
                self._leaving = _EDGE_STOPS
            case m.Unknown(type=kind):
                self._log.debug("{session_id}: ignored a {kind}", session_id=self._id, kind=kind)

    def pause_sending(self) -> None:
        self._gate.close()

    def resume_sending(self) -> None:
        self._gate.open()

    def interrupted(self) -> None:
        """Only the edge is told that."""

    def restored(self) -> tuple[m.Uplink, ...]:
        """Only the edge is asked that."""
        return ()

    def draining(self) -> None:
        self._leaving = self._leaving or _WE_STOP
        self._leave_at_rest()

    def _leave_at_rest(self) -> None:
        # Announcements do not move along.
        stays = self._leaving == _WE_STOP and self._announcements.waiting
        quiet = self.state is SessionState.IDLE or not self._ears.busy
        if self._leaving and self._resting and quiet and not stays:
            self._end(self._leaving)

    def dismiss(self, code: str) -> None:
        """End the session now, whatever is going on."""
        self._end(code)

    def closed(self, code: str, message: str) -> None:
        """The session is over: nothing is left running."""
        if self.state is SessionState.CLOSED:
            return
        self.state = SessionState.CLOSED
        self._tray.clear()
        self._barge_in.forget()
        self._idle.busy()
        self._floor.cancel()
        self._mind.dialogue.close()
        self._ears.close()
        self._announcements.forget()
        self._counts.bad_packets += self._ears.bad_packets
        self._abilities.close()
        # Not from within one of them.
        self._clock.callLater(0, self._let_go)

    def _let_go(self) -> None:
        """Forget the parts, which call back: a session that is over is gone at once, and
        what it held with it, without the collector, which comes seldom."""
        for part in _PARTS:
            delattr(self, part)

    # --- listening ----------------------------------------------------------------------

    def _hear(self, audio: m.Audio) -> None:
        # In Idle it is the burst before a wake word is told, or a client that
        # sends before it says so (§4.4); in Answering, what an open microphone
        # picks up, of which only realtime devices know their own voice.
        listening = self.state is SessionState.LISTENING
        if not listening and not (
            self.state is SessionState.ANSWERING and self._mode is m.ListenMode.REALTIME
        ):
            return
        self._sound = self._clock.seconds()
        if audio.payload:
            self._ears.hear(audio.payload)
        elif listening and (self._ears.busy or self._mode is not m.ListenMode.REALTIME):
            # A browser ends a recording with an empty packet (§13); in realtime that is
            # the end of what is being said and no more.
            self._listen_stopped(0)
        # What was heard may have been a noise.
        self._announcements.offer()

    def _listen(self, mode: m.ListenMode, turn: int) -> None:
        """:param turn: the one that the device interrupts, as the edge judges it."""
        self._mode = mode
        manual = mode is m.ListenMode.MANUAL
        if self.state is SessionState.ANSWERING:
            # What the edge has not seen, the device cannot have heard: then the start
            # belongs to what was before, and only says the mode (§4.4, §4.6).
            unheard = self._released and not self._floor.started
            if not (manual or unheard or turn == self._floor.turns):
                return
            self._stop_answer()
            self._announcements.interrupted()
        self.state = SessionState.LISTENING
        self._ears.listen(manual=manual)
        if manual:
            self._barge_in.forget()
            self._idle.busy()
        else:
            self._idle.listening()
            self._announcements.started()

    def _listen_stopped(self, packets: int) -> None:
        """:param packets: of sound that the device has sent since it was pressed."""
        if self.state is not SessionState.LISTENING:
            return
        self._idle.busy()
        manual = self._mode is m.ListenMode.MANUAL
        lost = manual and self._ears.packets < packets
        recognition = self._ears.take()
        if recognition is not None:
            self._uttered(recognition)
            self._released = manual
            return
        self.state = SessionState.IDLE
        if lost:
            # It grew too old on its way, and the person waits for an answer.
            self._send(wiring.not_heard(self._mind.talk.current))
        self._announcements.offer()

    def _uttered(self, recognition: IRecognition) -> None:
        """An utterance ended: answer it."""
        if self.state is SessionState.ANSWERING or self._barge_in.deciding:
            self._barge_in.uttered(recognition)
        else:
            after = self._mind.echo.after(self._ears.began)
            self._begin(lambda turn: turn.answer(recognition.finish(), spoken=True, after=after))

    def _voiced(self, milliseconds: int) -> None:
        if self.state is SessionState.ANSWERING:
            self._barge_in.voiced(milliseconds)
        else:
            self._idle.listening()

    def _hushed(self) -> None:
        if self.state is SessionState.ANSWERING:
            self._barge_in.hushed()

    def _worded(self, text: str) -> None:
        if self.state is SessionState.ANSWERING:
            self._barge_in.worded(text)

    def _interrupted_by(self, over: Overheard) -> None:
        """Words over the answer: they are answered instead."""
        # The person may have gone on already.
        self._begin(lambda turn: turn.answer_overheard(over), anew=False)

    def _undisturbed(self) -> None:
        """Nobody has said anything over the answer."""
        self._announcements.offer()
        self._leave_at_rest()

    def _talked_over(self) -> None:
        """Somebody speaks on and on over the answer: it is listened to."""
        self._stop_answer()
        self._announcements.interrupted()
        self.state = SessionState.LISTENING
        self._idle.listening()

    # --- other ways to begin a turn --------------------------------------------------------

    def _detected(self, words: str) -> None:
        wake = self._assistant.settings.wake
        if not is_wake_word(words, wake.words):
            self._typed(words)
            return
        # An open microphone has heard the word itself, too.
        if greetings := self._roles.greetings:
            greeting = greetings[self._floor.turns % len(greetings)]
            self._begin(lambda turn: turn.greet(words, greeting))
        elif self.state is SessionState.ANSWERING:
            self._stop_answer()
            self._announcements.interrupted()
            self._ears.forget()
            self._rest()
        elif self._mode is not m.ListenMode.MANUAL:
            self._ears.listen(manual=False)
        self._ears.skip(wake.tail)

    def _typed(self, words: str) -> None:
        if words.strip():
            self._begin(lambda turn: turn.answer(wiring.typed(words)))

    def _shown(self, image: m.Image) -> None:
        question = image.text or text("photo_question", self._mind.talk.current)
        try:
            picture = sent_picture(image.data, self._assistant.settings.max_pixels)
        except ProtocolError as error:
            self._send(m.Error(error.code, error.message))
            return
        vision = self._assistant.providers.vlllm
        self._begin(lambda turn: turn.recite(question, vision.describe(picture, question)))

    # --- the turn ---------------------------------------------------------------------------

    def _begin(
        self,
        answer: Callable[[Turn], Awaitable[bool]],
        *,
        ending: bool = False,
        anew: bool = True,
    ) -> None:
        """Start a turn; one that is under way ends first.

        :param ending: it is the last one.
        :param anew: whatever is being said meanwhile is not listened to.
        """
        self._idle.busy()
        self._released = False
        # A goodbye that was talked over is none.
        self._ending = ending
        if anew:
            self._barge_in.forget()
            self._ears.listen(manual=False)
        self.state = SessionState.ANSWERING
        self._floor.begin(answer, self._request)

    def _answered(self) -> None:
        """The turn has come to its end by itself; what was said over it may still be
        recognised, and is answered then."""
        # What comes now is long behind a wake word.
        self._ears.skip(0.0)
        if self._ending:
            self._end("farewell")
            return
        if self._floor.cut:
            self._announcements.interrupted()
        else:
            self._announcements.answered(starts=self._mode is m.ListenMode.AUTO)
        self._rest()
        self._leave_at_rest()

    def _played(self, report: m.Playback) -> None:
        current = report.turn == self._floor.turns
        # A goodbye that was cut off is none; of an older turn it may come late.
        self._ending &= not (current and report.state is m.PlaybackState.FLUSHED)
        self._floor.playback(report)
        early = current and report.state is m.PlaybackState.FINISHED and self._floor.taken
        if early and self._leaving == _EDGE_STOPS:  # no further sentence begins
            self._stop_answer()
            self._rest()

    def _stop_answer(self) -> None:
        self._barge_in.forget()
        self._floor.cancel()
        if self.state is SessionState.ANSWERING:
            self._ears.skip(0.0)
            self.state = SessionState.IDLE

    def _rest(self) -> None:
        """After an answer: on with listening, except by button. Realtime devices
        do not ask again, and a browser does not either (§4.4, §13)."""
        if self._mode is m.ListenMode.MANUAL:
            self.state = SessionState.IDLE
            self._ears.forget()
        else:
            self.state = SessionState.LISTENING
            # Somebody may be in the middle of an utterance, over the end of the answer.
            if not self._ears.busy:
                self._ears.listen(manual=False)
            self._idle.listening()
        self._announcements.offer()

    def _quiet(self) -> None:
        """Nobody has said anything for long."""
        if self._ears.busy:
            self._idle.listening()
            return
        # A device that has stopped sending sound is not listening any more.
        deaf = self._clock.seconds() - self._sound > _OPEN_MICROPHONE
        if self._assistant.settings.idle.farewell and not deaf:
            self._begin(lambda turn: turn.bid_farewell(), ending=True)
        else:
            self._end("farewell")

    @property
    def _resting(self) -> bool:
        """Nothing is being answered, nor will be for what was said over the last answer."""
        return (
            self.state in (SessionState.IDLE, SessionState.LISTENING)
            and not self._barge_in.deciding
        )

    def _may_announce(self) -> bool:
        return self._resting and not self._ears.busy and self._leaving != _EDGE_STOPS

    def _end_after_answer(self) -> None:
        self._ending = True

    def _end(self, code: str) -> None:
        self.closed(code, "")
        self._link.close(code, "")
