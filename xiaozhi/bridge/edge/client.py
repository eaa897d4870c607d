"""The edge's end of the bridge: a pool of streams, and the sessions on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from xiaozhi.base.values import BridgeStatus
from xiaozhi.bridge.deadlines import Deadlines
from xiaozhi.bridge.delivery.pending import Bounds, ByteBudget
from xiaozhi.bridge.delivery.shared import SharedState
from xiaozhi.bridge.edge.client_session import ClientSession
from xiaozhi.bridge.edge.slot import EdgeEnd, StreamSlot
from xiaozhi.bridge.edge.target import Target
from xiaozhi.bridge.items import DOWN, UP
from xiaozhi.bridge.settings import ClientSettings
from xiaozhi.bridge.streams import IDialer
from xiaozhi.interfaces import IBridge, IEdgeEvents, IEdgeLink
from xiaozhi.wire.messages import SessionOpen

# Seconds to wait for a target's other slots after the first is up, before waiting sessions
# are spread over those that are up.
_TOGETHER = 0.05


@implementer(IBridge)
class BridgeClient:
    """Places sessions on slots, and again when slots break.

    A new session goes to the least loaded healthy slot of the least loaded target.
    It stays with its AI process: when the slot breaks, it resumes on another slot to the
    same process, and waits up to ``resume_timeout`` for one. The process counts as lost
    when a different one answers at its address, when that time is over, or when it refuses
    a dial while another target is available. Then the session is opened again elsewhere.
    Without any slot the session and its messages wait (``pending.Bounds``).

    :param random: returns numbers in [0, 1), for the backoff's jitter.
    :param node: our name, for logs and status.
    :param boot_id: new at every start of the process.
    """

    _log = Logger()

    def __init__(
        self,
        dialer: IDialer,
        settings: ClientSettings,
        clock: IReactorTime,
        random: Callable[[], float],
        node: str,
        boot_id: str,
    ) -> None:
        self._dialer = dialer
        self._settings = settings
        self._clock = clock
        self._drops: Counter[str] = Counter()
        bounds = Bounds(
            settings.queue_messages,
            settings.queue_audio,
            settings.audio_max_age,
            ByteBudget(settings.queue_bytes),
        )
        self._shared = SharedState(UP, DOWN, bounds, settings.credit, clock, self._drops)
        self._edge = EdgeEnd(dialer, settings, clock, random, node, boot_id)
        self._targets: dict[str, Target] = {}
        self._running = False
        self._sessions: dict[ClientSession, None] = {}
        # Sessions that wait for any slot, oldest first; and those that wait for one to
        # their own process.
        self._homeless: dict[ClientSession, None] = {}
        self._stranded: Deadlines[ClientSession] = Deadlines(
            clock, settings.resume_timeout, self._give_up
        )
        self._settling: IDelayedCall | None = None
        self.retarget(settings.given_targets)

    def start(self) -> Deferred[None]:
        """Begin to dial; fires without waiting for a connection."""

        async def start() -> None:
            await self._dialer.start()
            self._running = True
            for target in self._targets.values():
                target.start()

        return Deferred.fromCoroutine(start())

    def stop(self) -> Deferred[None]:
        """End all sessions and close all streams; fires when both are done."""
        self._running = False
        for session in list(self._sessions):
            session.end("bridge_stopped", "The service is stopping.")
        for target in self._targets.values():
            target.stop()
        self._stranded.stop()
        self._shared.unreadable.stop()
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None
        return self._dialer.stop()

    def retarget(self, addresses: Iterable[str]) -> None:
        """Replace the addresses. A removed address keeps its sessions until they end, and
        gets no new ones.
        """
        wanted = dict.fromkeys(addresses)
        for address in wanted:
            target = self._targets.get(address)
            if target is None:
                target = self._targets[address] = Target(self._edge, address, self)
                if self._running:
                    target.start()
            if target.retired:
                target.retired = False
                self._settle_in(0.0)
        for address, target in self._targets.items():
            if address not in wanted:
                target.retired = True
        self._dismiss_retired()

    # --- IBridge

    def open(self, opening: SessionOpen, events: IEdgeEvents) -> IEdgeLink:
        session = ClientSession(self._shared, opening, events, self)
        self._sessions[session] = None
        self._place([session])
        return session

    @property
    def available(self) -> bool:
        return self._best_slot() is not None

    def status(self) -> BridgeStatus:
        targets = self._targets.values()
        states = {target.state for target in targets}
        if self.available:
            state = "connected"
        else:
            state = "disconnected" if states <= {"disconnected"} else "connecting"
        known = tuple(target.status() for target in targets)
        return BridgeStatus(
            state=state,
            streams=sum(len(target.slots) for target in targets),
            sessions=len(self._sessions),
            detail={
                "targets": {target.address: target.detail() for target in targets},
                "waiting_sessions": len(self._homeless) + len(self._stranded),
                "dropped": dict(self._drops),
            },
            waiting=len(self._homeless) + len(self._stranded),
            outbox=sum(stream.outbox for target in known for stream in target.streams),
            dropped=dict(self._drops),
            targets=known,
        )

    # --- TargetOwner

    def slot_up(self, target: Target, slot: StreamSlot) -> None:
        if target.complete:
            self._settle()
        elif self._homeless or self._stranded:
            self._settle_in(_TOGETHER)

    def slot_lost(self, target: Target, slot: StreamSlot) -> None:
        touched: dict[StreamSlot, None] = {}
        for session in list(slot.sessions.values()):
            assert isinstance(session, ClientSession)
            session.unboard()
            if session.over:
                continue
            other = target.slot_to(session.process)
            if other is not None:
                session.board(other)
                touched[other] = None
            else:
                self._stranded.add(session)
        _release(touched)
        self._dismiss_retired()

    def target_silent(self, target: Target) -> None:
        if self.available:
            self._give_up([s for s in self._stranded if s.target == target.address])

    # --- SessionOwner

    def session_left(self, session: ClientSession) -> None:
        self._sessions.pop(session, None)
        self._homeless.pop(session, None)
        self._stranded.discard(session)
        self._dismiss_retired()

    def session_moves(self, session: ClientSession) -> None:
        self._homeless[session] = None
        # Later: the stream's items are being read now.
        self._settle_in(0.0)

    # --- inside

    def _place(self, sessions: Iterable[ClientSession]) -> None:
        """Place each session on a slot, or let it wait for one."""
        touched: dict[StreamSlot, None] = {}
        for session in sessions:
            slot = self._best_slot()
            if slot is None:
                self._homeless[session] = None
                session.stray()
            else:
                session.board(slot)
                touched[slot] = None
        _release(touched)

    def _best_slot(self) -> StreamSlot | None:
        best, load = None, None
        for target in self._targets.values():
            slot = target.slot_for_new()
            if slot is not None:
                its = (slot.suspect, target.sessions)
                if load is None or its < load:
                    best, load = slot, its
        return best

    def _settle_in(self, seconds: float) -> None:
        if self._settling is None:
            self._settling = self._clock.callLater(seconds, self._settle)
        elif self._settling.getTime() > self._clock.seconds() + seconds:
            self._settling.reset(seconds)

    def _settle(self) -> None:
        """Spread waiting sessions over the available slots."""
        if self._settling is not None and self._settling.active():
            self._settling.cancel()
        self._settling = None
        touched: dict[StreamSlot, None] = {}
        lost = []
        for session in self._stranded:
            target = self._targets[session.target]
            slot = target.slot_to(session.process)
            if slot is not None:
                self._stranded.discard(session)
                session.board(slot)
                touched[slot] = None
            elif target.slots:  # another process is there now
                lost.append(session)
        _release(touched)
        self._give_up(lost)
        homeless, self._homeless = self._homeless, {}
        self._place(homeless)

    def _give_up(self, sessions: list[ClientSession]) -> None:
        """Open these sessions again: their process is lost."""
        for session in sessions:
            self._stranded.discard(session)
            session.forsake(lost=True)
        self._place(session for session in sessions if not session.over)
        self._dismiss_retired()

    def _dismiss_retired(self) -> None:
        """Stop retired targets that have no sessions left."""
        for address, target in list(self._targets.items()):
            waited_for = target.retired and any(s.target == address for s in self._stranded)
            if target.retired and not target.sessions and not waited_for:
                target.stop()
                del self._targets[address]


def _release(slots: Iterable[StreamSlot]) -> None:
    for slot in slots:
        if slot.outbox is not None:
            slot.outbox.release()
