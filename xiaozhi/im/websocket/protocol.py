"""WebSocket protocol: a thin adapter between Autobahn and a :class:`WebSocketChannel`.

Autobahn's timers, which would run on the global reactor, are disabled; ours run on the
gateway's clock. Autobahn's logging and counting of messages is bypassed, because it is a
large part of a packet's cost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.protocol import TrafficStats
from autobahn.websocket.types import ConnectionDeny, ConnectionRequest
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from xiaozhi.base.errors import AuthError
from xiaozhi.im.ingress.admission import Refusal, credentials, http_error
from xiaozhi.im.ingress.gateway import Gateway
from xiaozhi.im.session.arrival import Arrival
from xiaozhi.im.websocket import closecodes
from xiaozhi.im.websocket.channel import Socket, WebSocketChannel
from xiaozhi.im.websocket.packets import packet_at
from xiaozhi.im.websocket.sendqueue import write_now
from xiaozhi.web.limits.origins import Origins
from xiaozhi.web.limits.refusals import Refused

_TEXT, _BINARY = b"\x81", b"\x82"
# Maximum bytes of a Close frame's reason; the protocol allows 123.
_REASON = 120
# Codes after which the peer's data is not parsed any more: Autobahn's for invalid frames and
# text, and ours for messages that are too big.
_BROKEN = (1002, 1007, closecodes.TOO_BIG, closecodes.TRY_AGAIN)
# Bytes of an unfinished message that are always accepted.
_SMALL = 65_536
_WRONG_PAGE = ("origin_not_allowed", "this web page is not in gateway.origins")
# Attributes that Autobahn keeps for the life of a connection and needs only in the handshake.
_HANDSHAKE_ONLY = (
    "http_headers",
    "http_request_data",
    "http_request_params",
    "http_request_uri",
    "http_response_data",
    "http_status_line",
)


def _frame(first: bytes, payload: bytes) -> bytes:
    """Make one complete unmasked frame: devices never receive fragments."""
    size = len(payload)
    if size < 126:
        return first + size.to_bytes(1, "big") + payload
    if size < 65536:
        return first + b"\x7e" + size.to_bytes(2, "big") + payload
    return first + b"\x7f" + size.to_bytes(8, "big") + payload


@implementer(IPushProducer)
class DeviceProtocol(WebSocketServerProtocol):
    """One device's WebSocket. ``log`` and ``factory.server`` belong to Autobahn."""

    # Options as class attributes: Autobahn copies the missing ones into every instance. Zero
    # disables a timeout; failing sends a Close frame.
    logOctets = logFrames = trackTimings = False
    utf8validateIncoming = applyMask = tcpNoDelay = True
    autoFragmentSize = 0
    failByDrop = echoCloseCodeReason = False
    openHandshakeTimeout = closeHandshakeTimeout = 0
    autoPingInterval = autoPingTimeout = 0
    autoPingSize = 12
    autoPingRestartOnAnyTraffic = True
    webStatus = serveFlashSocketPolicy = maskServerFrames = False
    flashSocketPolicy = ""
    requireMaskedClientFrames = True
    versions = (13,)
    # No Origin is required (§9, 20); onConnect checks one that is sent.
    allowedOrigins = ("*",)
    allowNullOrigin = True
    maxConnections = trustXForwardedFor = 0
    CONFIG_ATTRS = [  # noqa: RUF012 - the base class declares it
        "maxFramePayloadSize",
        "maxMessagePayloadSize",
        "allowedOriginsPatterns",
    ]

    _note = Logger()
    factory: DeviceFactory
    transport: Any
    _arrival: Arrival | None = None
    _framing = 0
    _channel: WebSocketChannel | None = None
    _refusal: tuple[str, str] | None = None
    _drop_tick: int | None = None
    _message_tick: int | None = None
    _paused = False
    _held = 0  # bytes of the unfinished message
    _deaf = False  # over a limit: further data is not parsed
    counted_as = ""  # in Entrance.peers

    @staticmethod
    def perMessageCompressionAccept(offers: object) -> None:
        """Decline compression: Opus does not shrink, and devices never request it."""

    # --- handshake --------------------------------------------------------------------

    def onConnect(self, request: ConnectionRequest) -> None:
        """Admit the device, or answer with an HTTP status before the 101."""
        try:
            if not self.factory.serves(request.path):
                raise Refusal(404, "not_found", f"no device connects to {request.path[:100]}")
            if not self.factory.origins.allows(request.headers.get("origin")):
                raise Refusal(403, *_WRONG_PAGE)
            offered = credentials(request.headers, request.params)
            device = self.factory.gateway.admit(offered)
            self._framing = offered.framing
            self._arrival = Arrival(device, offered.host, offered.language)
        except (AuthError, Refusal) as refusal:
            self._refusal = (refusal.code, refusal.message)
            raise ConnectionDeny(refusal.status, refusal.code) from None
        except Exception:
            self._note.failure("admission failed, peer {peer}", peer=self.peer)
            self._refusal = ("internal", "internal server error")
            raise ConnectionDeny(500, "internal") from None

    def failHandshake(self, reason: str, code: int = 400, responseHeaders: Any = None) -> None:
        """Answer with JSON.

        Autobahn's reasons quote the request, including tokens, after the first quotation mark:
        that part is cut off.
        """
        if reason.startswith("HTTP Origin header"):
            # The header is invalid, or there are two.
            code, self._refusal = 403, _WRONG_PAGE
        error, message = self._refusal or ("bad_handshake", reason.partition('"')[0].rstrip(" '("))
        self.factory.entrance.refusals.add(
            Refused(error, code, self.counted_as or str(self.peer), self._claimed_device())
        )
        headers = list(responseHeaders or ())
        if code == 401:
            headers.append(("WWW-Authenticate", "Bearer"))
        elif code in (429, 503):
            headers.append(("Retry-After", "5"))
        self.transport.write(http_error(code, error, message, *headers))
        self.wasClean = True
        self.dropConnection(abort=False)

    def _claimed_device(self) -> str:
        headers: dict[str, str] = getattr(self, "http_headers", {})
        return headers.get("device-id", "")[:64]

    def onOpen(self) -> None:
        """Make the channel and its link: the 101 was sent."""
        arrival = self._arrival
        assert arrival is not None
        for name in _HANDSHAKE_ONLY:
            self.__dict__.pop(name, None)
        self.factory.gateway.context.counts.accepted += 1
        # One object for all sockets instead of twenty attributes in each.
        self.trafficStats = self.factory.traffic
        try:
            channel = self.factory.make_channel(self, self._framing)
            link = channel.link = self.factory.gateway.connect(channel, arrival)
            channel.began(link.session_id, arrival.device.device_id)
            self._channel = channel
            self.transport.registerProducer(self, True)
        except Exception:
            self._broken()

    # --- from the device -----------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        """Handle complete packets directly; Autobahn parses the rest."""
        channel = self._channel
        # Not within a frame or a fragmented message.
        if channel is not None and not (self.data or self.current_frame or self.inside_message):
            at = 0
            while self.state == self.STATE_OPEN and (found := packet_at(data, at)) is not None:
                packet, at = found
                try:
                    channel.binary_received(packet)
                except Exception:
                    self._broken()
            data = data[at:]
        if data and not self._deaf:
            self._dataReceived(data)
            if (
                self._channel is not None
                and self._message_tick is None
                and (self.data or self.current_frame or self.inside_message)
            ):
                self._await_message()

    def onMessageEnd(self) -> None:
        """Pass on a complete message. Replaces Autobahn's method, which also fires an event."""
        if self._message_tick is not None:
            self._forget_message()
        self._release()
        pieces, self.message_data = self.message_data, []
        channel = self._channel
        if self.failedByMe or channel is None or self.state != self.STATE_OPEN:
            return
        payload = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        try:
            if self.message_is_binary:
                channel.binary_received(payload)
            else:
                channel.text_received(payload.decode())
        except Exception:
            self._broken()

    def onPing(self, payload: bytes) -> None:
        """Answer a ping within the rate limit while the device reads."""
        self._whole()
        if self._channel is not None and self._channel.link.alive(len(payload)):
            self.sendPong(payload)

    def onPong(self, payload: bytes) -> None:
        """Report a sign of life within the rate limit."""
        self._whole()
        if self._channel is not None:
            self._channel.link.alive(len(payload))

    def onMessageFrameData(self, payload: bytes) -> None:
        """Add a part of a message; the unfinished messages of all devices share one bound."""
        super().onMessageFrameData(payload)
        size = len(payload)
        self._held += size
        factory = self.factory
        factory.held += size
        if factory.held > factory.most_held and self._held > _SMALL and not self.failedByMe:
            self.close(closecodes.TRY_AGAIN, "too_busy")
            self.failedByMe = True
            self.frame_data, self.message_data = [], []
            self._release()

    def _release(self) -> None:
        self.factory.held -= self._held
        self._held = 0

    def onMessageFrameEnd(self) -> None:
        """Count a fragment, even an empty one; the last one counts as the message."""
        super().onMessageFrameEnd()
        if not self.current_frame.fin and self._channel is not None:
            self._channel.link.alive(0)

    def _whole(self) -> None:
        """Reset the message timeout: a message or control frame is complete."""
        if self._message_tick is not None and not self.inside_message:
            self._forget_message()

    def _forget_message(self) -> None:
        tick, self._message_tick = self._message_tick, None
        if tick is not None:
            self.factory.entrance.timers.timeouts.cancel(tick, self._message_late)

    def _await_message(self) -> None:
        """Start the message timeout: something is incomplete."""
        entrance = self.factory.entrance
        timers = entrance.timers
        due = timers.clock.seconds() + entrance.settings.limits.message_timeout
        self._message_tick = timers.timeouts.at(due, self._message_late)

    def _message_late(self) -> None:
        self._message_tick = None
        if self._channel is None:
            return
        if self._paused:
            self._await_message()  # we do not read at present
        else:
            self._channel.link.abused("message_time")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Uncount the connection, in whatever state it was."""
        self.factory.entrance.peers.leave(self.counted_as)
        super().connectionLost(reason)
        # Autobahn's Deferreds have this object as their result: break the reference cycle.
        for name in ("is_open", "is_closed"):
            vars(self).pop(name, None)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """End the channel: the socket is gone."""
        if self._drop_tick is not None:
            self.factory.entrance.timers.timeouts.cancel(self._drop_tick, self._drop)
        self._forget_message()
        self._release()
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.connection_lost((reason or "")[:_REASON], code or closecodes.NO_CODE)
            self.factory.gateway.connection_gone()

    def _broken(self) -> None:
        """Log an exception of ours, which Autobahn would swallow, and close."""
        device = self._arrival.device.device_id if self._arrival is not None else ""
        self._note.failure("device {device}: the link raised an exception", device=device)
        self.close(closecodes.INTERNAL, "internal")

    # --- Socket ------------------------------------------------------------------

    def send_text(self, text: str) -> None:
        if self.state == self.STATE_OPEN:
            write_now(self.transport, _frame(_TEXT, text.encode()))

    def send_binary(self, data: bytes) -> None:
        if self.state == self.STATE_OPEN:
            write_now(self.transport, _frame(_BINARY, data))

    def ping(self) -> None:
        if self.state == self.STATE_OPEN:
            self.transport.write(b"\x89\x00")

    def close(self, code: int, reason: str) -> None:
        if self.state == self.STATE_OPEN:
            # Cut between characters: the reason must be UTF-8.
            clipped = reason.encode()[:_REASON].decode("utf-8", "ignore").encode()
            self.sendCloseFrame(code=code, reasonUtf8=clipped)

    def pause(self) -> None:
        self._paused = True
        self.transport.pauseProducing()

    def resume(self) -> None:
        self._paused = False
        if self._message_tick is not None:
            # The rest of an unfinished message could not arrive meanwhile.
            self._forget_message()
            self._await_message()
        self.transport.resumeProducing()

    # --- under Autobahn ----------------------------------------------------------------------

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        """Write straight to the transport."""
        self.transport.write(data)

    def sendCloseFrame(
        self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False
    ) -> None:
        """Close; also called by Autobahn itself (too big: 1009).

        Devices do not echo a Close frame, so TCP is dropped soon after (§1.1).
        """
        was_open = self.state == self.STATE_OPEN
        super().sendCloseFrame(code=code, reasonUtf8=reasonUtf8, isReply=isReply)
        if was_open and not isReply:
            entrance = self.factory.entrance
            timers = entrance.timers
            due = timers.clock.seconds() + entrance.settings.link.close_timeout
            self._drop_tick = timers.timeouts.at(due, self._drop)
            if code in _BROKEN or (reasonUtf8 or b"").endswith(b"_limit"):
                self._deaf, self.data = True, b""
            # Read the echo, even if the AI had paused reading.
            self.transport.resumeProducing()
            if self._channel is not None:
                reason = (reasonUtf8 or b"").decode("utf-8", "replace")
                self._channel.connection_lost(reason, code or closecodes.NO_CODE)

    def _drop(self) -> None:
        if self.state != self.STATE_CLOSED:
            self.transport.abortConnection()

    # --- IPushProducer: the transport's write buffer is full, or has room again -----------------

    def pauseProducing(self) -> None:
        if self._channel is not None:
            self._channel.link.congested()

    def resumeProducing(self) -> None:
        if self._channel is not None:
            self._channel.link.uncongested()

    def stopProducing(self) -> None:
        """Do nothing: connectionLost follows."""


class DeviceFactory(WebSocketServerFactory):
    """Makes a :class:`DeviceProtocol` for each upgrade request.

    :ivar held: bytes of unfinished messages; at most about ``most_held``.
    """

    protocol = DeviceProtocol  # type: ignore[assignment]
    noisy = False

    def __init__(
        self,
        gateway: Gateway,
        make_channel: Callable[[Socket, int], WebSocketChannel] = WebSocketChannel,
    ) -> None:
        """:param make_channel: makes the channel of a socket with its announced framing."""
        # No Server header: devices need none, and it would disclose our version.
        super().__init__(server="", reactor=gateway.entrance.timers.clock)
        self.gateway = gateway
        self.entrance = gateway.entrance
        self.make_channel = make_channel
        self.traffic = TrafficStats()
        settings = gateway.entrance.settings
        size = settings.limits.max_message_bytes
        self.setProtocolOptions(
            maxFramePayloadSize=size, maxMessagePayloadSize=size, allowNullOrigin=True
        )
        self.held = 0
        self.most_held = settings.gateway.max_partial_bytes
        self.origins = Origins(settings.gateway.origins)
        self._paths = frozenset(path.rstrip("/") for path in settings.gateway.paths)

    def serves(self, path: str) -> bool:
        """Return whether devices connect to this path, with or without a trailing slash."""
        return path.rstrip("/") in self._paths
