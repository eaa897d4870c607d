"""One device's talk with the assistant: who is to speak, and when.

Idle, Listening, Answering, Closed. In manual mode the device says where an
utterance ends, in auto and realtime we do; in realtime the microphone stays
open and a voice interrupts the answer (§4.4, §4.6).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import Enum, auto
from typing import TypeVar

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from xiaozhi import trace
from xiaozhi.ai.announcements import Announcements
from xiaozhi.ai.assistant import Assistant
from xiaozhi.ai.bargein import BargeIn
from xiaozhi.ai.equipment import mind_of, mouth_of, roles_of
from xiaozhi.ai.floor import Floor
from xiaozhi.ai.hearing.ears import Ears
from xiaozhi.ai.hearing.wake import is_wake_word
from xiaozhi.ai.idle import Idle
from xiaozhi.ai.pictures import read_picture
from xiaozhi.ai.texts import text
from xiaozhi.ai.thinking.abilities import Abilities
from xiaozhi.ai.timeline import Overheard
from xiaozhi.ai.turn import Turn
from xiaozhi.ai.waiting import Gate
from xiaozhi.errors import ProtocolError
from xiaozhi.interfaces import IRecognition, ISessionEvents, ISessionLink
from xiaozhi.values import Transcript
from xiaozhi.wire.messages import (
    Abort,
    Alert,
    Audio,
    Chat,
    Downlink,
    Error,
    Goodbye,
    Image,
    Iot,
    Listen,
    ListenMode,
    ListenState,
    Mcp,
    Ping,
    Playback,
    PlaybackState,
    Pong,
    Say,
    SessionOpen,
    Unknown,
    Uplink,
    Vision,
)

T = TypeVar("T")

# More turns than one incarnation of a session has.
_TURNS = 1_000_000

# Seconds without a packet after which a microphone is closed.
_OPEN_MICROPHONE = 2.0


class State(Enum):
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

    def __init__(self, opening: SessionOpen, link: ISessionLink, assistant: Assistant) -> None:
        self._id = opening.session_id
        self._link = link
        self._assistant = assistant
        self._counts = assistant.counts
        # What was received last; a turn is begun by it.
        self._request: trace.Request | None = None
        self._clock: IReactorTime = assistant.clock
        self.state = State.IDLE
        self._mode = ListenMode.AUTO
        self._ending = False
        self._sound = 0.0  # when some came last
        self._leaving = False  # the process stops: away when nothing is going on
        self._gate = Gate(is_open=True)
        self._abilities = Abilities(opening, self._send, assistant, self._end_after_answer)
        self._ears = Ears(
            assistant.providers.asr,
            assistant.providers.vad.detector(),
            assistant.settings.listen,
            self._clock,
            self._uttered,
            self._voiced,
            self._hushed,
            self._worded,
        )
        self._tray = assistant.desk.tray(self._handle)
        self._announcements = Announcements(
            self._id, assistant.settings.announcements, self._may_announce, self._announce
        )
        self._roles = roles_of(opening, assistant)
        for tool in self._roles.tools:
            self._abilities.toolbox.add(tool)
        self._mind = mind_of(opening, assistant, self._abilities, self._roles, self._send)
        mouth = mouth_of(opening, assistant, self._send, self._gate)
        # What the edge still plays and reports of an earlier incarnation is no turn of ours.
        first = (opening.incarnation - 1) * _TURNS
        self._floor = Floor(first, self._mind, mouth, self._answered)
        self._barge_in = BargeIn(
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
        self._idle = Idle(
            opening.device.device_id, assistant.settings.idle, self._clock, self._quiet
        )

    def _send(self, message: Downlink) -> None:
        if type(message) is not Audio:
            self._counts.messages.add("down", type(message).__name__.lower())
        self._link.send(message)

    # --- from the edge ----------------------------------------------------------------

    def received(self, message: Uplink) -> None:
        self._tray.put(message, trace.current())

    def _handle(self, message: Uplink, request: trace.Request | None) -> None:
        self._request = request
        if type(message) is Audio:
            self._counts.frames_up += 1
            self._hear(message)
        else:
            self._counts.messages.add("up", type(message).__name__.lower())
            self._told(message)
        if self._leaving:
            self._leave_at_rest()

    def _told(self, message: Uplink) -> None:
        match message:
            case Listen(state=ListenState.START, mode=mode):
                self._listen(mode)
            case Listen(state=ListenState.STOP):
                self._listen_stopped()
            case Listen(text=words):
                self._detected(words)
            case Chat(text=words):
                self._typed(words)
            case Say(text=words):
                self._announcements.ask(words)
            case Abort():
                self._stop_answer()
                self._rest()
            case Playback(state=state):
                if state is PlaybackState.FLUSHED and message.turn == self._floor.turns:
                    # A goodbye that was cut off is none; of an older turn it may come late.
                    self._ending = False
                self._floor.playback(message)
            case Mcp() | Iot():
                self._abilities.received(message)
            case Image():
                self._shown(message)
            case Vision(command=command):
                self._send(Error("unsupported", f"vision command {command!r}"))
            case Ping():
                self._send(Pong(int(self._assistant.seconds() * 1000)))
            case Goodbye():
                self._end("goodbye")
            case Unknown(type=kind):
                self._log.debug("{session_id}: ignored a {kind}", session_id=self._id, kind=kind)

    def pause_sending(self) -> None:
        self._gate.close()

    def resume_sending(self) -> None:
        self._gate.open()

    def interrupted(self) -> None:
        """Only the edge is told that."""

    def restored(self) -> tuple[Uplink, ...]:
        """Only the edge is asked that."""
        return ()

    def draining(self) -> None:
        self._leaving = True
        self._leave_at_rest()

    def _leave_at_rest(self) -> None:
        if self._resting and (self.state is State.IDLE or not self._ears.busy):
            self._end("moving")

    def dismiss(self, code: str) -> None:
        """End the session now, whatever is going on."""
        self._end(code)

    def closed(self, code: str, message: str) -> None:
        """The session is over: nothing is left running."""
        if self.state is State.CLOSED:
            return
        self.state = State.CLOSED
        self._tray.clear()
        self._barge_in.forget()
        self._idle.busy()
        self._floor.cancel()
        self._mind.dialogue.close()
        self._ears.close()
        self._announcements.forget()
        self._counts.bad_packets += self._ears.bad_packets
        self._abilities.close()

    # --- listening ----------------------------------------------------------------------

    def _hear(self, audio: Audio) -> None:
        # In Idle it is the burst before a wake word is told, or a client that
        # sends before it says so (§4.4); in Answering, what an open microphone
        # picks up, of which only realtime devices know their own voice.
        listening = self.state is State.LISTENING
        if not listening and not (
            self.state is State.ANSWERING and self._mode is ListenMode.REALTIME
        ):
            return
        self._sound = self._clock.seconds()
        if audio.payload:
            self._ears.hear(audio.payload)
        elif listening and (self._ears.busy or self._mode is not ListenMode.REALTIME):
            # A browser ends a recording with an empty packet (§13); in realtime that is
            # the end of what is being said and no more.
            self._listen_stopped()
        # What was heard may have been a noise.
        self._announcements.offer()

    def _listen(self, mode: ListenMode) -> None:
        self._mode = mode
        if self.state is State.ANSWERING:
            # Right after a `detect` that is being answered, start only says the
            # mode; once the device plays, or by a press, it interrupts (§4.6).
            if mode is not ListenMode.MANUAL and not self._floor.playing:
                return
            self._stop_answer()
        self.state = State.LISTENING
        self._ears.listen(manual=mode is ListenMode.MANUAL)
        if mode is ListenMode.MANUAL:
            self._barge_in.forget()
            self._idle.busy()
        else:
            self._idle.listening()

    def _listen_stopped(self) -> None:
        if self.state is not State.LISTENING:
            return
        self._idle.busy()
        deaf = self._ears.deaf
        recognition = self._ears.take()
        if recognition is not None and not deaf:
            self._uttered(recognition)
            return
        self.state = State.IDLE
        if recognition is not None:
            # It grew too old on its way, and the person waits for an answer.
            recognition.cancel()
            title, words = (text(key, self._mind.talk.current) for key in ("deaf_title", "deaf"))
            self._link.send(Alert(title, words, "confused"))
        self._announcements.offer()

    def _uttered(self, recognition: IRecognition) -> None:
        """An utterance ended: answer it."""
        if self.state is State.ANSWERING or self._barge_in.deciding:
            self._barge_in.uttered(recognition)
        else:
            self._begin(lambda turn: turn.answer(recognition.finish(), spoken=True))

    def _voiced(self, milliseconds: int) -> None:
        if self.state is State.ANSWERING:
            self._barge_in.voiced(milliseconds)
        else:
            self._idle.listening()

    def _hushed(self) -> None:
        if self.state is State.ANSWERING:
            self._barge_in.hushed()

    def _worded(self, text: str) -> None:
        if self.state is State.ANSWERING:
            self._barge_in.worded(text)

    def _interrupted_by(self, over: Overheard) -> None:
        """Words over the answer: they are answered instead."""
        # The person may have gone on already.
        self._begin(lambda turn: turn.answer_overheard(over), anew=False)

    def _undisturbed(self) -> None:
        """Nobody has said anything over the answer."""
        self._announcements.offer()
        if self._leaving:
            self._leave_at_rest()

    def _talked_over(self) -> None:
        """Somebody speaks on and on over the answer: it is listened to."""
        self._stop_answer()
        self.state = State.LISTENING
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
        elif self.state is State.ANSWERING:
            self._stop_answer()
            self._ears.forget()
            self._rest()
        elif self._mode is not ListenMode.MANUAL:
            self._ears.listen(manual=False)
        self._ears.skip(wake.tail)

    def _typed(self, words: str) -> None:
        if words.strip():
            self._begin(lambda turn: turn.answer(_now(Transcript(words))))

    def _shown(self, image: Image) -> None:
        question = image.text or text("photo_question", self._mind.talk.current)
        if not image.data:
            self._send(Error("unsupported", "image.url: send the picture as data"))
            return
        try:
            picture = read_picture(image.data, self._assistant.settings.max_pixels)
        except ProtocolError as error:
            self._send(Error(error.code, f"image.data: {error.message}"))
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
        # A goodbye that was talked over is none.
        self._ending = ending
        if anew:
            self._barge_in.forget()
            self._ears.listen(manual=False)
        self.state = State.ANSWERING
        self._floor.begin(answer, self._request)

    def _answered(self) -> None:
        """The turn has come to its end by itself; what was said over it may still be
        recognised, and is answered then."""
        # What comes now is long behind a wake word.
        self._ears.skip(0.0)
        if self._ending:
            self._end("farewell")
            return
        self._rest()
        if self._leaving:
            self._leave_at_rest()

    def _stop_answer(self) -> None:
        self._barge_in.forget()
        self._floor.cancel()
        if self.state is State.ANSWERING:
            self._ears.skip(0.0)
            self.state = State.IDLE

    def _rest(self) -> None:
        """After an answer: on with listening, except by button. Realtime devices
        do not ask again, and a browser does not either (§4.4, §13)."""
        if self._mode is ListenMode.MANUAL:
            self.state = State.IDLE
            self._ears.forget()
        else:
            self.state = State.LISTENING
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
        return self.state in (State.IDLE, State.LISTENING) and not self._barge_in.deciding

    def _may_announce(self) -> bool:
        return self._resting and not self._ears.busy

    def _announce(self, words: str) -> None:
        self._begin(lambda turn: turn.announce(words))

    def _end_after_answer(self) -> None:
        self._ending = True

    def _end(self, code: str) -> None:
        self.closed(code, "")
        self._link.close(code, "")


async def _now(value: T) -> T:
    return value
