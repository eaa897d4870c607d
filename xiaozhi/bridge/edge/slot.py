"""One stream to a target, redialled when it breaks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from xiaozhi.base.values import StreamStatus
from xiaozhi.bridge.delivery.outbox import Outbox
from xiaozhi.bridge.delivery.session import OutOfOrder, SessionEnd
from xiaozhi.bridge.edge.backoff import Backoff
from xiaozhi.bridge.edge.heartbeat import Heartbeat
from xiaozhi.bridge.items import BATCH, DRAIN, PROTOCOL_VERSION, UP, Item, heartbeat, stream_open
from xiaozhi.bridge.settings import ClientSettings
from xiaozhi.bridge.streams import IDialer, IStream, IStreamListener
from xiaozhi.wire.messages import Downlink, Uplink


class SlotState(Enum):
    """``OPENING``: dialled, the other side has not announced itself yet. ``WAITING``: until
    the next attempt.
    """

    STOPPED = "stopped"
    OPENING = "opening"
    UP = "up"
    WAITING = "waiting"


@dataclass(frozen=True, slots=True)
class EdgeEnd:
    """Parameters that all slots of one bridge share.

    :ivar random: returns numbers in [0, 1).
    :ivar node: our name, for logs and status.
    :ivar boot_id: new at every start of the process.
    """

    dialer: IDialer
    settings: ClientSettings
    clock: IReactorTime
    random: Callable[[], float]
    node: str
    boot_id: str


@dataclass(frozen=True, slots=True)
class Peer:
    """The AI process at the other end of a slot, as it announced itself.

    :ivar node: its name, for logs and status.
    :ivar process: its boot id.
    :ivar credit: audio packets it accepts of a new session; 0: no flow control.
    """

    node: str = ""
    process: str = ""
    credit: int = 0


class SlotOwner(Protocol):
    """Receives the state changes of a slot."""

    def slot_up(self, slot: StreamSlot) -> None:
        """The slot can carry sessions."""

    def slot_draining(self, slot: StreamSlot) -> None:
        """The process at the other end announced that it stops."""

    def slot_down(self, slot: StreamSlot, reason: str, retry_in: float, *, was_up: bool) -> None:
        """The stream failed, or an attempt did (``was_up`` is False). Its sessions are
        still on it.
        """


@implementer(IStreamListener)
class StreamSlot:
    """Dials, exchanges STREAM_OPEN, sends heartbeats, delivers items to sessions, redials.

    :ivar sessions: sessions on this slot, by id; they add themselves.
    :ivar outbox: None while the stream is down.
    :ivar peer: the process at the other end, or the last one.
    :ivar draining: that process stops soon and takes no new sessions.
    :ivar reconnects: number of successful redials.
    :ivar last_error: reason of the last failure, for status and logs.
    """

    def __init__(self, edge: EdgeEnd, target: str, owner: SlotOwner) -> None:
        settings = edge.settings
        self.target = target
        self.state = SlotState.STOPPED
        self.sessions: dict[str, SessionEnd[Uplink, Downlink]] = {}
        self.outbox: Outbox | None = None
        self.peer = Peer()
        self.draining = False
        self.reconnects = -1
        self.last_error = ""
        self._edge = edge
        self._owner = owner
        self._stream: IStream | None = None
        self._timer: IDelayedCall | None = None
        self._up_since = 0.0
        self._backoff = Backoff(
            settings.backoff_base,
            settings.backoff_cap,
            settings.backoff_reset,
            settings.backoff_jitter,
            edge.random,
        )
        self._heartbeat = self._new_heartbeat()

    @property
    def rtt(self) -> float | None:
        """Round-trip time of the last heartbeat, in seconds."""
        return self._heartbeat.rtt

    @property
    def suspect(self) -> bool:
        """An answer to a heartbeat is missing."""
        return self._heartbeat.missed > 0

    def status(self) -> StreamStatus:
        """Return the slot's state."""
        outbox = self.outbox
        return StreamStatus(
            state=self.state.value,
            sessions=len(self.sessions),
            round_trip=self.rtt if outbox is not None else None,
            outbox=len(outbox) if outbox is not None else 0,
            reconnects=max(0, self.reconnects),
            last_error=self.last_error,
        )

    def start(self) -> None:
        """Dial, and redial until :meth:`stop`."""
        edge, settings = self._edge, self._edge.settings
        self.state = SlotState.OPENING
        self._timer = edge.clock.callLater(settings.connect_timeout, self._too_slow)
        self._stream = edge.dialer.dial(self.target, self)
        self._stream.write([stream_open(UP, edge.node, edge.boot_id, settings.credit)])

    def stop(self) -> None:
        """Close the stream for good. Idempotent."""
        self.state = SlotState.STOPPED
        self._hang_up()

    def detail(self) -> dict[str, Any]:
        """Return :meth:`status` for ``/health``."""
        shown = asdict(self.status())
        rtt = shown.pop("round_trip")
        return {**shown, "rtt_ms": round(rtt * 1000, 3) if rtt is not None else None}

    # --- IStreamListener

    def stream_received(self, items: Sequence[Item]) -> None:
        sessions = self.sessions
        try:
            for item in items:
                session = sessions.get(item.session_id)
                if session is not None:
                    session.deliver(item)
                elif not item.session_id and self._stream is not None:
                    self._stream_item(item)
                # else: the session closed here and the other side does not know yet
        except OutOfOrder as error:
            self._failed(f"the stream lost something: {error}")

    def stream_writable(self) -> None:
        if self.outbox is not None:
            self.outbox.writable()

    def stream_closed(self, reason: str) -> None:
        self._stream = None
        self._failed(reason)

    # --- inside

    def _stream_item(self, item: Item) -> None:
        kind = item.WhichOneof("content")
        if kind == "stream" and self.state is SlotState.OPENING:
            self._opened(item.stream)
        elif self.state is not SlotState.UP:
            return
        elif kind == "heartbeat":
            self._heartbeat.answered(item.heartbeat.number)
        elif item.type == DRAIN:
            self.draining = True
            self._owner.slot_draining(self)

    def _opened(self, announced: Item) -> None:
        stream, settings, clock = self._stream, self._edge.settings, self._edge.clock
        assert stream is not None
        if announced.protocol_version != PROTOCOL_VERSION:
            self._failed(
                f"it speaks version {announced.protocol_version} of the bridge protocol, "
                f"not {PROTOCOL_VERSION}"
            )
            return
        stream.batching = BATCH in announced.features
        self._stop_timer()
        self.peer = Peer(announced.node, announced.boot_id, announced.credit)
        self.draining = announced.draining
        self.outbox = Outbox(
            stream,
            clock,
            settings.coalesce,
            settings.max_message_bytes - 1024,
            busy=settings.coalesce_busy,
        )
        self.state = SlotState.UP
        self.reconnects += 1
        self._up_since = clock.seconds()
        self._heartbeat = self._new_heartbeat()
        self._heartbeat.start()
        self._owner.slot_up(self)

    def _new_heartbeat(self) -> Heartbeat:
        settings = self._edge.settings
        return Heartbeat(
            self._edge.clock,
            settings.heartbeat_interval,
            settings.heartbeat_timeout,
            settings.heartbeat_misses,
            self._ping,
            lambda: self._failed("it does not answer heartbeats"),
        )

    def _ping(self, number: int) -> None:
        if self.outbox is not None:
            for session in self.sessions.values():
                session.settle()
            self.outbox.put(heartbeat(UP, number))

    def _too_slow(self) -> None:
        self._timer = None
        self._failed(f"no answer within {self._edge.settings.connect_timeout:g} s")

    def _failed(self, reason: str) -> None:
        up = self.state is SlotState.UP
        up_for = self._edge.clock.seconds() - self._up_since if up else 0.0
        self._hang_up()
        self.state = SlotState.WAITING
        self.last_error = reason
        delay = self._backoff.delay(up_for)
        self._timer = self._edge.clock.callLater(delay, self._retry)
        self._owner.slot_down(self, reason, delay, was_up=up)

    def _retry(self) -> None:
        self._timer = None
        self.start()

    def _hang_up(self) -> None:
        self._stop_timer()
        self._heartbeat.stop()
        if self.outbox is not None:
            self.outbox.close()
            self.outbox = None
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
