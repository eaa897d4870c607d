"""Recording doubles for the collaborators of a device link."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from xiaozhi.base.errors import AuthError
from xiaozhi.base.values import BridgeStatus, LogDirection, Presence, SessionStatus
from xiaozhi.im.session.arrival import Arrival
from xiaozhi.im.session.context import EdgeTimers, LinkContext
from xiaozhi.im.session.link import DeviceLink
from xiaozhi.im.settings import EdgeSettings
from xiaozhi.im.websocket.channel import WebSocketChannel
from xiaozhi.interfaces import (
    IAuthenticator,
    IBridge,
    IEdgeEvents,
    IEdgeLink,
    IInboxReader,
    IPresence,
    IServiceLink,
)
from xiaozhi.wire import messages as m
from xiaozhi.wire.jsontext import parse_server
from xiaozhi.wire.mail import Mail

DEVICE = m.Device("aa:bb:cc:dd:ee:ff", "5f6d3c2e-0000-4000-8000-000000000001", "user-1")


@implementer(IEdgeLink, IServiceLink)
class FakeLink:
    """A side's handle of a session whose other side the test plays.

    :ivar sent: messages, in order.
    :ivar retracted: those of them that were retracted.
    :ivar ended: code and message of the close.
    """

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.retracted: list[Any] = []
        self.ended: tuple[str, str] | None = None
        self.paused = False
        self.dropped: dict[str, int] = {}
        self.sequence = 0

    def send(self, message: m.Uplink | m.Downlink) -> None:
        self.sequence += 1
        self.sent.append(message)

    def retract(self, unwanted: Callable[[object], bool]) -> None:
        self.retracted += [message for message in self.sent if unwanted(message)]

    def close(self, code: str, message: str) -> None:
        self.ended = self.ended or (code, message)

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def playbacks(self) -> list[tuple[int, str, int]]:
        """Return turn, state and played ms of each playback report."""
        return [(p.turn, p.state.value, p.played_ms) for p in self.sent if type(p) is m.Playback]


class FakeSession(FakeLink):
    """A session of an AI service that the test plays.

    :ivar events: receives the messages of the test.
    """

    def __init__(self, opening: m.SessionOpen, events: IEdgeEvents) -> None:
        super().__init__()
        self.opening = opening
        self.events = events


@implementer(IBridge)
class FakeBridge:
    """A bridge without an AI service.

    :ivar sessions: every session opened.
    """

    def __init__(self) -> None:
        self.sessions: list[FakeSession] = []
        self.state = "connected"

    @property
    def available(self) -> bool:
        return self.state == "connected"

    def open(self, opening: m.SessionOpen, events: IEdgeEvents) -> FakeSession:
        session = FakeSession(opening, events)
        self.sessions.append(session)
        return session

    def status(self) -> BridgeStatus:
        return BridgeStatus(self.state, 1, len(self.sessions))


class FakeLog:
    """A session log that keeps its entries in lists."""

    def __init__(self) -> None:
        self.started: list[tuple[str, m.Device]] = []
        self.changed: list[tuple[str, SessionStatus]] = []
        self.messages: list[tuple[str, LogDirection, str | None]] = []
        self.events: list[tuple[str, dict[str, Any]]] = []

    def session_started(
        self, session_id: str, device: m.Device, metadata: Mapping[str, Any]
    ) -> None:
        self.started.append((session_id, device))

    def session_changed(self, session_id: str, status: SessionStatus) -> None:
        self.changed.append((session_id, status))

    def message(
        self, session_id: str, message_type: str, direction: LogDirection, content: str | None
    ) -> None:
        self.messages.append((message_type, direction, content))

    def event(self, session_id: str, event_type: str, data: Mapping[str, Any]) -> None:
        self.events.append((event_type, dict(data)))

    def event_data(self, event_type: str) -> dict[str, Any]:
        """Return the data of the only event of a type."""
        (data,) = [data for kind, data in self.events if kind == event_type]
        return data

    def rows(self, direction: LogDirection) -> list[tuple[str, str | None]]:
        """Return type and content of the messages of one direction."""
        return [(kind, content) for kind, way, content in self.messages if way is direction]


class FakeTransport:
    """A device's WebSocket that records what the edge does.

    :ivar sent: texts and packets with their time, in order.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.sent: list[tuple[float, str | bytes]] = []
        self.closed: tuple[int, str] | None = None
        self.pings = 0
        self.paused = False

    def send_text(self, text: str) -> None:
        self.sent.append((self._clock.seconds(), text))

    def send_binary(self, data: bytes) -> None:
        self.sent.append((self._clock.seconds(), data))

    def close(self, code: int, reason: str) -> None:
        assert self.closed is None, "closed twice"
        self.closed = (code, reason)

    def ping(self) -> None:
        self.pings += 1

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def texts(self) -> list[m.ServerText]:
        """Return the sent texts as a device parses them."""
        return [parse_server(data)[0] for _, data in self.sent if isinstance(data, str)]

    def packets(self) -> list[bytes]:
        return [data for _, data in self.sent if isinstance(data, bytes)]


class FakeOwner:
    """Records the links that said hello and those whose session ended."""

    def __init__(self) -> None:
        self.hellos: list[DeviceLink] = []
        self.over: list[DeviceLink] = []

    def greeted(self, link: DeviceLink) -> None:
        self.hellos.append(link)

    def session_over(self, link: DeviceLink) -> None:
        self.over.append(link)


@implementer(IAuthenticator)
class FakeAuthenticator:
    """Accepts the token ``secret``, with or without ``Bearer``.

    :ivar asked: token, device id and client id of each request.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str | None, str, str]] = []

    def authenticate(self, token: str | None, device_id: str, client_id: str) -> m.Device:
        self.asked.append((token, device_id, client_id))
        if (token or "").removeprefix("Bearer ") != "secret":
            raise AuthError("bad_token", "the token is not valid", 401)
        return m.Device(device_id, client_id, "user-1")


@implementer(IPresence)
class FakePresence:
    """A presence backend that records its calls.

    :ivar broken: raised by every call, unless None.
    """

    def __init__(self) -> None:
        self.claims: list[tuple[Presence, Callable[[], None]]] = []
        self.released: list[tuple[str, str]] = []
        self.broken: Exception | None = None

    def _done(self) -> Deferred[None]:
        if self.broken is not None:
            raise self.broken
        return succeed(None)

    def start(self) -> Deferred[None]:
        return self._done()

    def stop(self) -> Deferred[None]:
        return self._done()

    def claim(self, presence: Presence, replaced: Callable[[], None]) -> Deferred[Presence | None]:
        self._done()
        self.claims.append((presence, replaced))
        return succeed(None)

    def release(self, device_id: str, session_id: str) -> Deferred[None]:
        self.released.append((device_id, session_id))
        return self._done()

    def lookup(self, device_id: str) -> Deferred[Presence | None]:
        return succeed(None)


@implementer(IInboxReader)
class FakeInbox:
    """An inbox whose mail the test delivers.

    :ivar readers: attached session and its ``deliver`` function, by device id.
    """

    def __init__(self) -> None:
        self.readers: dict[str, tuple[str, Callable[[Mail], bool]]] = {}

    def attach(self, device_id: str, session_id: str, deliver: Callable[[Mail], bool]) -> None:
        self.readers[device_id] = (session_id, deliver)

    def detach(self, device_id: str, session_id: str) -> None:
        if self.readers.get(device_id, ("",))[0] == session_id:
            del self.readers[device_id]


def wire_of(link: DeviceLink) -> WebSocketChannel:
    """Return the WebSocket channel of a link, for messages from the device."""
    channel = link.channel
    assert isinstance(channel, WebSocketChannel)
    return channel


class EdgeBench:
    """One edge on virtual time, with links that have no sockets."""

    def __init__(self, settings: EdgeSettings | None = None) -> None:
        self.clock = Clock()
        self.bridge = FakeBridge()
        self.log = FakeLog()
        self.owner = FakeOwner()
        numbers = count(1)
        self.context = LinkContext(
            self.bridge,
            self.log,
            EdgeTimers.on(self.clock),
            settings or EdgeSettings(),
            lambda: f"s{next(numbers)}",
        )

    def link(self, framing: int = 0) -> tuple[DeviceLink, FakeTransport]:
        """Connect a device that has not said hello yet."""
        transport = FakeTransport(self.clock)
        channel = WebSocketChannel(transport, framing)
        link = channel.link = DeviceLink(self.context, self.owner, channel, Arrival(DEVICE))
        link.connected()
        return link, transport

    def pass_time(self, seconds: float, step: float = 0.01) -> None:
        """Advance the clock in small steps."""
        self.clock.pump([step] * round(seconds / step))
