"""CPU per audio frame through the bridge: edge → gRPC → AI service → back.

Two processes on the loopback: this one has the edge's end, a child runs an
echoing server. Prints one JSON line. ``python benchmarks/bridge_frames.py
[devices] [seconds] [streams]``; each device sends a frame every 60 ms, at its own phase.
The floor is the CPU time of this process for the same work without a bridge.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import time
from typing import Any

from twisted.internet import protocol
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from zope.interface import implementer

from xiaozhi.bridge.edge.client import BridgeClient
from xiaozhi.bridge.grpc.dialer import GrpcDialer
from xiaozhi.bridge.grpc.loop import AsyncioThread
from xiaozhi.bridge.grpc.port import GrpcPort
from xiaozhi.bridge.service.server import BridgeServer
from xiaozhi.bridge.settings import ClientSettings, ServerSettings
from xiaozhi.interfaces import IEdgeEvents, IServiceEvents, IServiceLink, ISessionAcceptor
from xiaozhi.wire import messages as m

reactor: Any = _reactor  # its stub lacks interfaces

FRAME = 0.06
PAYLOAD = random.randbytes(150)


def cpu() -> float:
    """Return the CPU seconds of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


@implementer(IServiceEvents)
class Echo:
    def __init__(self, link: IServiceLink) -> None:
        self._link = link

    def received(self, message: m.Uplink) -> None:
        if isinstance(message, m.Audio):
            self._link.send(message)

    def pause_sending(self) -> None: ...

    def resume_sending(self) -> None: ...

    def draining(self) -> None: ...

    def closed(self, code: str, message: str) -> None: ...


@implementer(ISessionAcceptor)
class Acceptor:
    def accept(self, opening: m.SessionOpen, link: IServiceLink) -> IServiceEvents:
        return Echo(link)


def serve() -> None:
    """Run the child: print the address, then its CPU seconds on each input."""
    settings = ServerSettings(listen="127.0.0.1:0")
    server = BridgeServer(
        GrpcPort(AsyncioThread(reactor), settings), Acceptor(), settings, reactor, "ai", "boot"
    )

    class Report(protocol.Protocol):
        def dataReceived(self, data: bytes) -> None:
            print(cpu(), flush=True)

        def connectionLost(self, reason: Any = None) -> None:
            if reactor.running:
                server.stop().addBoth(lambda _: reactor.stop())

    from twisted.internet.stdio import StandardIO

    server.start().addCallback(lambda _: print(server.address, flush=True))
    StandardIO(Report())
    reactor.run()


@implementer(IEdgeEvents)
class Device:
    """Sends a frame every 60 ms and records the latency of its echo."""

    def __init__(self, latencies: list[float]) -> None:
        self.link: Any = None
        self.due = 0.0
        self._sent: list[float] = []
        self._latencies = latencies

    def send(self) -> None:
        self._sent.append(time.perf_counter())
        self.link.send(m.Audio(PAYLOAD))

    def received(self, message: m.Downlink) -> None:
        self._latencies.append(time.perf_counter() - self._sent.pop(0))

    def pause_sending(self) -> None: ...

    def resume_sending(self) -> None: ...

    def interrupted(self) -> None: ...

    def restored(self) -> tuple[m.Uplink, ...]:
        return ()

    def closed(self, code: str, message: str) -> None: ...


class Child(protocol.ProcessProtocol):
    """The echoing server."""

    transport: Any

    def __init__(self) -> None:
        self._waiting: Deferred[str] = Deferred()
        self._buffer = b""

    def line(self) -> Deferred[str]:
        self._waiting = Deferred()
        return self._waiting

    def outReceived(self, data: bytes) -> None:
        self._buffer += data
        if b"\n" in self._buffer:
            line, _, self._buffer = self._buffer.partition(b"\n")
            self._waiting.callback(line.decode())

    async def cpu(self) -> float:
        self.transport.write(b"?")
        return float(await self.line())


async def pace(devices: list[Any], seconds: float, send: Any) -> int:
    """Call ``send`` for each device every 60 ms, phases spread, by a 1 ms tick."""
    start = time.perf_counter()
    for number, device in enumerate(devices):
        device.due = start + FRAME * number / len(devices)
    sent = 0
    queue = list(devices)  # always in order of ``due``
    position = 0
    while (now := time.perf_counter()) < start + seconds:
        while queue[position].due <= now:
            device = queue[position]
            send(device)
            device.due += FRAME
            sent += 1
            position = (position + 1) % len(queue)
        await deferLater(reactor, 0.001)
    return sent


async def measure(devices: int, seconds: float, streams: int) -> None:
    child = Child()
    first = child.line()
    reactor.spawnProcess(child, sys.executable, [sys.executable, __file__, "serve"], env=None)
    address = await first
    settings = ClientSettings(targets=(address,), streams_per_target=streams)
    client = BridgeClient(
        GrpcDialer(AsyncioThread(reactor), settings), settings, reactor, random.random, "im", "b"
    )
    await client.start()
    while client.status().streams < settings.streams_per_target:
        await deferLater(reactor, 0.01)
    latencies: list[float] = []
    all_devices = [Device(latencies) for _ in range(devices)]
    for number, device in enumerate(all_devices):
        opening = m.SessionOpen(
            f"{number:020x}", m.Device(f"d{number}", "c", "u"), m.Hello(), m.AudioParams()
        )
        device.link = client.open(opening, device)
    await pace(all_devices, 0.5, Device.send)
    await deferLater(reactor, 0.2)
    begun = cpu()
    await pace(all_devices, seconds, lambda device: None)
    floor = cpu() - begun
    latencies.clear()
    here, there = cpu(), await child.cpu()
    sent = await pace(all_devices, seconds, Device.send)
    await deferLater(reactor, 0.3)
    here, there = cpu() - here, await child.cpu() - there
    latencies.sort()
    result = {
        "bench": "bridge_frames",
        "devices": devices,
        "streams": streams,
        "frames": sent,
        "echoed": len(latencies),
        "edge_us_per_frame": round((here - floor) / sent * 1e6, 1),
        "floor_us_per_frame": round(floor / sent * 1e6, 1),
        "server_us_per_frame": round(there / sent * 1e6, 1),
        "echo_p50_ms": round(latencies[len(latencies) // 2] * 1e3, 2),
        "echo_p99_ms": round(latencies[len(latencies) * 99 // 100] * 1e3, 2),
    }
    print(json.dumps(result))
    await client.stop()
    child.transport.closeStdin()


def main() -> None:
    if sys.argv[1:] == ["serve"]:
        serve()
        return
    given = dict(enumerate(sys.argv[1:]))
    devices, seconds = int(given.get(0, 300)), float(given.get(1, 5.0))
    done = Deferred.fromCoroutine(measure(devices, seconds, int(given.get(2, 2))))
    done.addErrback(lambda failure: failure.printTraceback())
    done.addBoth(lambda _: reactor.callLater(0.5, reactor.stop))
    reactor.run()


if __name__ == "__main__":
    main()
