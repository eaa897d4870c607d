"""The AI's messages to one device, and the edge's own answers while the AI is away."""

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
    """The link, as the receiver of the AI's messages sees it."""

    device: m.Device

    def depart(self, code: str) -> None:
        """Close after playback: the AI has ended the session."""

    def forsaken(self) -> None:
        """Handle the loss of the AI."""

    def microphone(self) -> m.Listen | None:
        """Return the message that opened the device's microphone; None: it is closed."""

    def retract(self, unwanted: Callable[[object], bool]) -> None:
        """Withdraw undelivered messages, see :class:`~xiaozhi.interfaces.IEdgeLink`."""


class Awaited(Enum):
    """The kind of question whose answer the device awaits.

    ``WORDS`` are sent again after the AI is lost. ``SOUND`` cannot be sent again, because the
    lost AI has a part of it. A ``PICTURE`` is not kept at the edge.
    """

    NOTHING = auto()
    WORDS = auto()
    SOUND = auto()
    PICTURE = auto()


@implementer(IEdgeEvents)
class Answers:
    """Receives the AI's messages for one link, and tracks the question that awaits an answer.

    :ivar question: recognised words without an answer yet; sent again if the AI is lost.
    :ivar language: BCP 47, of the conversation; a guess until the AI has reported it.
    :ivar outage: the AI's current outage, if any.
    :ivar over: the link is closed; nothing is passed on.
    """

    __slots__ = (
        "_alerting",
        "_aside",
        "_awaited",
        "_context",
        "_down",
        "_link",
        "_messages",
        "_record",
        "_shown",
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
        """:param language: the device's preferred language, BCP 47; empty: unknown."""
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
        # The question that is sent again and that the device already displays.
        self._shown = ""
        # The current sentence is not part of the answer.
        self._aside = False
        # An alert waits for the end of playback.
        self._alerting = False

    def close(self) -> None:
        """Ignore all further messages: the link is closed."""
        self.over = True
        self._link = NO_LINK

    def received(self, message: m.Downlink) -> None:
        """Pass a message to the device: speech through the pacer, other messages at once."""
        if self.over:
            return
        # The bridge itself makes an Error for lost messages; it does not end the outage.
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
                self.question = ""  # the turn was cancelled
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
                    "dropped a {kind} from the AI: not a message for a device",
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
        """Stop reading from the device: the AI accepts no more messages."""
        if not self.over:
            self._watchdog.pause()

    def resume_sending(self) -> None:
        """Read from the device again."""
        if not self.over:
            self._watchdog.resume()

    def asks(self, asked: Awaited, *messages: m.Uplink) -> None:
        """Set the pending question, or clear it.

        The previous question is dropped without an answer or an alert.

        :param messages: the messages that carry the question.
        """
        if self._messages:
            self._retract(sound=False)
        self._awaited, self.question, self._shown = asked, "", ""
        self._messages = messages
        self._alerting = False

    def interrupted(self) -> None:
        """Handle the loss of the AI: the device plays the queued sound, and receives an alert
        if a question is lost."""
        if self.over:
            return
        lost = self._loses()
        if self.outage is None or lost:
            context = self._context
            now = context.timers.clock.seconds()
            self.outage = Outage(now)
            # If a question is still pending then, the device receives an alert.
            context.timers.timeouts.at(now + context.settings.link.outage_patience, self._waited)
            self._record.event("interrupted")
        # The AI that paused the device is gone; the bridge bounds its queue.
        self.resume_sending()
        self._down.finish()
        if lost:
            self._lose_question()
        self._link.forsaken()

    def restored(self) -> list[m.Uplink]:
        """Return the messages for another AI process: the open microphone and the pending
        question, which the device does not repeat (§4.4)."""
        lost = self.outage is None and self._loses()  # moved during a question or an answer
        self._down.finish()
        if lost:
            self._lose_question()
        if self.outage is not None:
            self.outage.taken_over()
        listen = self._link.microphone()
        messages: list[m.Uplink] = [listen] if listen is not None else []
        if self.question:
            self._shown = self.question
            messages.append(m.Chat(self.question))
        return messages

    def listens(self) -> None:
        """Handle an automatic start of listening."""
        if self.outage is None:
            self._awaited = Awaited.NOTHING
        else:
            self.outage.opened()

    def heard(self, packet: bytes, now: float) -> None:
        """Look for a question in a packet from the microphone while the AI is away."""
        outage, listen = self.outage, self._link.microphone()
        if outage is None or (listen is not None and listen.mode is m.ListenMode.MANUAL):
            return  # the release of the button ends a question
        if outage.heard(packet):
            self.asks(Awaited.SOUND)
            self.missed(now)

    def missed(self, now: float) -> None:
        """Send an alert if a question is lost and the outage exceeds ``outage_patience``."""
        outage = self.outage
        if outage is None or now - outage.since < self._context.settings.link.outage_patience:
            return
        if self._context.bridge.available:
            self._resumed(outage)
        elif self.question or self._awaited is not Awaited.NOTHING:
            self._lose_question()

    def closed(self, code: str, message: str) -> None:
        """End the open turn and close: the AI has ended the session."""
        if not self.over:
            self._down.finish()
            self._link.depart(code)

    def _loses(self) -> bool:
        """Return whether a loss of the AI now loses a question that cannot be sent again."""
        if self.question:
            return False
        if self._awaited in (Awaited.SOUND, Awaited.PICTURE):
            return True
        return self.outage is None and self._down.unfinished

    def _lose_question(self) -> None:
        """Send an alert after playback: a question is lost.

        Words stay pending until ``outage_patience`` has passed.
        """
        if self._awaited is not Awaited.WORDS or self._patience_over:
            self._retract(sound=self._awaited is Awaited.SOUND)
            self._awaited, self.question, self._messages = Awaited.NOTHING, "", ()
        if not self._alerting:
            self._alerting = True
            self._down.when_rested(self._alert)

    def _alert(self) -> None:
        if self._alerting and not self.over:
            self._alerting = False
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
            self._awaited = Awaited.NOTHING  # it was only a guess
        seconds = self._context.timers.clock.seconds() - outage.since
        self._record.event("resumed", seconds=round(seconds, 3))
