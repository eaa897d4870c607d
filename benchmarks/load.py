"""The load generator: many devices in one process, the same for edge and floor.

``python -m benchmarks.load KEY`` has the commands of :class:`Load`'s and
:class:`benchmarks.talks.Talks`' methods.
"""

from __future__ import annotations

import gc
import sys
from time import perf_counter
from typing import Any

from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from benchmarks.commands import obey
from benchmarks.device import FRAMES, LoadDevice
from benchmarks.frames import FRAME_SECONDS
from benchmarks.statistics import summary
from benchmarks.talks import Talks
from benchmarks.websocket import text_frame
from xiaozhi.auth import AuthSettings, JwtTokens, load_keys, open_user
from xiaozhi.device.identity import Identity, numbered
from xiaozhi.wire.messages import Device

_OPENING = 32
_CONNECT_WITHIN = 20.0
_LATE_ONES = 50  # tenths of a second to wait for late echoes
_TEXT_EVERY = 64  # packets per text
_LISTEN = text_frame('{"type":"listen","state":"start","mode":"realtime"}')


class Load:
    """The devices of this process, and the commands that they carry out together."""

    def __init__(self, reactor: Any, key: str) -> None:
        self._reactor = reactor
        settings = AuthSettings(key=key)
        self._tokens = JwtTokens(load_keys(settings), settings, reactor)
        self._devices: list[LoadDevice] = []
        self._rounds = 0
        self.talks = Talks(reactor, self._devices)

    def connect(self, port: int, count: int) -> Deferred[Any]:
        """Connect more devices and wait for every hello."""
        gate = DeferredSemaphore(_OPENING)
        opening = [
            gate.run(Deferred.fromCoroutine, self._open(device, port))
            for device in self._newcomers(count)
        ]
        return gatherResults(opening, consumeErrors=True).addCallback(len)

    def arrive(self, port: int, count: int, per_second: int) -> Deferred[dict[str, Any]]:
        """Connect more devices at an even rate, regardless of how long each takes.

        :return: times from the first SYN to the server's hello; number of ``refused`` devices;
            ``late_ms`` as :meth:`stream`.
        """
        new = self._newcomers(count)
        refused: list[Failure] = []

        async def arrive() -> dict[str, Any]:
            opening, began, late = [], perf_counter(), 0.0
            for number, device in enumerate(new):
                wait = began + number / per_second - perf_counter()
                if wait > 0:
                    await deferLater(self._reactor, wait)
                late = max(late, perf_counter() - began - number / per_second)
                opened = Deferred.fromCoroutine(self._open(device, port))
                opening.append(opened.addErrback(refused.append))
            await gatherResults(opening)
            hellos = summary([device.hello for device in new if device.hello])
            if refused:
                print(f"one of {len(refused)}: {refused[0].getErrorMessage()}", file=sys.stderr)
            return hellos | {"refused": len(refused), "late_ms": round(late * 1000, 1)}

        return Deferred.fromCoroutine(arrive())

    def _newcomers(self, count: int) -> list[LoadDevice]:
        first = len(self._devices) + 1
        new = [LoadDevice(self._request(numbered(first + n))) for n in range(count)]
        self._devices += new
        return new

    async def _open(self, device: LoadDevice, port: int) -> None:
        endpoint = TCP4ClientEndpoint(self._reactor, "127.0.0.1", port, timeout=_CONNECT_WITHIN)
        device.began = perf_counter()
        await connectProtocol(endpoint, device.socket)
        await device.opened.addTimeout(_CONNECT_WITHIN, self._reactor)

    def close(self) -> None:
        """Drop all connections."""
        for device in self._devices:
            device.socket.drop()
        self._devices.clear()

    def listen(self) -> None:
        """Make every device listen."""
        for device in self._devices:
            device.socket.send(_LISTEN)

    async def _stream(self, seconds: float, burst: int, texts: bool) -> dict[str, Any]:
        devices = self._devices
        count = len(devices)
        apart = FRAME_SECONDS * burst / count
        blob = FRAMES[0] * burst
        reactor, total = self._reactor, max(1, int(seconds / apart))
        began, sent, late = perf_counter(), 0, 0.0
        while sent < total:
            await deferLater(reactor, max(0.0, began + sent * apart - perf_counter()))
            due = min(total, int((perf_counter() - began) / apart) + 1)
            late = max(late, perf_counter() - began - sent * apart)
            while sent < due:
                turn, index = divmod(sent, count)
                turn += self._rounds
                if burst > 1:
                    devices[index].socket.send(blob)
                else:
                    devices[index].send_packet(turn)
                    if texts and (turn + index) % _TEXT_EVERY == 0:
                        devices[index].send_text()
                sent += 1
        self._rounds += sent // count + 1
        return {"sent": sent * burst, "late_ms": round(late * 1000, 1)}

    def stream(
        self, seconds: float, burst: int = 1, texts: bool = False
    ) -> Deferred[dict[str, Any]]:
        """Make every device send a packet every 60 ms, spread evenly over that time.

        :param burst: packets sent at once, at an accordingly lower rate.
        :param texts: also send a text with every sixty-fourth packet.
        :return: ``sent`` packets; ``late_ms``, the largest delay of this process: if it is
            large, the machine was busy.
        """
        return Deferred.fromCoroutine(self._stream(seconds, burst, texts))

    def echo(self, seconds: float, warm_up: float, texts: bool = True) -> Deferred[dict[str, Any]]:
        """Stream packets and texts that the server echoes, and time them.

        :param warm_up: seconds streamed before the measurement.
        """

        async def echo() -> dict[str, Any]:
            await self._stream(warm_up, 1, texts)
            await deferLater(self._reactor, 0.3)
            for device in self._devices:
                device.latencies.clear()
                device.text_latencies.clear()
                device.since = perf_counter()
                device.expect_echo()
            streamed = await self._stream(seconds, 1, texts)
            # Late echoes count: the percentiles need them.
            for _ in range(_LATE_ONES):
                await deferLater(self._reactor, 0.1)
                if sum(len(device.latencies) for device in self._devices) >= streamed["sent"]:
                    break
            packets = [one for device in self._devices for one in device.latencies]
            answers = [one for device in self._devices for one in device.text_latencies]
            return streamed | {"packets": summary(packets), "texts": summary(answers)}

        return Deferred.fromCoroutine(echo())

    def expect_speech(self) -> None:
        """Reset, and count and time packets from now on."""
        for device in self._devices:
            device.expect_speech()

    def heard(self, late: float) -> dict[str, Any]:
        """Return the counts since :meth:`expect_speech`.

        :param late: seconds beyond which a gap between two packets is late.
        """
        gaps = [gap for device in self._devices for gap in device.gaps]
        return {
            "frames": sum(device.received for device in self._devices),
            "turns": sum(device.turns_ended for device in self._devices),
            "gaps": len(gaps),
            "late": sum(gap > late for gap in gaps),
            "spread": summary(gaps),
        }

    def _request(self, identity: Identity) -> bytes:
        device = Device(identity.device_id, identity.client_id, open_user(identity.device_id))
        token = self._tokens.issue(device, "device", 3600)
        return (
            "GET /xiaozhi/v1/ HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Authorization: Bearer {token}\r\nClient-Id: {identity.client_id}\r\n"
            f"Connection: Upgrade\r\nDevice-Id: {identity.device_id}\r\n"
            "Protocol-Version: 1\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n\r\n"
        ).encode()


def main() -> None:
    from twisted.internet import reactor

    # Pauses of the collector would be in every result, and nothing here makes reference cycles.
    gc.disable()
    load = Load(reactor, sys.argv[1])
    names = ["connect", "arrive", "close", "listen", "stream", "echo", "expect_speech", "heard"]
    commands = {name: getattr(load, name) for name in names}
    talks = ["talk", "chat", "interrupt"]
    obey(reactor, commands | {name: getattr(load.talks, name) for name in talks})


if __name__ == "__main__":
    main()
