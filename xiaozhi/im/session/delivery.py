"""Delivery: sends texts and speech to one device."""

from __future__ import annotations

from collections.abc import Callable

from xiaozhi.base.errors import ProtocolError
from xiaozhi.base.values import LogDirection
from xiaozhi.im.playout.alertsound import AlertSound
from xiaozhi.im.playout.pacer import Pacer
from xiaozhi.im.session.context import LinkContext
from xiaozhi.im.session.turngate import TurnGate
from xiaozhi.im.sessionlog.record import audio_content, content_of, label_of, type_of
from xiaozhi.interfaces import IDeviceChannel, IEdgeLink
from xiaozhi.wire.jsontext import JsonDialect, render
from xiaozhi.wire.messages import (
    Alert,
    Audio,
    Playback,
    PlaybackState,
    ServerText,
    Tts,
    TtsState,
)


class Delivery:
    """Sends texts to a device in its dialect, and speech at playback speed.

    Texts are sent at once. Speech passes a :class:`Pacer`, which is made for the first speech:
    most connections are idle and should cost little.

    :ivar active: clock time at which something was last sent.
    :ivar congested: clock time since which the device has not read; None: it reads.
    :ivar alert_sound: filter for the sound of an alert in the microphone.
    :ivar refused: number of the AI's messages that the device's format cannot represent.
    """

    __slots__ = (
        "_backlog",
        "_channel",
        "_context",
        "_dialect",
        "_frames",
        "_held_stop",
        "_hold_tick",
        "_holding",
        "_octets",
        "_open",
        "_pacer",
        "_rest",
        "_session",
        "_session_id",
        "_turns",
        "_winding_up",
        "active",
        "alert_sound",
        "congested",
        "refused",
    )

    def __init__(
        self, context: LinkContext, channel: IDeviceChannel, session_id: str, turns: TurnGate
    ) -> None:
        """:param turns: receives each ``tts stop``."""
        self._context = context
        self._turns = turns
        self._channel = channel
        self._session_id = session_id
        self._session: IEdgeLink | None = None
        self._dialect = JsonDialect.FLAT
        self._pacer: Pacer | None = None
        # Packets and bytes of the current turn.
        self._frames = self._octets = 0
        # Bound: an alert about an outage, a drain, a farewell.
        self._rest: list[Callable[[], None]] = []
        self._open = True
        self._winding_up = False
        # The ``tts stop`` of a turn that was cut by a button that is still pressed.
        self._holding = False
        self._held_stop: Tts | None = None
        self._hold_tick = 0
        self._backlog = 0
        self.active = context.timers.clock.seconds()
        self.congested: float | None = None
        self.refused = 0
        self.alert_sound = AlertSound(context.settings.link.alert_sound)

    def adopt(self, dialect: JsonDialect) -> None:
        """Use the dialect of the device's hello."""
        self._dialect = dialect

    def serve(self, session: IEdgeLink) -> None:
        """Report playback to this session from now on."""
        self._session = session

    # --- texts -------------------------------------------------------------------------

    def text(self, message: ServerText, *, known: bool = True) -> None:
        """Send a text now.

        :param known: whether the device knows its session id.
        """
        if not self._open:
            return
        context = self._context
        self.active = context.timers.clock.seconds()
        session_id = self._session_id if known else ""
        try:
            text = render(message, self._dialect, session_id, int(context.timers.wall() * 1000))
        except ProtocolError:
            self._cannot_send()
            return
        if self.congested is not None:
            self._backlog += len(text)
        self._channel.send_text(text)
        if type(message) is Alert:
            self.alert_sound.begins(self.active)
        self._context.counts.messages.add("down", label_of(message))
        self._context.log.message(
            self._session_id, type_of(message), LogDirection.OUTBOUND, content_of(message)
        )

    def verbatim(self, text: str) -> None:
        """Send a text unchanged, now."""
        if not self._open:
            return
        self.active = self._context.timers.clock.seconds()
        if self.congested is not None:
            self._backlog += len(text)
        self._channel.send_text(text)
        self._context.log.message(self._session_id, "posted", LogDirection.OUTBOUND, None)

    def _cannot_send(self) -> None:
        self.refused += 1
        self._context.counts.dropped.add("unsendable")

    # --- speech --------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether the device is in a turn, or one is queued."""
        return self._pacer is not None and self._pacer.busy

    @property
    def turn(self) -> int | None:
        """The device's turn, if any."""
        return self._pacer.turn if self._pacer is not None else None

    @property
    def heard_since(self) -> float | None:
        """When the first sound of the current turn was sent; None: not yet."""
        return self._pacer.heard_since if self._pacer is not None else None

    @property
    def unfinished(self) -> bool:
        """Whether the AI has not ended a turn yet."""
        return self._pacer is not None and self._pacer.unfinished

    @property
    def uncounted(self) -> tuple[int, int]:
        """Packets and bytes of the current turn, which are counted at its end: an addition per
        turn costs less than one per packet."""
        return self._frames, self._octets

    @property
    def waiting(self) -> int:
        """Packets in the queue."""
        return self._pacer.frames if self._pacer is not None else 0

    @property
    def stale(self) -> int:
        return self._pacer.stale if self._pacer is not None else 0

    @property
    def overflowed(self) -> int:
        return self._pacer.overflowed if self._pacer is not None else 0

    def audio(self, audio: Audio) -> None:
        """Queue a packet from the AI."""
        (self._pacer or self._paced()).audio(audio)

    def tts(self, message: Tts) -> None:
        """Queue a turn's start, sentence or stop from the AI."""
        (self._pacer or self._paced()).tts(message)

    def flush(self, turn: int) -> None:
        """Drop the unplayed rest of a turn, on the AI's request."""
        (self._pacer or self._paced()).flush(turn)

    def pause(self, turn: int, *, paused: bool) -> None:
        """Pause or resume a turn, on the AI's request."""
        if paused or self._pacer is not None:
            (self._pacer or self._paced()).pause(turn, paused=paused)

    def cut(self, *, hold: bool = False) -> None:
        """End the current turn, on the device's request.

        Outside a turn nothing is sent: a device is in ``speaking`` only between our start
        and our stop, and an extra stop could end the next turn (§4.5).

        :param hold: delay the ``tts stop`` until :meth:`let_go`, the next turn or
            ``pacer.stop_hold``. py-xiaozhi closes its microphone at a ``tts stop``, even
            while its button is pressed (§10).
        """
        if self._pacer is not None:
            self._holding = hold
            self._pacer.cut()
            self._holding = False

    def let_go(self) -> None:
        """Send the delayed ``tts stop``, if any."""
        stop, self._held_stop = self._held_stop, None
        if stop is not None:
            self._context.timers.timeouts.cancel(self._hold_tick, self.let_go)
            self.send(stop)

    def wind_up(self) -> None:
        """Let the current sentence be the last, see :meth:`Pacer.wind_up`."""
        self._winding_up = True
        if self._pacer is not None:
            self._pacer.wind_up()

    def finish(self) -> None:
        """End the turn after playback: the AI sends nothing more."""
        if self._pacer is not None:
            self._pacer.finish()

    def when_rested(self, call: Callable[[], None]) -> None:
        """Call a function when everything has been played, now or later."""
        if self.busy:
            self._rest.append(call)
        else:
            call()

    def at_rest(self, call: Callable[[], None]) -> None:
        """As :meth:`when_rested`, but never synchronously."""
        self._rest.append(call)

    def _paced(self) -> Pacer:
        context = self._context
        self._pacer = Pacer(
            self,
            context.timers.pacing,
            context.timers.clock,
            context.settings.pacer,
            context.downlink.frame_duration,
            context.counts,
        )
        if self.congested is not None or not self._open:
            self._pacer.block()
        if self._winding_up:
            self._pacer.wind_up()
        return self._pacer

    # --- the socket -----------------------------------------------------------------------

    def choke(self) -> None:
        """Stop sending speech: the device does not read."""
        if self.congested is None:
            self.congested = self._context.timers.clock.seconds()
            self._backlog = 0
            if self._pacer is not None:
                self._pacer.block()

    def unchoke(self) -> None:
        """Resume speech: the device reads again."""
        self.congested = None
        if self._pacer is not None and self._open:
            self._pacer.unblock()

    def overdue(self, now: float) -> bool:
        """Return whether the device has not read for too long."""
        settings = self._context.settings
        return self.congested is not None and (
            self._backlog > settings.limits.backlog_bytes
            or now - self.congested >= settings.link.congestion_timeout
        )

    def close(self) -> None:
        """Send nothing more and drop the queue."""
        self._open = False
        self._session = None
        self._rest.clear()
        if self._held_stop is not None:
            self._context.timers.timeouts.cancel(self._hold_tick, self.let_go)
            self._held_stop = None
        if self._pacer is not None:
            self._record(self._pacer.close())

    # --- PacerOutput ------------------------------------------------------------------------

    def send(self, message: Tts) -> None:
        if message.state is TtsState.STOP:
            now = self._context.timers.clock.seconds()
            if self._holding:
                self._held_stop = message
                due = now + self._context.settings.pacer.stop_hold
                self._hold_tick = self._context.timers.timeouts.at(due, self.let_go)
                return
            self._turns.stopped(now)
        elif message.state is TtsState.START:
            self.let_go()
        self.text(message)

    def play(self, audio: Audio) -> None:
        try:
            size = self._channel.send_audio(audio)
        except ProtocolError:
            self._cannot_send()
            return
        self.active = self._context.timers.clock.seconds()
        self._frames += 1
        self._octets += size

    def report(self, playback: Playback) -> None:
        if playback.state is not PlaybackState.STARTED:
            self._record(playback.played_ms)
        if self._session is not None:
            self._session.send(playback)

    def hold(self) -> None:
        if self._session is not None:
            self._session.pause()

    def release(self) -> None:
        if self._session is not None:
            self._session.resume()

    def rested(self) -> None:
        if self._rest:
            rest, self._rest = self._rest, []
            for call in rest:
                call()

    def _record(self, ms: int) -> None:
        if self._frames:
            content = audio_content(self._frames, self._octets, ms)
            self._context.log.message(self._session_id, "audio", LogDirection.OUTBOUND, content)
            self._context.counts.sent(self._frames, self._octets)
            self._frames = self._octets = 0
