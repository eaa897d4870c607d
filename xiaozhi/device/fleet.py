"""Load from many lightweight devices: they send ready-made packets and count the replies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from struct import Struct
from typing import Any

from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults
from twisted.internet.interfaces import IDelayedCall

from xiaozhi.device.identity import Identity, numbered
from xiaozhi.device.network.ota import DeviceEndpoint
from xiaozhi.device.network.socket import FirmwareSocket, open_socket
from xiaozhi.wire.jsontext import JsonDialect, render
from xiaozhi.wire.messages import Features, Hello, Listen, ListenMode, ListenState

# Sockets being opened at the same time; more would only queue in the kernel.
OPENING = 64
_STAMP = Struct(">cd")

Packets = Sequence[bytes] | Callable[[float], bytes]


def stamped(size: int = 150) -> Callable[[float], bytes]:
    """Make packets that carry the time they were sent, for :attr:`Counts.latencies`.

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
    """One device of a fleet: hello, ``listen start``, packets; it counts every message received."""

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


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """The devices of a fleet and the sound they send.

    :ivar packets: sent in turn, repeatedly; or a function of the time, as :func:`stamped`
        returns.
    :ivar frame_ms: ms between two packets of one device.
    :ivar mode: of the ``listen start`` that each device sends.
    :ivar first: number of the first device, see :func:`numbered`.
    """

    count: int
    packets: Packets
    frame_ms: int = 60
    mode: ListenMode = ListenMode.REALTIME
    first: int = 1


class Fleet:
    """Many devices at one address. Binary framing 1.

    Devices send on one absolute clock, spread evenly over a frame.

    :param token_of: each device's token; default: the endpoint's.
    :param on_text: receives every text message with its device.
    :ivar late: packets sent late by more than a frame: the load generator is overloaded.
    """

    def __init__(
        self,
        reactor: Any,
        endpoint: DeviceEndpoint,
        settings: FleetSettings,
        *,
        token_of: Callable[[Identity], str] | None = None,
        on_text: Callable[[FleetDevice, str], None] | None = None,
    ) -> None:
        self._reactor = reactor
        self._endpoint = endpoint
        self._packets = settings.packets
        self._token_of = token_of
        self._frame = settings.frame_ms / 1000
        self._mode = settings.mode
        self._timer: IDelayedCall | None = None
        self._began = 0.0
        self._next = 0
        self.on_text = on_text
        self.is_stamped = callable(settings.packets)
        self.devices = [
            FleetDevice(self, numbered(settings.first + n)) for n in range(settings.count)
        ]
        self.late = 0

    def now(self) -> float:
        return float(self._reactor.seconds())

    def connect(self, listen: bool = True) -> Deferred[None]:
        """Connect all devices and wait for each server hello.

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
        """Start sending packets."""
        self._began = self.now()
        self._next = 0
        self._arm()

    def stop(self) -> None:
        """Stop sending; the connections stay."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> Deferred[None]:
        """Stop sending and drop every connection.

        :return: fires when every connection is lost.
        """
        self.stop()
        lost = []
        for device in self.devices:
            if device.socket is not None:
                lost.append(device.socket.lost)
                device.socket.drop()
        return gatherResults(lost).addCallback(lambda _: None)

    def total(self) -> Counts:
        """Return the sum of all devices' counts."""
        total = Counts()
        for device in self.devices:
            counts = device.counts
            total.sent += counts.sent
            total.binaries += counts.binaries
            total.binary_bytes += counts.binary_bytes
            total.texts += counts.texts
            total.closed += counts.closed
            total.latencies += counts.latencies
        return total

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
