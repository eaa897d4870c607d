"""One stream from an edge, at the AI service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from xiaozhi.base.errors import ProtocolError
from xiaozhi.base.logburst import LogBurst
from xiaozhi.bridge.delivery.outbox import Outbox
from xiaozhi.bridge.delivery.session import OutOfOrder
from xiaozhi.bridge.items import (
    BATCH,
    DOWN,
    HELLO,
    PROTOCOL_VERSION,
    RESUME,
    Item,
    closed,
    heartbeat,
    stream_open,
)
from xiaozhi.bridge.service.server_session import ServerSession
from xiaozhi.bridge.settings import ServerSettings
from xiaozhi.bridge.streams import IStream, IStreamListener
from xiaozhi.wire.bounds import is_session_id
from xiaozhi.wire.convert import accept_request
from xiaozhi.wire.messages import SessionClose, SessionOpen

_log = Logger()

# Ended sessions that a stream remembers, to drop their items in flight silently. Older ones
# are forgotten; a late item is answered with a CLOSE that the edge ignores.
_REMEMBERED = 1024

# Characters of a peer's name or session id shown in a log line; and the longest id sent
# back.
_SHOWN = 64
_LONGEST_ECHOED = 255


class StreamOwner(Protocol):
    """The table of the sessions of all streams.

    :ivar node: and ``boot_id``: our identity.
    :ivar draining: new sessions are refused.
    """

    settings: ServerSettings
    clock: IReactorTime
    node: str
    boot_id: str
    draining: bool

    def stream_lost(self, edge: EdgeStream, reason: str) -> None:
        """The stream ``edge`` is gone; its sessions are still on it."""

    def open(self, edge: EdgeStream, opening: SessionOpen, sequence: int) -> None:
        """Open a session for the edge; ``sequence``: its last one known to be received."""

    def resume(self, edge: EdgeStream, item: Item) -> bool:
        """Resume a session on this stream. False: unknown session."""

    def session(self, session_id: str) -> ServerSession | None:
        """Return a session of any stream or without one; None: unknown."""

    def farewell(self, session_id: str) -> SessionClose:
        """Return the closing message for an unknown session."""


@implementer(IStreamListener)
class EdgeStream:
    """Hands items to sessions, answers heartbeats.

    An edge that announces nothing gets no batches and no flow control.

    :ivar node: the edge's name, empty until announced.
    :ivar credit: audio packets it accepts of a new session; 0: no flow control.
    :ivar remote: the edge's address.
    """

    _log = Logger()

    def __init__(self, bridge: StreamOwner, stream: IStream) -> None:
        settings = bridge.settings
        self.node = ""
        self.credit = 0
        self.sessions: dict[str, ServerSession] = {}
        self.outbox = Outbox(
            stream, bridge.clock, settings.coalesce, settings.max_message_bytes - 1024
        )
        self.remote = stream.remote
        self._bridge = bridge
        self._stream = stream
        # Without a reference to self: no cycle that waits for the garbage collector.
        self._refusals = LogBurst[_Refused](bridge.clock, _tell_refused)
        self._ended: dict[str, None] = {}
        self._heard = False
        self._watch: IDelayedCall | None = None
        self._look_later()

    # --- IStreamListener

    def stream_received(self, items: Sequence[Item]) -> None:
        self._heard = True
        sessions = self.sessions
        try:
            for item in items:
                session = sessions.get(item.session_id)
                if session is not None and item.type != HELLO:
                    session.deliver(item)
                elif item.session_id:
                    self._sessionless(item)
                else:
                    self._stream_item(item)
        except OutOfOrder as error:
            self._fail(f"the stream lost something: {error}")

    def stream_writable(self) -> None:
        self.outbox.writable()

    def stream_closed(self, reason: str) -> None:
        self._release()
        self._bridge.stream_lost(self, reason)

    # --- for the bridge

    def hang_up(self) -> None:
        """End the stream; its sessions must have been ended."""
        self._stream.close()
        self._release()

    def session_left(self, session: ServerSession) -> None:
        """Drop later items of a session that is over."""
        if self.sessions.get(session.session_id) is session:
            del self.sessions[session.session_id]
        self._remember(session.session_id)

    def dismiss(self, session_id: str, device_id: str, farewell: SessionClose) -> None:
        """Answer that a session is not here, with the reason."""
        self.outbox.put(closed(session_id, device_id, farewell.code, farewell.message))

    # --- inside

    def _stream_item(self, item: Item) -> None:
        kind = item.WhichOneof("content")
        if kind == "heartbeat":
            for session in self.sessions.values():
                session.settle()
            self.outbox.put(heartbeat(DOWN, item.heartbeat.number))
        elif kind == "stream":
            self._announced(item.stream)

    def _announced(self, announced: Item) -> None:
        bridge = self._bridge
        self.node = _printable(announced.node)
        self.credit = announced.credit
        credit = bridge.settings.credit
        self.outbox.put(stream_open(DOWN, bridge.node, bridge.boot_id, credit, bridge.draining))
        self._stream.batching = BATCH in announced.features
        if announced.protocol_version != PROTOCOL_VERSION:
            self._fail(
                f"it speaks version {announced.protocol_version} of the bridge protocol, "
                f"not {PROTOCOL_VERSION}"
            )
            return
        self._log.info("edge {node} opened a stream", node=self.node)

    def _sessionless(self, item: Item) -> None:
        """Process an item that opens or resumes a session, or names an unknown one."""
        session_id = item.session_id
        if not is_session_id(session_id):
            self._refuse(item, "the session id has other characters than letters, digits, _ and -")
            return
        if item.type == RESUME:
            if not self._bridge.resume(self, item):
                self._unknown(item)
            return
        try:
            opening = accept_request(item)
        except ProtocolError as error:
            self._refuse(item, str(error))
            return
        if not isinstance(opening, SessionOpen):
            known = self._bridge.session(session_id)
            if known is not None and known.carrier is None:
                raise OutOfOrder("a session continues that was not resumed")
            # An item of a session that moved to another stream is late, and is resent there.
            if (
                known is None
                and session_id not in self._ended
                and not isinstance(opening, SessionClose)
            ):
                self._unknown(item)
        elif self._bridge.draining:
            self._dismiss(item, SessionClose("moving", "The AI service is stopping."))
        else:
            self._ended.pop(session_id, None)
            self._bridge.open(self, opening, item.sequence)

    def _unknown(self, item: Item) -> None:
        self._remember(item.session_id)
        self._dismiss(item, self._bridge.farewell(item.session_id))

    def _refuse(self, item: Item, why: str) -> None:
        """Refuse an unreadable item and send its edge the reason."""
        self._refusals.add((self.node, self.remote, item.session_id[:_SHOWN], why))
        if item.WhichOneof("content") == "hello" and len(item.session_id) <= _LONGEST_ECHOED:
            self.dismiss(item.session_id, "", SessionClose("bad_request", why))

    def _dismiss(self, item: Item, farewell: SessionClose) -> None:
        self.dismiss(item.session_id, item.device_id[:_LONGEST_ECHOED], farewell)

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
        self._refusals.stop()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:_SHOWN])


# Node, address, session, reason.
_Refused = tuple[str, str, str, str]


def _tell_refused(count: int, latest: _Refused) -> None:
    node, remote, session_id, why = latest
    _log.warn(
        "edge {node} at {remote}: {count} item(s) refused, the last of session {session_id}: {why}",
        node=node or "unknown",
        remote=remote,
        count=count,
        session_id=_printable(session_id),
        why=why,
    )
