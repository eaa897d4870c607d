"""The AI's messages to one device, and the edge's part while the AI is away."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Protocol

from twisted.logger import Logger
from zope.interface import implementer

from xiaozhi.im.session.context import LinkContext
from xiaozhi.im.session.delivery import Delivery
from xiaozhi.im.session.nobody import NO_LINK
from xiaozhi.im.session.outage import Outage, outage_alert
from xiaozhi.im.session.watchdog import Watchdog
from xiaozhi.im.sessionlog.record import Record
from xiaozhi.interfaces import IEdgeEvents
from xiaozhi.wire import messages as m


class Departing(Protocol):
    """The link, as the receiver of AI messages calls it."""

    device: m.Device

    def depart(self, code: str) -> None:
        """The AI ended the session."""

    def forsaken(self) -> None:
        """The AI is lost."""

    def microphone(self) -> m.Listen | None:
        """Return the message that opened the device's microphone; None: it is closed."""

    def retract(self, unwanted: Callable[[object], bool]) -> None:
        """Take back what the AI has not received, see :class:`~xiaozhi.interfaces.IEdgeLink`."""


class Awaited(Enum):
    """The kind of question the device waits for an answer to.

    ``WORDS`` are sent again to the AI that follows a lost one. ``SOUND`` cannot be: the
    lost AI has a part of it. A ``PICTURE`` is not kept at the edge.
    """

    NOTHING = auto()
    WORDS = auto()
    SOUND = auto()
    PICTURE = auto()


@implementer(IEdgeEvents)
class Answers:
    """Receives what the AI sends for one link, and notes what the device waits for.

    :ivar question: recognised words without an answer yet; sent again if the AI is lost.
    :ivar language: of the conversation, reported by the AI, a guess before; BCP 47.
    :ivar outage: the AI's current absence, if any.
    :ivar over: the link is closed; nothing is passed on.
    """

    __slots__ = (
        "_aside",
        "_awaited",
        "_context",
        "_down",
        "_link",
        "_messages",
        "_record",
        "_shown",
        "_telling",
        "_watchdog",
        "language",
        "outage",
        "over",
        "question",
    )
    _log = Logger()

    def __init__(
        self,
        link: Departing,
        context: LinkContext,
        down: Delivery,
        watchdog: Watchdog,
        record: Record,
        language: str = "",
    ) -> None:
        """:param language: that the device prefers, BCP 47; empty: it has not said."""
        self._link: Departing = link
        self._context = context
        self._down = down
        self._watchdog = watchdog
        self._record = record
        self._awaited = Awaited.NOTHING
        self.question = ""
        self.outage: Outage | None = None
        self.over = False
        self.language = context.languages.of(link.device.device_id, language)
        # The messages of the pending question.
        self._messages: tuple[m.Uplink, ...] = ()
        # A question that is sent again, and that the device already shows.
        self._shown = ""
        # The current sentence is not part of the answer.
        self._aside = False
        # An alert waits for the device to have played what it has.
        self._telling = False

    def close(self) -> None:
        """Pass nothing on any more: the link is closed."""
        self.over = True
        self._link = NO_LINK

    def received(self, message: m.Downlink) -> None:
        """Pass a message on: speech at the device's pace, the rest at once."""
        if self.over:
            return
        # The bridge reports lost messages by itself.
        if self.outage is not None and type(message) is not m.Error:
            self._resumed(self.outage)
        down = self._down
        match message:
            case m.Audio():
                if not self._aside:
                    self.question = ""
                down.audio(message)
            case m.Tts():
                if message.state is m.TtsState.START:
                    self._awaited, self._messages = Awaited.NOTHING, ()
                    self._record.utterance_over()
                elif message.state is m.TtsState.STOP:
                    self.question = ""
                self._aside = message.aside
                down.tts(message)
            case m.Flush():
                self.question = ""  # the turn is given up
                down.flush(message.turn)
            case m.Pause():
                down.pause(message.turn, paused=message.paused)
            case m.Stt():
                if self._awaited is not Awaited.PICTURE:
                    self.question = message.text
                shown, self._shown = self._shown, ""
                if not shown or message.text != shown:
                    down.text(message)
            case m.Language():
                self.language = message.language
                self._context.languages.learn(self._link.device.device_id, message.language)
            case _ if isinstance(message, m.ServerText):
                down.text(message)
            case _:
                self._log.warn(
                    "the AI sent a {kind}, which is nothing for a device",
                    kind=type(message).__name__,
                )

    @property
    def awaited(self) -> Awaited:
        """The question whose answer the device awaits."""
        return self._awaited

    @property
    def waited_for(self) -> bool:
        """Whether a question of the device has no answer yet."""
        return bool(self.question) or self._awaited is not Awaited.NOTHING

    def pause_sending(self) -> None:
        """The AI has enough: leave the device's messages unread."""
        if not self.over:
            self._watchdog.pause()

    def resume_sending(self) -> None:
        """Read the device's messages again."""
        if not self.over:
            self._watchdog.resume()

    def asks(self, asked: Awaited, *messages: m.Uplink) -> None:
        """Note a new question, or that the device waits for nothing any more.

        The previous question is dropped without an answer or an alert.

        :param messages: that carry the question.
        """
        if self._messages:
            self._retract(sound=False)
        self._awaited, self.question, self._shown = asked, "", ""
        self._messages = messages
        self._telling = False

    def interrupted(self) -> None:
        """The AI is lost, or away: the device plays what it has, and gets an alert if a
        question is lost."""
        if self.over:
            return
        lost = self._loses()
        if self.outage is None or lost:
            context = self._context
            now = context.timers.clock.seconds()
            self.outage = Outage(now)
            # A device that asked before may wait in silence.
            context.timers.timeouts.at(now + context.settings.link.outage_patience, self._waited)
            self._record.event("interrupted")
        # The AI that paused us is gone; the bridge bounds its queue.
        self.resume_sending()
        self._down.finish()
        if lost:
            self._tell()
        self._link.forsaken()

    def restored(self) -> list[m.Uplink]:
        """Return what another AI process must know: the open microphone and the pending
        question. The device sends neither twice (§4.4)."""
        lost = self.outage is None and self._loses()  # sent away in the middle of it
        self._down.finish()
        if lost:
            self._tell()
        if self.outage is not None:
            self.outage.questions = None
        listen = self._link.microphone()
        messages: list[m.Uplink] = [listen] if listen is not None else []
        if self.question:
            self._shown = self.question
            messages.append(m.Chat(self.question))
        return messages

    def listens(self) -> None:
        """Note that the device listens."""
        if self.outage is None:
            self._awaited = Awaited.NOTHING
        elif self.outage.questions is not None:
            self.outage.questions.opened()

    def heard(self, packet: bytes, now: float) -> None:
        """Take a packet from the microphone while the AI is away."""
        outage, listen = self.outage, self._link.microphone()
        if outage is None or (listen is not None and listen.mode is m.ListenMode.MANUAL):
            return  # a button says by itself when a question ends
        if outage.questions is not None and outage.questions.heard(packet):
            self.asks(Awaited.SOUND)
            self.missed(now)

    def missed(self, now: float) -> None:
        """Alert a device whose question is lost; a short absence passes unnoticed."""
        outage = self.outage
        if outage is None or now - outage.since < self._context.settings.link.outage_patience:
            return
        if self._context.bridge.available:
            self._resumed(outage)
        elif self.question or self._awaited is not Awaited.NOTHING:
            self._tell()

    def closed(self, code: str, message: str) -> None:
        """The AI ended the session: a turn without an end gets one."""
        if not self.over:
            self._down.finish()
            self._link.depart(code)

    def _loses(self) -> bool:
        """Whether losing the AI now loses a question that cannot be sent again."""
        if self.question:
            return False
        if self._awaited in (Awaited.SOUND, Awaited.PICTURE):
            return True
        return self.outage is None and self._down.unfinished

    def _tell(self) -> None:
        """Answer a lost question by an alert, after playback. Words that may yet be answered
        wait."""
        if self._awaited is not Awaited.WORDS or self._patience_over:
            self._retract(sound=self._awaited is Awaited.SOUND)
            self._awaited, self.question, self._messages = Awaited.NOTHING, "", ()
        if not self._telling:
            self._telling = True
            self._down.when_rested(self._told)

    def _told(self) -> None:
        if self._telling and not self.over:
            self._telling = False
            self._record.event("outage_told")
            self._down.text(outage_alert(self._context.settings.link, self.language))

    @property
    def _patience_over(self) -> bool:
        settings, now = self._context.settings.link, self._context.timers.clock.seconds()
        return self.outage is not None and now - self.outage.since >= settings.outage_patience

    def _retract(self, *, sound: bool) -> None:
        messages = self._messages
        self._link.retract(
            lambda message: (
                any(message is each for each in messages) or (sound and type(message) is m.Audio)
            )
        )

    def _waited(self) -> None:
        if not self.over and (self.question or self._awaited is not Awaited.NOTHING):
            self.missed(self._context.timers.clock.seconds())

    def _resumed(self, outage: Outage) -> None:
        self.outage = None
        if self._awaited is Awaited.SOUND and not self._messages:
            self._awaited = Awaited.NOTHING  # guessed
        seconds = self._context.timers.clock.seconds() - outage.since
        self._record.event("resumed", seconds=round(seconds, 3))
