"""The edge's end of the bridge: a pool of streams, and the sessions on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from xiaozhi.bridge.items import DOWN, UP
from xiaozhi.bridge.lane import Edge, Lane
from xiaozhi.bridge.session import Ends, SessionEnd
from xiaozhi.bridge.settings import ClientSettings
from xiaozhi.bridge.streams import IDialer
from xiaozhi.bridge.target import Target
from xiaozhi.bridge.waiting import Bounds, Waiting
from xiaozhi.interfaces import IBridge, ISessionEvents, ISessionLink
from xiaozhi.values import BridgeStatus
from xiaozhi.wire.messages import Error, Flow, SessionOpen


class ClientSession(SessionEnd):
    """The edge's end of a session: goes from lane to lane as they break.

    The opening is the session's message number 1, also when it is sent again.
    """

    def __init__(
        self,
        ends: Ends,
        opening: SessionOpen,
        events: ISessionEvents,
        left: Callable[[ClientSession], None],
    ) -> None:
        super().__init__(ends, opening.session_id, opening.device.device_id)
        self.events = events
        self._opening = opening
        self._on_left = left
        self._sequence = 1
        self._lane: Lane | None = None
        self._opened = False  # ever
        self._announced = False  # on this lane
        self._interrupted_at = -1  # the sequence when this was last told
        self._waiting = Waiting(ends.bounds, ends.drops)

    def board(self, lane: Lane) -> None:
        """Go on on this lane; the opening is sent at its outbox's next ``release``."""
        assert lane.outbox is not None
        self._lane = lane
        lane.sessions[self.session_id] = self
        self._outbox = lane.outbox
        self._outbox.queue_up(self)

    def unboard(self) -> None:
        """The lane broke. What is sent from now on waits.

        If nothing was said since the last time this happened, nothing was interrupted.
        """
        talked = self._received > 0 or self._sequence != self._interrupted_at
        interrupted = self._announced and talked
        self._announced = False
        self._received = 0
        self._leave_lane()
        self._outbox = None
        if self._waiting is None:
            self._waiting = Waiting(self._ends.bounds, self._ends.drops)
        self._hold("peer", False)
        if interrupted:
            self._interrupted_at = self._sequence
            try:
                self.events.interrupted()
            except Exception:
                self._failed()

    def send_waiting(self) -> None:
        outbox, returning = self._outbox, self._opened
        if self._announced or outbox is None or self._waiting is None:
            super().send_waiting()
            return
        self._announced = self._opened = True
        item = self._control(outbox, 1, replace(self._opening, resumed=returning))
        if item is not None:
            outbox.add(item)
        super().send_waiting()
        if returning and self._pausing:  # the other side may be new and not know
            self.send(Flow(True))

    def _refused(self, code: str, message: str) -> None:
        super()._refused(code, message)
        # Not from within send(): whoever sends may be in the middle of something.
        self._ends.clock.callLater(0, self._tell, Error(code, message))

    def _tell(self, error: Error) -> None:
        if not self.over:
            try:
                self.events.received(error)
            except Exception:
                self._failed()

    def _left(self) -> None:
        if self._lane is None:
            self._waiting = None
        # else: what waits, the close at its end, still goes out by the outbox
        self._leave_lane()
        self._on_left(self)

    def _leave_lane(self) -> None:
        lane, self._lane = self._lane, None
        if lane is not None and lane.sessions.get(self.session_id) is self:
            del lane.sessions[self.session_id]


@implementer(IBridge)
class BridgeClient:
    """Places sessions on lanes, and places them anew when lanes break.

    A new session goes to the least loaded target that is up and there to the
    least loaded lane. It stays with its target as long as that has a lane.
    Without any lane it waits, and so do its messages (``waiting.Bounds``).

    :param random: numbers in [0, 1), for the backoff's jitter.
    :param node: our name, for people.
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
        self._drops: Counter[str] = Counter()
        bounds = Bounds(settings.queue_messages, settings.queue_audio, settings.audio_max_age)
        self._ends = Ends(UP, DOWN, bounds, clock, self._drops)
        edge = Edge(dialer, settings, clock, random, node, boot_id)
        self._targets = [Target(edge, address, self) for address in settings.targets]
        self._sessions: dict[ClientSession, None] = {}
        self._homeless: dict[ClientSession, None] = {}  # in the order they came

    def start(self) -> Deferred[None]:
        """Begin to dial. Fires without waiting for a connection."""

        async def start() -> None:
            await self._dialer.start()
            for target in self._targets:
                target.start()

        return Deferred.fromCoroutine(start())

    def stop(self) -> Deferred[None]:
        """End all sessions, hang up. Fires when nothing runs any more."""
        for session in list(self._sessions):
            session.end("bridge_stopped", "The service is stopping.")
        for target in self._targets:
            target.stop()
        return self._dialer.stop()

    # --- IBridge

    def open(self, opening: SessionOpen, events: ISessionEvents) -> ISessionLink:
        session = ClientSession(self._ends, opening, events, self._session_left)
        self._sessions[session] = None
        lane = self._place(session, None)
        if lane is not None and lane.outbox is not None:
            lane.outbox.release()
        return session

    def status(self) -> BridgeStatus:
        states = {target.state for target in self._targets}
        state = next((s for s in ("connected", "connecting") if s in states), "disconnected")
        return BridgeStatus(
            state=state,
            streams=sum(target.streams for target in self._targets),
            sessions=len(self._sessions),
            detail={
                "targets": {target.address: target.detail() for target in self._targets},
                "waiting_sessions": len(self._homeless),
                "dropped": dict(self._drops),
            },
        )

    # --- TargetOwner

    def lane_up(self, target: Target, lane: Lane) -> None:
        homeless, self._homeless = self._homeless, {}
        for session in homeless:
            session.board(lane)
        if lane.outbox is not None:
            lane.outbox.release()

    def lane_lost(self, target: Target, lane: Lane) -> None:
        sessions = list(lane.sessions.values())
        lanes: dict[Lane, None] = {}
        for session in sessions:
            assert isinstance(session, ClientSession)
            session.unboard()
            if not session.over:
                found = self._place(session, target)
                if found is not None:
                    lanes[found] = None
        for found in lanes:
            if found.outbox is not None:
                found.outbox.release()

    # --- inside

    def _place(self, session: ClientSession, preferred: Target | None) -> Lane | None:
        """Give the session a lane, or let it wait for one."""
        lane = preferred.best_lane() if preferred is not None else None
        if lane is None:
            up = [target for target in self._targets if target.streams]
            target = min(up, key=lambda target: target.sessions, default=None)
            lane = target.best_lane() if target is not None else None
        if lane is None:
            self._homeless[session] = None
        else:
            session.board(lane)
        return lane

    def _session_left(self, session: ClientSession) -> None:
        self._sessions.pop(session, None)
        self._homeless.pop(session, None)
