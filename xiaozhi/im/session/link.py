"""One device connection, without a socket: what comes in, what is answered.

The edge answers the hello, pings and mistakes itself and hands everything else
on, so that devices stay connected and served while the AI service is away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from twisted.logger import Logger

from xiaozhi.base.errors import ProtocolError
from xiaozhi.base.values import SessionStatus
from xiaozhi.im.session.answers import Answers
from xiaozhi.im.session.context import LinkContext
from xiaozhi.im.session.delivery import Delivery
from xiaozhi.im.session.departure import Departure
from xiaozhi.im.session.intake import Intake
from xiaozhi.im.session.ratelimit import read
from xiaozhi.im.session.turngate import TurnGate
from xiaozhi.im.session.watchdog import Watchdog
from xiaozhi.im.sessionlog.record import Record, label_of, type_of
from xiaozhi.im.websocket import closecodes
from xiaozhi.interfaces import IDeviceTransport, ISessionLink
from xiaozhi.wire import messages as m
from xiaozhi.wire.frames import Unpack, codec, framing_of, unpack_v1
from xiaozhi.wire.jsontext import JsonDialect
from xiaozhi.wire.mail import Mail, meant

# Seconds that a hello may come behind the first packet of sound: some clients hurry.
_EARLY = 2.0

_ALIVE = b'{"jsonrpc":"2.0","method":"notifications/alive"}'

# One client sends these two texts when it cannot set headers (§4.1).
_PREAMBLE = ("authorization:", "device-id:")


class LinkOwner(Protocol):
    """Who keeps the table of links."""

    def greeted(self, link: DeviceLink) -> None:
        """The device has been told hello, and can be told more."""

    def session_over(self, link: DeviceLink) -> None:
        """Nothing more passes through this link; its socket may live a moment longer."""


class DeviceLink:
    """A device's connection and its session at the AI.

    :ivar device: who it is.
    :ivar session_id: known from the start; told in the hello.
    """

    __slots__ = (
        "_alert_sound",
        "_allowance",
        "_announced",
        "_answers",
        "_closed",
        "_departure",
        "_down",
        "_early",
        "_edge",
        "_hello",
        "_host",
        "_intake",
        "_owner",
        "_record",
        "_session",
        "_transport",
        "_turns",
        "_unpack",
        "_vigil",
        "device",
        "session_id",
    )
    _log = Logger()

    def __init__(
        self,
        edge: LinkContext,
        owner: LinkOwner,
        transport: IDeviceTransport,
        device: m.Device,
        announced_framing: int = 0,
        host: str = "",
        language: str = "",
    ) -> None:
        """
        :param announced_framing: the ``Protocol-Version`` header, 0 if there was none.
        :param host: by which the device knows us.
        :param language: that it prefers, BCP 47; empty: it has not said.
        """
        self._edge = edge
        self._owner = owner
        self._transport = transport
        self._announced = announced_framing
        self._host = host
        self.device = device
        self.session_id = edge.new_session_id()
        self._turns = TurnGate(edge.settings.link)
        self._down = Delivery(edge, transport, self.session_id, self._turns)
        self._alert_sound = self._down.alert_sound
        self._session: ISessionLink | None = None
        self._hello: m.Hello | None = None
        self._unpack: Unpack = unpack_v1
        self._allowance = edge.allowances.take(device.device_id, edge.clock.seconds())
        self._record = Record(edge.journal, self.session_id, self._received)
        stays = device.device_id in edge.settings.link.keep
        keep = self._keep if stays else None
        self._vigil = Watchdog(edge, transport, self._down, self._shut, self._touch, keep)
        self._answers = Answers(
            self, edge, transport, self._down, self._vigil, self._record, language
        )
        self._intake = Intake(self._down, self._turns, self._answers, self._record)
        self._departure = Departure(self._down, self._answers, self._turns, self.go_away)
        self._early = 0
        self._closed = False

    def connected(self) -> None:
        """The socket is open."""
        self._edge.journal.session_started(self.session_id, self.device, {})
        self._record.event("connected")
        self._vigil.start()
        self._log.info(
            "{session_id}: device {device_id} connected",
            session_id=self.session_id,
            device_id=self.device.device_id,
        )

    # --- from the device -----------------------------------------------------------

    def binary_received(self, data: bytes) -> None:
        """A packet: the hot path."""
        edge = self._edge
        now = self._vigil.active = edge.clock.seconds()
        if not self._allowance.admit(now, len(data)):
            self.abused("rate")
            return
        session = self._session
        if session is None:
            self._early += 1
            edge.counts.dropped.add("early")
            if self._early == 1:
                edge.timeouts.at(now + _EARLY, self._not_greeted)
            return
        try:
            audio = self._unpack(data)
        except ProtocolError as error:
            self._malformed(error)
            return
        self._allowance.malformed_in_a_row = 0
        record = self._record
        record.frames += 1
        record.octets += len(data)
        counts = edge.counts
        counts.frames_up += 1
        counts.bytes_up += len(data)
        if self._alert_sound.expected and self._alert_sound.covers(audio.payload, now):
            counts.dropped.add("alert_sound")
            return
        if self._answers.outage is not None:
            self._answers.heard(audio.payload, now)
        if not audio.payload:
            # A browser ends a recording so (§13).
            self._down.let_go()
        session.send(audio)

    def _not_greeted(self) -> None:
        """Sound came, and no hello right behind it."""
        if self._hello is None and not self._closed:
            self._refuse("hello_first", "audio came before hello")

    def text_received(self, text: str) -> None:
        """A text, as it came."""
        if self._closed:
            return
        now = self._vigil.active = self._edge.clock.seconds()
        size = len(text.encode())
        if not self._allowance.admit(now, size):
            self.abused("rate")
            return
        if self._hello is None and text[:14].lower().startswith(_PREAMBLE):
            return
        try:
            message, dialect = read(text, size, self._edge.settings.limits)
        except ProtocolError as error:
            self._malformed(error)
            return
        self._allowance.malformed_in_a_row = 0
        self._edge.counts.messages.add("up", label_of(message))
        if isinstance(message, m.Hello):
            self._greeted(message, dialect)
        elif self._hello is None:
            self._refuse("hello_first", f"{type_of(message)} came before hello")
        else:
            self._record.message(message)
            self._take(message, now)
        self._received(label_of(message), size)

    def _received(self, kind: str, size: int, frames: int = 0) -> None:
        """Tell the log of a message, by the id under which the AI knows it; of an
        utterance with its last packet's."""
        session = self._session
        if self._edge.settings.log_messages:
            self._log.info(
                "{request_id}: {kind} from the device, {size} bytes",
                request_id=f"{self.session_id}-{session.sequence if session else 0}",
                session_id=self.session_id,
                kind=kind,
                size=size,
                frames=frames,
            )

    def framed(self, size: int) -> bool:
        """A WebSocket frame that is no message came: ping, pong or a fragment.

        :return: whether to answer a ping; not a device that floods us or does not read.
        """
        now = self._vigil.heard = self._edge.clock.seconds()
        if self._closed or self._allowance.admit(now, size):
            return self._down.congested is None
        self.abused("rate")
        return False

    def connection_lost(self, reason: str, code: int = closecodes.ABNORMAL) -> None:
        """The socket is gone, or its Close frame is out."""
        # What a device gives as a reason is its own affair.
        self._end(code, reason, closecodes.LEFT.get(code, "device_closed"))

    @property
    def down(self) -> Delivery:
        """The way to the device."""
        return self._down

    def congested(self) -> None:
        """The device does not read: its socket's buffer is full."""
        if not self._closed:
            self._down.choke()
            self._vigil.hurry()

    def uncongested(self) -> None:
        """The device reads again."""
        self._down.unchoke()

    def _greeted(self, hello: m.Hello, dialect: JsonDialect) -> None:
        if self._hello is not None:
            # Exactly one hello is answered: a second answer upsets the
            # device's next connection (§2.2; §9, 28).
            self._refuse("hello_repeated", "hello came twice")
            return
        edge = self._edge
        hello = replace(hello, version=hello.version or self._announced)
        self._hello = hello
        self._vigil.greeted = True
        framing = framing_of(hello.version)
        pack, self._unpack = codec(framing)
        self._down.adopt(dialect, pack)
        self._record.greeted(hello)
        self._down.text(m.ServerHello(self.session_id, edge.downlink))
        features = hello.features
        self._record.event(
            "hello",
            framing=framing,
            dialect=dialect.value,
            frame_duration=hello.audio.frame_duration,
            mcp=features.mcp,
            aec=features.aec,
        )
        opening = m.SessionOpen(self.session_id, self.device, hello, edge.downlink, host=self._host)
        session = edge.bridge.open(opening, self._answers)
        if self._closed:
            session.close("device_gone", "")
            return
        self._session = session
        self._down.serve(session)
        if not edge.bridge.available:
            self._answers.interrupted()
        self._owner.greeted(self)

    def _take(self, message: m.DeviceText, now: float) -> None:
        match message:
            case m.Ping():
                self._down.text(m.Pong(int(self._edge.wall() * 1000)))
                return
            case m.Goodbye():
                self._shut(closecodes.NORMAL, "goodbye")
                return
        sent = self._intake.take(message, now)
        # Hello has been taken care of by the caller.
        assert not isinstance(sent, m.Hello)
        # None: the AI has said goodbye, and what it said is still being heard.
        if self._session is not None:
            self._session.send(sent)
        self._answers.missed(now)
        self._departure.check()

    def microphone(self) -> m.Listen | None:
        """What opened the microphone, as far as we have been told."""
        return self._turns.microphone

    def retract(self, unwanted: Callable[[Any], bool]) -> None:
        """Take back what the AI has not received."""
        if self._session is not None:
            self._session.retract(unwanted)

    def depart(self, code: str) -> None:
        """The AI ended the session: what is being said is heard to its end first."""
        self._session = None
        self._down.let_go()
        if self._departure.begun:
            self._departure.at_rest()
            return
        ws_code = closecodes.OF_SESSION.get(code, closecodes.INTERNAL)
        self._down.when_rested(lambda: self._shut(ws_code, code))

    def forsaken(self) -> None:
        """The AI is lost: nobody is answered any more before the process stops."""
        self._departure.at_rest()

    # --- from the gateway ------------------------------------------------------------------------

    def deliver(self, mail: Mail) -> bool:
        """Send what somebody has posted, now.

        :return: False: it cannot be sent by this link any more.
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
        """The same device has connected anew; the newest wins (§9, 22)."""
        if not self._closed:
            self._record.event("replaced")
        self._shut(closecodes.REPLACED, "replaced")

    def dismissed(self, reason: str) -> None:
        """The device may not be connected any more, or not as this client."""
        self._shut(closecodes.POLICY, reason)

    def drain(self) -> None:
        """The process stops: let the device go when the sentence has been heard."""
        if not self._closed:
            reachable = self._edge.bridge.available
            self._departure.begin(self._session if reachable else None)

    def go_away(self) -> None:
        """The process stops now."""
        self._shut(closecodes.GOING_AWAY, "going_away")

    # --- mistakes and ends ------------------------------------------------------------------------

    def _refuse(self, code: str, message: str) -> None:
        self._down.text(m.Error(code, message), known=self._hello is not None)

    def _malformed(self, error: ProtocolError) -> None:
        self._edge.counts.malformed += 1
        if not self._allowance.forgive():
            self.abused("malformed")
        else:
            self._refuse(error.code, error.message)

    def abused(self, what: str) -> None:
        """The device is over a limit: it is closed."""
        if not self._closed:
            self._log.info(
                "{device} is closed: {what} limit", device=self.device.device_id, what=what
            )
            self._shut(closecodes.POLICY, f"{what}_limit")

    def _keep(self) -> None:
        """Devices ignore notifications they do not know, but see that we live (§1.5)."""
        if self._hello is not None and self._hello.features.mcp:
            self._down.text(m.Mcp(_ALIVE))

    def _touch(self) -> None:
        self._edge.journal.session_changed(self.session_id, SessionStatus.ACTIVE)

    def _shut(self, code: int, reason: str) -> None:
        if not self._closed:
            self._down.let_go()
            self._end(code, reason, reason)
            self._transport.close(code, reason)

    def _end(self, code: int, reason: str, counted: str) -> None:
        if self._closed:
            return
        self._closed = True
        self._edge.counts.closed.add(counted)
        self._edge.allowances.keep(
            self.device.device_id, self._allowance, self._edge.clock.seconds()
        )
        self._answers.close()
        self._departure.close()
        self._record.utterance_over()
        self._record.close()
        session, self._session = self._session, None
        down = self._down
        down.close()
        self._vigil.close()
        seconds = round(self._vigil.seconds, 3)
        self._log.info(
            "{session_id}: device {device_id} gone after {seconds} s: {code} {reason}",
            session_id=self.session_id,
            device_id=self.device.device_id,
            seconds=seconds,
            code=code,
            reason=reason,
        )
        self._record.event(
            "closed",
            code=code,
            reason=reason,
            seconds=seconds,
            malformed=self._allowance.malformed,
            early_audio=self._early,
            stale_audio=down.stale,
            overflowed_audio=down.overflowed,
            unsendable=down.refused,
            dropped=dict(session.dropped) if session is not None else {},
        )
        self._edge.journal.session_changed(self.session_id, SessionStatus.DISCONNECTED)
        self._owner.session_over(self)
        if session is not None:
            session.close(closecodes.TO_SESSION.get(reason, "device_gone"), reason)
