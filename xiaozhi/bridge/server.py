"""The AI service's end of the bridge: streams in, sessions out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from xiaozhi.bridge.items import (
    BATCH,
    DOWN,
    OPENING,
    PROTOCOL_VERSION,
    UP,
    Item,
    heartbeat,
    stream_open,
)
from xiaozhi.bridge.outbox import Outbox
from xiaozhi.bridge.session import Ends, SessionEnd
from xiaozhi.bridge.settings import ServerSettings
from xiaozhi.bridge.streams import IStream, IStreamAcceptor, IStreamListener, IStreamPort
from xiaozhi.bridge.waiting import Bounds
from xiaozhi.errors import ProtocolError, XiaozhiError
from xiaozhi.interfaces import ISessionAcceptor, ISessionEvents
from xiaozhi.values import BridgeStatus
from xiaozhi.wire.messages import SessionClose, SessionOpen

# Sessions a stream remembers having ended, so that what is still on its way to
# them is dropped in silence. Beyond that the oldest are forgotten, and a
# straggler is answered with a SessionClose the edge ignores.
_REMEMBERED = 1024


@implementer(ISessionEvents)
class _Nobody:
    """Stands in until the acceptor has made who is to be told."""

    def received(self, message: Any) -> None:
        pass

    def pause_sending(self) -> None:
        pass

    def resume_sending(self) -> None:
        pass

    def interrupted(self) -> None:
        pass

    def closed(self, code: str, message: str) -> None:
        pass


class ServerSession(SessionEnd):
    """The AI service's end of a session; lives and dies with its stream.

    What does not fit on the stream waits (``waiting.Bounds``), and the session is
    asked to hold its audio back meanwhile: ``pause_sending`` may be called from
    within its own ``send``.
    """

    def __init__(self, ends: Ends, opening: SessionOpen, edge: EdgeStream) -> None:
        super().__init__(ends, opening.session_id, opening.device.device_id)
        self.events = _Nobody()
        self._edge = edge
        self._outbox = edge.outbox

    def _left(self) -> None:
        self._edge.session_left(self)

    def accepted(self, events: ISessionEvents) -> None:
        """Tell ``events`` from now on."""
        self.events = events
        if self._holds:
            events.pause_sending()

    def _backlog(self, waiting: bool) -> None:
        self._hold("backlog", waiting)


@implementer(IStreamListener)
class EdgeStream:
    """One stream from an edge: hands items to sessions, answers heartbeats.

    An edge that announces nothing is taken as one that knows no batches.

    :ivar node: the edge's name, empty until it said.
    """

    _log = Logger()

    def __init__(self, bridge: BridgeServer, stream: IStream) -> None:
        settings = bridge.settings
        self.node = ""
        self.sessions: dict[str, ServerSession] = {}
        self.outbox = Outbox(
            stream, bridge.clock, settings.coalesce, settings.max_message_bytes - 1024
        )
        self._bridge = bridge
        self._stream = stream
        self._ended: dict[str, None] = {}
        self._heard = False
        self._watch: IDelayedCall | None = None
        self._look_later()

    # --- IStreamListener

    def stream_received(self, items: Sequence[Item]) -> None:
        self._heard = True
        sessions = self.sessions
        for item in items:
            session = sessions.get(item.session_id)
            if session is not None and item.type != OPENING:
                session.deliver(item)
            elif item.session_id:
                self._sessionless(item)
            else:
                self._stream_item(item)

    def stream_writable(self) -> None:
        self.outbox.writable()

    def stream_closed(self, reason: str) -> None:
        self._release()
        self._bridge.stream_lost(self, reason)
        for session in list(self.sessions.values()):
            session.end("edge_lost", reason)

    # --- for sessions and the bridge

    def hang_up(self) -> None:
        """End the stream; its sessions must have been ended."""
        self._stream.close()
        self._release()

    def session_left(self, session: ServerSession) -> None:
        """It is over: drop what still comes for it."""
        if self.sessions.get(session.session_id) is session:
            del self.sessions[session.session_id]
        self._remember(session.session_id)
        self._bridge.session_left(session)

    # --- inside

    def _stream_item(self, item: Item) -> None:
        kind = item.WhichOneof("content")
        if kind == "heartbeat":
            self.outbox.put(heartbeat(DOWN, item.heartbeat.number))
        elif kind == "stream":
            self._announced(item.stream)

    def _announced(self, announced: Item) -> None:
        self.node = announced.node
        self.outbox.put(stream_open(DOWN, self._bridge.node, self._bridge.boot_id))
        self._stream.batching = BATCH in announced.features
        if announced.protocol_version != PROTOCOL_VERSION:
            self._fail(
                f"it speaks version {announced.protocol_version} of the bridge protocol, "
                f"not {PROTOCOL_VERSION}"
            )
            return
        self._log.info("edge {node} opened a stream", node=self.node)

    def _sessionless(self, item: Item) -> None:
        """An item that opens a session, or of none we have."""
        session_id = item.session_id
        try:
            opening = UP.read(item)
        except ProtocolError as error:
            self._log.warn("stream of {node}: skipped: {error}", node=self.node, error=error)
            return
        if isinstance(opening, SessionOpen):
            self._ended.pop(session_id, None)
            self._bridge.open(self, opening)
        elif session_id not in self._ended and not isinstance(opening, SessionClose):
            self._remember(session_id)
            refusal = SessionClose("unknown_session", "There is no such session.")
            answer = DOWN.make(refusal, session_id, 1)
            answer.device_id = item.device_id
            self.outbox.put(answer)

    def _remember(self, session_id: str) -> None:
        self._ended[session_id] = None
        if len(self._ended) > _REMEMBERED:
            del self._ended[next(iter(self._ended))]

    def _look_later(self) -> None:
        self._heard = False
        self._watch = self._bridge.clock.callLater(self._bridge.settings.idle_timeout, self._look)

    def _look(self) -> None:
        self._watch = None
        if self._heard:
            self._look_later()
        else:
            self._fail(f"nothing came for {self._bridge.settings.idle_timeout:g} s")

    def _fail(self, reason: str) -> None:
        self._stream.close()
        self.stream_closed(reason)

    def _release(self) -> None:
        self.outbox.close()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None


@implementer(IStreamAcceptor)
class BridgeServer:
    """Takes streams in and makes sessions of what edges open on them.

    :param node: our name, for people.
    :param boot_id: new at every start of the process; edges tell by it whether
        they found the same process again.
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
        self._acceptor = acceptor
        self._drops: Counter[str] = Counter()
        bounds = Bounds(settings.queue_messages, settings.queue_audio, settings.audio_max_age)
        self._ends = Ends(DOWN, UP, bounds, clock, self._drops)
        self._streams: dict[EdgeStream, None] = {}
        self._sessions: dict[str, ServerSession] = {}  # on whichever stream
        self._listening = False

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

    def stop(self) -> Deferred[None]:
        """End all sessions and streams. Fires when nothing runs any more."""
        self._listening = False
        for session in list(self._sessions.values()):
            session.end("bridge_stopped", "The AI service is stopping.")
        for stream in list(self._streams):
            stream.hang_up()
        self._streams.clear()
        return self._port.stop()

    def status(self) -> BridgeStatus:
        """How the bridge is, for ``/health``."""
        edges = Counter(stream.node for stream in self._streams)
        return BridgeStatus(
            state="connected" if edges else "connecting" if self._listening else "disconnected",
            streams=len(self._streams),
            sessions=len(self._sessions),
            detail={
                "address": self.address,
                "edges": dict(edges),
                "dropped": dict(self._drops),
            },
        )

    # --- IStreamAcceptor

    def stream_opened(self, stream: IStream) -> IStreamListener:
        edge = EdgeStream(self, stream)
        self._streams[edge] = None
        return edge

    # --- for streams

    def stream_lost(self, edge: EdgeStream, reason: str) -> None:
        """``edge`` is gone; it ends its sessions itself."""
        self._streams.pop(edge, None)
        self._log.info(
            "a stream of edge {node} ended with {sessions} sessions: {reason}",
            node=edge.node,
            sessions=len(edge.sessions),
            reason=reason,
        )

    def open(self, edge: EdgeStream, opening: SessionOpen) -> None:
        """An edge opens a session, perhaps one it had on a stream that broke."""
        session_id = opening.session_id
        old = self._sessions.get(session_id)
        if old is not None:
            old.end("replaced", "The edge opened the session again.")
        session = ServerSession(self._ends, opening, edge)
        # Known before it is accepted: it may be closed from within.
        self._sessions[session_id] = edge.sessions[session_id] = session
        try:
            session.accepted(self._acceptor.accept(opening, session))
        except Exception as error:
            self._refuse(session, error)

    def session_left(self, session: ServerSession) -> None:
        """It is over."""
        if self._sessions.get(session.session_id) is session:
            del self._sessions[session.session_id]

    def _refuse(self, session: ServerSession, error: Exception) -> None:
        if isinstance(error, XiaozhiError):
            session.close(error.code, error.message)
        else:
            self._log.failure("session {session_id} not made", session_id=session.session_id)
            session.close("internal_error", "The session could not be made.")
