"""Device link: handles the messages from one device's channel.

The edge itself answers hello, ping and errors and passes everything else on, so that devices
stay connected while the AI service is away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from twisted.logger import Logger
from zope.interface import implementer

from xiaozhi.base.closing import CloseReason, Ending
from xiaozhi.base.errors import ProtocolError
from xiaozhi.base.values import SessionStatus
from xiaozhi.im.session import closing
from xiaozhi.im.session.answers import Answers
from xiaozhi.im.session.arrival import Arrival
from xiaozhi.im.session.context import LinkContext
from xiaozhi.im.session.delivery import Delivery
from xiaozhi.im.session.departure import Departure
from xiaozhi.im.session.intake import Intake
from xiaozhi.im.session.ratelimit import read
from xiaozhi.im.session.turngate import TurnGate
from xiaozhi.im.session.watchdog import Watchdog
from xiaozhi.im.sessionlog.record import Record, label_of, type_of
from xiaozhi.interfaces import IDeviceChannel, IDeviceEvents, IEdgeLink
from xiaozhi.wire import messages as m
from xiaozhi.wire.jsontext import JsonDialect
from xiaozhi.wire.mail import Mail, meant

# Maximum seconds between the first audio packet and the hello: some clients send audio early.
_EARLY = 2.0

_ALIVE = b'{"jsonrpc":"2.0","method":"notifications/alive"}'

# A client that cannot set headers sends these two as texts (§4.1).
_PREAMBLE = ("authorization:", "device-id:")


class LinkOwner(Protocol):
    """The table of links."""

    def greeted(self, link: DeviceLink) -> None:
        """Handle a link whose hello was answered: the device accepts further messages."""

    def session_over(self, link: DeviceLink) -> None:
        """Handle the end of a link; its connection may last a moment longer."""


@implementer(IDeviceEvents)
class DeviceLink:
    """A device's connection and its session at the AI.

    :ivar channel: its connection.
    :ivar device: the authenticated device.
    :ivar session_id: set from the start; sent in the hello.
    """

    __slots__ = (
        "_alert_sound",
        "_allowance",
        "_answers",
        "_closed",
        "_context",
        "_departure",
        "_down",
        "_early",
        "_hello",
        "_host",
        "_intake",
        "_owner",
        "_record",
        "_session",
        "_turns",
        "_watchdog",
        "channel",
        "device",
        "session_id",
    )
    _log = Logger()

    def __init__(
        self, context: LinkContext, owner: LinkOwner, channel: IDeviceChannel, arrival: Arrival
    ) -> None:
        settings = context.settings
        self._context = context
        self._owner = owner
        self.channel = channel
        self._host = arrival.host
        self.device = device = arrival.device
        self.session_id = context.new_session_id()
        self._turns = TurnGate(settings.link)
        self._down = Delivery(context, channel, self.session_id, self._turns)
        self._alert_sound = self._down.alert_sound
        self._session: IEdgeLink | None = None
        self._hello: m.Hello | None = None
        now = context.timers.clock.seconds()
        self._allowance = context.allowances.take(device.device_id, now)
        self._record = Record(context.log, context.counts, self.session_id, self._received)
        keep = device.device_id in settings.link.keep
        self._watchdog = Watchdog(
            context.timers, settings.link, channel, self._down, self, keep=keep
        )
        self._answers = Answers(
            self, context, self._down, self._watchdog, self._record, arrival.language
        )
        self._intake = Intake(self._down, self._turns, self._answers, self._record)
        self._departure = Departure(self._down, self._answers, self._turns, self.go_away)
        self._early = 0
        self._closed = False

    def connected(self) -> None:
        """Start: the connection is open."""
        self._context.log.session_started(self.session_id, self.device, {})
        self._record.event("connected")
        self._watchdog.start()
        self._log.info(
            "{session_id}: device {device_id} connected",
            session_id=self.session_id,
            device_id=self.device.device_id,
        )

    # --- from the device -----------------------------------------------------------

    def audio_received(self, audio: m.Audio, size: int) -> None:
        """Pass a packet on: the hot path."""
        context = self._context
        now = self._watchdog.active = context.timers.clock.seconds()
        if not self._allowance.admit(now, size):
            self.abused("rate")
            return
        session = self._session
        if session is None:
            self._too_early(now)
            return
        self._allowance.malformed_in_a_row = 0
        self._record.packet(size)
        if self._alert_sound.expected and self._alert_sound.covers(audio.payload, now):
            context.counts.dropped.add("alert_sound")
            return
        if self._answers.outage is not None:
            self._answers.heard(audio.payload, now)
        if not audio.payload:
            # A browser ends a recording with an empty packet (§13).
            self._down.let_go()
        session.send(audio)

    def malformed(self, error: ProtocolError, size: int) -> None:
        """Refuse bytes that are not a packet."""
        now = self._watchdog.active = self._context.timers.clock.seconds()
        if not self._allowance.admit(now, size):
            self.abused("rate")
        elif self._session is None:
            self._too_early(now)
        else:
            self._malformed(error)

    def _too_early(self, now: float) -> None:
        self._early += 1
        self._context.counts.dropped.add("early")
        if self._early == 1:
            self._context.timers.timeouts.at(now + _EARLY, self._not_greeted)

    def _not_greeted(self) -> None:
        """Report an error: audio was not followed by a hello."""
        if self._hello is None and not self._closed:
            self._refuse("hello_first", "audio arrived before hello")

    def text_received(self, text: str) -> None:
        """Handle a text message."""
        if self._closed:
            return
        now = self._watchdog.active = self._context.timers.clock.seconds()
        size = len(text.encode())
        if not self._allowance.admit(now, size):
            self.abused("rate")
            return
        if self._hello is None and text[:14].lower().startswith(_PREAMBLE):
            return
        try:
            message, dialect = read(text, size, self._context.settings.limits)
        except ProtocolError as error:
            self._malformed(error)
            return
        self._allowance.malformed_in_a_row = 0
        self._context.counts.messages.add("up", label_of(message))
        if isinstance(message, m.Hello):
            self._greeted(message, dialect)
        elif self._hello is None:
            self._refuse("hello_first", f"{type_of(message)} arrived before hello")
        else:
            self._record.message(message)
            self._take(message, now)
        self._received(label_of(message), size)

    def _received(self, kind: str, size: int, frames: int = 0) -> None:
        """Log a message under its request id at the AI; an utterance has its last packet's."""
        session = self._session
        if self._context.settings.log_messages:
            self._log.info(
                "{request_id}: {kind} from the device, {size} bytes",
                request_id=f"{self.session_id}-{session.sequence if session else 0}",
                session_id=self.session_id,
                kind=kind,
                size=size,
                frames=frames,
            )

    def alive(self, size: int) -> bool:
        """Handle a control message of the transport, e.g. a keep-alive.

        :return: whether to answer it; False for a device that floods or does not read.
        """
        now = self._watchdog.heard = self._context.timers.clock.seconds()
        if self._closed or self._allowance.admit(now, size):
            return self._down.congested is None
        self.abused("rate")
        return False

    def lost(self, ending: Ending) -> None:
        """End the session: the connection is gone, or closing."""
        self._end(ending)

    @property
    def down(self) -> Delivery:
        """Delivery to the device."""
        return self._down

    def congested(self) -> None:
        """Stop sending speech: the device does not read."""
        if not self._closed:
            self._down.choke()
            self._watchdog.hurry()

    def uncongested(self) -> None:
        """Resume speech: the device reads again."""
        self._down.unchoke()

    def _greeted(self, hello: m.Hello, dialect: JsonDialect) -> None:
        if self._hello is not None:
            # Answer exactly one hello: a second answer disturbs the device's next connection
            # (§2.2; §9, 28).
            self._refuse("hello_repeated", "hello was sent twice")
            return
        context = self._context
        terms = self.channel.greet(hello)
        hello = replace(hello, version=terms.version)
        self._hello = hello
        self._watchdog.greeted()
        self._down.adopt(dialect)
        self._record.greeted(hello)
        self._down.text(
            m.ServerHello(self.session_id, context.downlink, self.channel.name, terms.answer)
        )
        features = hello.features
        self._record.event(
            "hello",
            framing=terms.framing,
            dialect=dialect.value,
            frame_duration=hello.audio.frame_duration,
            mcp=features.mcp,
            aec=features.aec,
        )
        opening = m.SessionOpen(
            self.session_id, self.device, hello, context.downlink, host=self._host
        )
        session = context.bridge.open(opening, self._answers)
        if self._closed:
            session.close("device_gone", "")
            return
        self._session = session
        self._down.serve(session)
        if not context.bridge.available:
            self._answers.interrupted()
        self._owner.greeted(self)

    def _take(self, message: m.DeviceText, now: float) -> None:
        match message:
            case m.Ping():
                self._down.text(m.Pong(int(self._context.timers.wall() * 1000)))
                return
            case m.Goodbye():
                self._shut(CloseReason.FINISHED, "goodbye")
                return
        sent = self._intake.take(message, now)
        # The caller has handled hello.
        assert not isinstance(sent, m.Hello)
        # None: the AI has ended the session, and its last sound is still playing.
        if self._session is not None:
            self._session.send(sent)
        self._answers.missed(now)
        self._departure.check()

    def microphone(self) -> m.Listen | None:
        """Return the message that opened the microphone; None: it is closed."""
        return self._turns.microphone

    def retract(self, unwanted: Callable[[object], bool]) -> None:
        """Withdraw messages that the AI has not received."""
        if self._session is not None:
            self._session.retract(unwanted)

    def depart(self, code: str) -> None:
        """Close after playback: the AI has ended the session."""
        self._session = None
        self._down.let_go()
        if self._departure.begun:
            self._departure.at_rest()
            return
        reason = closing.OF_SESSION.get(code, CloseReason.FAULT)
        self._down.when_rested(lambda: self._shut(reason, code))

    def forsaken(self) -> None:
        """Close at rest if the process stops: the AI is lost."""
        self._departure.at_rest()

    # --- from the gateway ------------------------------------------------------------------------

    def deliver(self, mail: Mail) -> bool:
        """Send a posted message now.

        :return: False: this link cannot send it any more.
        """
        session = self._session
        if self._closed or session is None:
            return False
        match meant(mail):
            case m.Say() as words:
                session.send(words)
            case str(text):
                self._down.verbatim(text)
            case message:
                self._down.text(message)
        self._record.event("posted", say=bool(mail.say))
        return True

    def replaced(self) -> None:
        """Close: the device has connected again; the newest connection wins (§9, 22)."""
        if not self._closed:
            self._record.event("replaced")
        self._shut(CloseReason.REPLACED, "replaced")

    def dismissed(self, reason: str) -> None:
        """Close: the device is no longer allowed, or no longer as this client."""
        self._shut(CloseReason.LIMIT, reason)

    def drain(self) -> None:
        """Close after the current sentence: the process stops."""
        if not self._closed:
            reachable = self._context.bridge.available
            self._departure.begin(self._session if reachable else None)

    def go_away(self) -> None:
        """Close: the process stops now."""
        self._shut(CloseReason.STOPPING, "going_away")

    # --- mistakes and ends ------------------------------------------------------------------------

    def _refuse(self, code: str, message: str) -> None:
        self._down.text(m.Error(code, message), known=self._hello is not None)

    def _malformed(self, error: ProtocolError) -> None:
        self._context.counts.malformed += 1
        if not self._allowance.forgive():
            self.abused("malformed")
        else:
            self._refuse(error.code, error.message)

    def abused(self, what: str) -> None:
        """Close the connection: the device has exceeded a limit."""
        if not self._closed:
            self._log.info(
                "device {device} is disconnected: {what} limit exceeded",
                device=self.device.device_id,
                what=what,
            )
            self._shut(CloseReason.LIMIT, f"{what}_limit")

    # --- Watched

    def expired(self, reason: CloseReason, detail: str) -> None:
        """Close the connection: a timeout has expired."""
        self._shut(reason, detail)

    def active(self) -> None:
        """Record activity in the session log."""
        self._context.log.session_changed(self.session_id, SessionStatus.ACTIVE)

    def keep_alive(self) -> None:
        """Send a notification that devices ignore, but that keeps the connection alive (§1.5)."""
        if self._hello is not None and self._hello.features.mcp:
            self._down.text(m.Mcp(_ALIVE))

    # --- ends

    def _shut(self, reason: CloseReason, detail: str) -> None:
        if not self._closed:
            self._down.let_go()
            self._end(Ending(self.channel.code_of(reason), detail, detail))
            self.channel.close(reason, detail)

    def _end(self, ending: Ending) -> None:
        if self._closed:
            return
        self._closed = True
        self._context.counts.closed.add(ending.counted)
        self._context.allowances.keep(
            self.device.device_id, self._allowance, self._context.timers.clock.seconds()
        )
        self._answers.close()
        self._departure.close()
        self._record.utterance_over()
        self._record.close()
        session, self._session = self._session, None
        down = self._down
        down.close()
        self._watchdog.close()
        seconds = round(self._watchdog.seconds, 3)
        self._log.info(
            "{session_id}: device {device_id} disconnected after {seconds} s: {code} {reason}",
            session_id=self.session_id,
            device_id=self.device.device_id,
            seconds=seconds,
            code=ending.code,
            reason=ending.reason,
        )
        self._record.event(
            "closed",
            code=ending.code,
            reason=ending.reason,
            seconds=seconds,
            malformed=self._allowance.malformed,
            early_audio=self._early,
            stale_audio=down.stale,
            overflowed_audio=down.overflowed,
            unsendable=down.refused,
            dropped=dict(session.dropped) if session is not None else {},
        )
        self._context.log.session_changed(self.session_id, SessionStatus.DISCONNECTED)
        self._owner.session_over(self)
        if session is not None:
            session.close(closing.TO_SESSION.get(ending.reason, "device_gone"), ending.reason)
