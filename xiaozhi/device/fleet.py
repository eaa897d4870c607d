"""Many cheap devices at once, for load: they send ready-made packets and count what returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from struct import Struct
from typing import Any

from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults
from twisted.internet.interfaces import IDelayedCall

from xiaozhi.device.identity import Identity, numbered
from xiaozhi.device.ota import DeviceEndpoint
from xiaozhi.device.socket import FirmwareSocket, open_socket
from xiaozhi.wire.jsontext import JsonDialect, render
from xiaozhi.wire.messages import Features, Hello, Listen, ListenMode, ListenState

# Sockets being opened at the same time; more would only queue in the kernel.
OPENING = 64
_STAMP = Struct(">cd")

Packets = Sequence[bytes] | Callable[[float], bytes]


def stamped(size: int = 150) -> Callable[[float], bytes]:
    """Packets that carry the time they were sent, for :attr:`Counts.latencies`.

    The first byte is that of an Opus packet of 60 ms.
    """
    filler = bytes(size - _STAMP.size)
    return lambda now: _STAMP.pack(b"\x18", now) + filler


@dataclass
class Counts:
    """Measurements of one device or of a fleet.

    :ivar latencies: seconds from sending a stamped packet to its return.
    """

    sent: int = 0
    binaries: int = 0
    binary_bytes: int = 0
    texts: int = 0
    closed: int = 0
    latencies: list[float] = field(default_factory=list)


class FleetDevice:
    """One of them: hello, ``listen start``, packets; everything that comes is counted."""

    def __init__(self, fleet: Fleet, identity: Identity) -> None:
        self._fleet = fleet
        self.identity = identity
        self.counts = Counts()
        self.socket: FirmwareSocket | None = None
        self.greeted: Deferred[None] = Deferred()

    def text_received(self, text: str) -> None:
        self.counts.texts += 1
        if not self.greeted.called:
            self.greeted.callback(None)
        if self._fleet.on_text is not None:
            self._fleet.on_text(self, text)

    def binary_received(self, data: bytes) -> None:
        counts = self.counts
        counts.binaries += 1
        counts.binary_bytes += len(data)
        if self._fleet.is_stamped and len(data) >= _STAMP.size:
            _, sent = _STAMP.unpack_from(data)
            counts.latencies.append(self._fleet.now() - sent)

    def closed(self, code: int = 1006, reason: str = "") -> None:
        socket, self.socket = self.socket, None
        if socket is None:
            return
        socket.drop()
        self.counts.closed += 1
        if not self.greeted.called:
            self.greeted.errback(ConnectionError(f"closed before hello: {code} {reason}"))

    def send(self, message: Hello | Listen) -> None:
        if self.socket is not None:
            self.socket.send_text(render(message, JsonDialect.FLAT, "", 0))

    def send_packet(self, packet: bytes) -> None:
        if self.socket is not None:
            self.counts.sent += 1
            self.socket.send_binary(packet)


class Fleet:
    """``count`` devices at one address. Binary framing 1.

    Devices send on one absolute clock, spread evenly over a frame.

    :param token_of: each device's token; default: the endpoint's.
    :param packets: sent in turn, over and over; or made of the time, as by :func:`stamped`.
    :param on_text: sees every text.
    """

    def __init__(
        self,
        reactor: Any,
        endpoint: DeviceEndpoint,
        count: int,
        packets: Packets,
        *,
        token_of: Callable[[Identity], str] | None = None,
        frame_ms: int = 60,
        mode: ListenMode = ListenMode.REALTIME,
        first: int = 1,
        on_text: Callable[[FleetDevice, str], None] | None = None,
    ) -> None:
        self._reactor = reactor
        self._endpoint = endpoint
        self._packets = packets
        self._token_of = token_of
        self._frame = frame_ms / 1000
        self._mode = mode
        self._timer: IDelayedCall | None = None
        self._began = 0.0
        self._next = 0
        self.on_text = on_text
        self.is_stamped = callable(packets)
        self.devices = [FleetDevice(self, numbered(first + n)) for n in range(count)]
        # Sent late by more than a frame: the machine under the fleet is too slow.
        self.late = 0

    def now(self) -> float:
        return float(self._reactor.seconds())

    def connect(self, listen: bool = True) -> Deferred[None]:
        """Connect all and wait for every hello.

        :param listen: also send ``listen start``.
        """
        gate = DeferredSemaphore(OPENING)
        opening = [gate.run(self._connect, device, listen) for device in self.devices]
        return gatherResults(opening, consumeErrors=True).addCallback(lambda _: None)

    async def _connect(self, device: FleetDevice, listen: bool) -> None:
        endpoint = self._endpoint
        if self._token_of is not None:
            endpoint = DeviceEndpoint(endpoint.url, self._token_of(device.identity))
        device.socket = await open_socket(self._reactor, endpoint, device.identity, 1, timeout=30.0)
        device.socket.user = device
        device.send(Hello(features=Features()))
        await device.greeted
        if listen:
            device.send(Listen(ListenState.START, self._mode))

    def start(self) -> None:
        """Begin to send packets."""
        self._began = self.now()
        self._next = 0
        self._arm()

    def stop(self) -> None:
        """Stop sending; the connections stay."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> Deferred[None]:
        """Stop, and drop every connection."""
        self.stop()
        lost = []
        for device in self.devices:
            if device.socket is not None:
                lost.append(device.socket.lost)
                device.socket.drop()
        return gatherResults(lost).addCallback(lambda _: None)

    def total(self) -> Counts:
        """All devices' counts together."""
        whole = Counts()
        for device in self.devices:
            counts = device.counts
            whole.sent += counts.sent
            whole.binaries += counts.binaries
            whole.binary_bytes += counts.binary_bytes
            whole.texts += counts.texts
            whole.closed += counts.closed
            whole.latencies += counts.latencies
        return whole

    def _arm(self) -> None:
        due = self._began + self._next * self._frame / len(self.devices)
        self._timer = self._reactor.callLater(max(0.0, due - self.now()), self._send_due)

    def _send_due(self) -> None:
        self._timer = None
        now = self.now()
        due = int((now - self._began) / self._frame * len(self.devices) + 1e-6) + 1
        if due - self._next > len(self.devices):
            self.late += due - self._next - len(self.devices)
        while self._next < due:
            turn, index = divmod(self._next, len(self.devices))
            if callable(self._packets):
                packet = self._packets(now)
            else:
                packet = self._packets[turn % len(self._packets)]
            self.devices[index].send_packet(packet)
            self._next += 1
        self._arm()
