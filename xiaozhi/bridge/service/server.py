"""The AI service's end of the bridge: the sessions of all streams."""

from __future__ import annotations

from collections import Counter

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from xiaozhi.base.errors import XiaozhiError
from xiaozhi.base.values import BridgeStatus
from xiaozhi.bridge.deadlines import Deadlines
from xiaozhi.bridge.delivery.pending import Bounds
from xiaozhi.bridge.delivery.shared import SharedState
from xiaozhi.bridge.items import DOWN, UP, Item, drain
from xiaozhi.bridge.service.edge_stream import EdgeStream
from xiaozhi.bridge.service.quotas import SessionQuotas
from xiaozhi.bridge.service.server_session import ServerSession
from xiaozhi.bridge.settings import ServerSettings
from xiaozhi.bridge.streams import IStream, IStreamAcceptor, IStreamListener, IStreamPort
from xiaozhi.interfaces import ISessionAcceptor
from xiaozhi.wire.messages import SessionClose, SessionOpen

# Closed sessions whose close is remembered for edges whose stream broke meanwhile. Older
# ones are forgotten, and an edge opens such a session again.
_FAREWELLS = 1024


@implementer(IStreamAcceptor)
class BridgeServer:
    """Accepts streams and holds the sessions that edges open on them.

    A session whose stream breaks waits ``resume_timeout`` for its edge to resume it on
    another.

    :param node: our name, for logs and status.
    :param boot_id: new at every start of the process; edges recognise the process by it.
    """

    _log = Logger()

    def __init__(
        self,
        port: IStreamPort,
        acceptor: ISessionAcceptor,
        settings: ServerSettings,
        clock: IReactorTime,
        node: str,
        boot_id: str,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.node = node
        self.boot_id = boot_id
        self._port = port
        self._quotas = SessionQuotas(settings, clock)
        self._acceptor = acceptor
        self._drops: Counter[str] = Counter()
        bounds = Bounds(settings.queue_messages, settings.queue_audio, settings.audio_max_age)
        self._shared = SharedState(DOWN, UP, bounds, settings.credit, clock, self._drops)
        self._streams: dict[EdgeStream, None] = {}
        self._sessions: dict[str, ServerSession] = {}
        self._orphans: Deadlines[ServerSession] = Deadlines(
            clock, settings.resume_timeout, self._edge_lost
        )
        self._farewells: dict[str, SessionClose] = {}
        self._listening = False
        self.draining = False
        self._drained: Deferred[None] | None = None
        self._hurry: IDelayedCall | None = None

    @property
    def address(self) -> str:
        """``host:port`` as bound; empty before :meth:`start`."""
        return str(self._port.address)

    def start(self) -> Deferred[None]:
        """Listen.

        :raises BridgeError: through the Deferred; names the address.
        """

        async def start() -> None:
            await self._port.start(self)
            self._listening = True
            self._log.info("edges can connect to {address}", address=self.address)

        return Deferred.fromCoroutine(start())

    def drain(self, timeout: float) -> Deferred[None]:
        """Refuse new sessions and move the existing ones to other processes.

        Each moves when it is idle.

        :param timeout: seconds until the remaining sessions move, busy or not.
        :return: fires when no session remains.
        """
        self.draining = True
        for stream in list(self._streams):
            stream.outbox.put(drain())
        for session in list(self._sessions.values()):
            session.drain()
        if not self._sessions:
            return succeed(None)
        self._log.info("moving {count} sessions to other processes", count=len(self._sessions))
        self._drained = Deferred()
        self._hurry = self.clock.callLater(timeout, self._dismiss)
        return self._drained

    def stop(self) -> Deferred[None]:
        """End all sessions and streams; fires when both are done."""
        self._listening = False
        for session in list(self._sessions.values()):
            session.end("bridge_stopped", "The AI service is stopping.")
        self._orphans.stop()
        self._shared.unreadable.stop()
        self._quotas.stop()
        for stream in list(self._streams):
            stream.hang_up()
        self._streams.clear()
        return self._port.stop()

    def status(self) -> BridgeStatus:
        """Return the bridge's state, for ``/health``."""
        edges = Counter(stream.node for stream in self._streams)
        return BridgeStatus(
            state="connected" if edges else "connecting" if self._listening else "disconnected",
            streams=len(self._streams),
            sessions=len(self._sessions),
            detail={
                "address": self.address,
                "draining": self.draining,
                "edges": dict(edges),
                "outbox": sum(len(stream.outbox) for stream in self._streams),
                "orphans": len(self._orphans),
                "dropped": dict(self._drops),
            },
            outbox=sum(len(stream.outbox) for stream in self._streams),
            dropped=dict(self._drops),
            waiting=len(self._orphans),
            draining=self.draining,
        )

    # --- IStreamAcceptor

    def stream_opened(self, stream: IStream) -> IStreamListener:
        edge = EdgeStream(self, stream)
        self._streams[edge] = None
        return edge

    # --- for streams

    def stream_lost(self, edge: EdgeStream, reason: str) -> None:
        """Keep the sessions of a lost stream for ``resume_timeout``."""
        self._streams.pop(edge, None)
        sessions = list(edge.sessions.values())
        self._log.info(
            "a stream of edge {node} ended with {sessions} sessions: {reason}",
            node=edge.node,
            sessions=len(sessions),
            reason=reason,
        )
        for session in sessions:
            session.detach()
            self._orphans.add(session)

    def open(self, edge: EdgeStream, opening: SessionOpen, sequence: int) -> None:
        """Open a session for an edge.

        :param sequence: its last sequence that the edge knows was received.
        """
        session_id = opening.session_id
        former = self._sessions.get(session_id)
        if former is not None and opening.incarnation <= former.incarnation:
            # A duplicate, or late on a stream that the edge gave up.
            return
        if former is not None:
            former.end("replaced", "The edge opened the session again.")
        elif refused := self._quotas.refusal(edge.remote, len(edge.sessions)):
            self._drops["too_many_sessions"] += 1
            edge.dismiss(session_id, opening.device.device_id, refused)
            return
        # Registered before it is accepted, because that may close it.
        session = ServerSession(self._shared, opening, self, sequence)
        self._sessions[session_id] = session
        self._quotas.opened(session, edge.remote)
        self._farewells.pop(session_id, None)
        session.attach(edge)
        try:
            session.accepted(self._acceptor.accept(opening, session))
            session.restore(opening)
        except Exception as error:
            self._refuse(session, error)
        edge.outbox.release()

    def resume(self, edge: EdgeStream, item: Item) -> bool:
        """Resume a session on this stream.

        :return: False: unknown session.
        """
        session = self._sessions.get(item.session_id)
        if session is None or session.incarnation != item.resume.incarnation:
            return False
        session.resumed(item)
        if session.carrier is not edge:
            self._orphans.discard(session)
            self._quotas.moved(session, edge.remote)
            session.attach(edge)
            edge.outbox.release()
        return True

    def session(self, session_id: str) -> ServerSession | None:
        """Return a session of any stream or without one; None: unknown."""
        return self._sessions.get(session_id)

    def farewell(self, session_id: str) -> SessionClose:
        """Return the closing message for an unknown session: the first may have been lost."""
        unknown = SessionClose("unknown_session", "There is no such session.")
        return self._farewells.get(session_id, unknown)

    # --- for sessions

    def session_left(self, session: ServerSession) -> None:
        """Forget a session that is over."""
        self._quotas.left(session)
        self._orphans.discard(session)
        if session.farewell is not None:
            self._farewells[session.session_id] = session.farewell
            if len(self._farewells) > _FAREWELLS:
                del self._farewells[next(iter(self._farewells))]
        if self._sessions.get(session.session_id) is session:
            del self._sessions[session.session_id]
        if self._drained is not None and not self._sessions:
            drained, self._drained = self._drained, None
            if self._hurry is not None and self._hurry.active():
                self._hurry.cancel()
            # Later: the session still has something to send.
            self.clock.callLater(0, drained.callback, None)

    # --- inside

    def _edge_lost(self, sessions: list[ServerSession]) -> None:
        for session in sessions:
            session.end("edge_lost", "The edge did not come back.")

    def _dismiss(self) -> None:
        self._log.warn(
            "moving {count} busy sessions: drain.timeout",
            count=len(self._sessions),
        )
        for session in list(self._sessions.values()):
            session.dismiss()

    def _refuse(self, session: ServerSession, error: Exception) -> None:
        if isinstance(error, XiaozhiError):
            session.close(error.code, error.message)
        else:
            self._log.failure("session {session_id} not made", session_id=session.session_id)
            session.close("internal_error", "The session could not be made.")
