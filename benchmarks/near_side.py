"""Stand-in for the edge: its end of the bridge, and devices that talk without a socket.

``python -m benchmarks.near_side`` has the commands of :class:`NearSide`'s methods.
"""

from __future__ import annotations

import gc
import random
from time import perf_counter
from typing import Any
from uuid import uuid4

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from zope.interface import implementer

from benchmarks.commands import obey
from benchmarks.frames import FRAME_SECONDS
from benchmarks.statistics import summary
from benchmarks.voice import quiet, voice
from xiaozhi.audio import OpusEncoder
from xiaozhi.bridge.edge.client import BridgeClient
from xiaozhi.bridge.grpc.dialer import GrpcDialer
from xiaozhi.bridge.grpc.loop import AsyncioThread
from xiaozhi.bridge.settings import ClientSettings
from xiaozhi.interfaces import IEdgeEvents
from xiaozhi.wire import messages as m

_UP = 16000
_DOWN = m.AudioParams(sample_rate=24000, frame_duration=round(FRAME_SECONDS * 1000))
_ANSWER_WITHIN = 60.0


def packets(pcm: bytes) -> list[m.Audio]:
    """Encode sound as a device does."""
    encoder = OpusEncoder(_UP, round(FRAME_SECONDS * 1000), 5, 20_000)
    return [m.Audio(one) for one in encoder.encode(pcm)]


@implementer(IEdgeEvents)
class NearDevice:
    """Plays answers in real time and reports the playback, as the edge does.

    :ivar heard: number of packets received.
    :ivar latencies: seconds from the last packet of a question, see :meth:`asked`, to the
        first packet of the answer.
    """

    def __init__(self, reactor: Any, pace: float) -> None:
        """:param pace: playing speed relative to real time; 0: at once."""
        self.link: Any = None
        self.heard = 0
        self.latencies: list[float] = []
        self.answered: Deferred[None] = Deferred()
        self._reactor = reactor
        self._pace = pace
        self._asked = 0.0
        self._began = 0.0
        self._frames = 0

    def asked(self) -> Deferred[None]:
        """End the question. :return: fires when the answer has been played."""
        self._asked = perf_counter()
        self.answered = Deferred()
        return self.answered.addTimeout(_ANSWER_WITHIN, self._reactor)

    def received(self, message: m.Downlink) -> None:
        if type(message) is m.Audio:
            self.heard += 1
            self._frames += 1
            if self._frames == 1:
                self._began = perf_counter()
                self.latencies.append(self._began - self._asked)
                self.link.send(m.Playback(message.turn, m.PlaybackState.STARTED))
        elif isinstance(message, m.Tts):
            if message.state is m.TtsState.START:
                self._frames = 0
            elif message.state is m.TtsState.STOP:
                self._play_out(message.turn)
        elif isinstance(message, m.Flush):
            self.link.send(m.Playback(message.turn, m.PlaybackState.FLUSHED))
            self._over()

    def _play_out(self, turn: int) -> None:
        """Report the playback when the rest has been played."""
        seconds = self._frames * FRAME_SECONDS

        def played() -> None:
            milliseconds = round(seconds * 1000)
            self.link.send(m.Playback(turn, m.PlaybackState.FINISHED, milliseconds))
            self._over()

        left = self._began + seconds / self._pace - perf_counter() if self._pace else 0.0
        self._reactor.callLater(max(0.0, left), played)

    def _over(self) -> None:
        if not self.answered.called:
            self.answered.callback(None)

    def pause_sending(self) -> None:
        """Do nothing: the messages sent here are within the credit."""

    def resume_sending(self) -> None:
        """As :meth:`pause_sending`."""

    def interrupted(self) -> None:
        """Do nothing: the streams do not break here."""

    def restored(self) -> tuple[m.Uplink, ...]:
        return ()

    def closed(self, code: str, message: str) -> None:
        if not self.answered.called:
            self.answered.errback(ConnectionError(f"closed: {code} {message}"))


class NearSide:
    """The devices, and the commands that they carry out together."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._devices: list[NearDevice] = []
        self._bridge: BridgeClient | None = None

    def connect(self, port: int, count: int, pace: float = 1.0) -> Deferred[None]:
        """Open sessions of devices that listen in realtime mode."""

        async def connect() -> None:
            settings = ClientSettings(targets=(f"127.0.0.1:{port}",))
            dialer = GrpcDialer(AsyncioThread(self._reactor), settings)
            self._bridge = BridgeClient(
                dialer, settings, self._reactor, random.random, "near side", uuid4().hex
            )
            await self._bridge.start()
            while self._bridge.status().streams < settings.streams_per_target:
                await deferLater(self._reactor, 0.01)
            for number in range(count):
                device = NearDevice(self._reactor, pace)
                who = m.Device(
                    f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}", "client", "user"
                )
                opening = m.SessionOpen(uuid4().hex, who, m.Hello(), _DOWN)
                device.link = self._bridge.open(opening, device)
                device.link.send(m.Listen(m.ListenState.START, m.ListenMode.REALTIME))
                self._devices.append(device)

        return Deferred.fromCoroutine(connect())

    def stop(self) -> Deferred[None] | None:
        """Close the sessions."""
        return self._bridge.stop() if self._bridge is not None else None

    def speak(self, seconds: float) -> Deferred[int]:
        """Make every device speak without a pause: a packet every 60 ms, spread evenly.

        :return: packets sent.
        """
        said = packets(voice(seconds, _UP))

        async def speak() -> int:
            await gatherResults([self._say(number, said) for number in range(len(self._devices))])
            for device in self._devices:  # forget the device: the close needs no reply
                device.link.send(m.Listen(m.ListenState.START, m.ListenMode.REALTIME))
            return len(said) * len(self._devices)

        return Deferred.fromCoroutine(speak())

    def ask(self, words: str, turns: int = 1) -> Deferred[int]:
        """Send a typed text from every device and wait for the answers.

        :return: packets heard.
        """
        before = self._heard()

        async def ask(device: NearDevice) -> None:
            for _ in range(turns):
                device.link.send(m.Chat(words))
                await device.asked()

        asking = [Deferred.fromCoroutine(ask(device)) for device in self._devices]
        return gatherResults(asking).addCallback(lambda _: self._heard() - before)

    def talk(self, seconds: float, turns: int) -> Deferred[dict[str, Any]]:
        """Make every device ask by voice repeatedly and wait for each answer. The microphones
        stay open.

        :param seconds: of speech in a question.
        :return: times from the last packet with speech to the answer's first packet,
            including the silence that ends a question; packets ``sent`` and ``heard``.
        """
        question, silence = packets(voice(seconds, _UP)), packets(quiet(3.0, _UP))
        before = self._heard()
        sent = 0

        async def talk(number: int, device: NearDevice) -> None:
            nonlocal sent
            for _ in range(turns):
                await self._say(number, question)
                sent += len(question)
                answered = device.asked()
                while not answered.called:
                    await self._say(number, silence[:4])
                    sent += 4
                await answered

        async def talk_all() -> dict[str, Any]:
            for device in self._devices:
                device.latencies.clear()
            talks = [
                Deferred.fromCoroutine(talk(number, device))
                for number, device in enumerate(self._devices)
            ]
            await gatherResults(talks)
            taken = [one for device in self._devices for one in device.latencies]
            return summary(taken) | {"sent": sent, "heard": self._heard() - before}

        return Deferred.fromCoroutine(talk_all())

    def _say(self, number: int, what: list[m.Audio]) -> Deferred[None]:
        """Send packets in real time, on a clock that does not drift."""
        link = self._devices[number].link

        async def say() -> None:
            await deferLater(self._reactor, FRAME_SECONDS * number / len(self._devices))
            began = perf_counter()
            for index, packet in enumerate(what):
                due = began + index * FRAME_SECONDS
                await deferLater(self._reactor, max(0.0, due - perf_counter()))
                link.send(packet)
            await deferLater(self._reactor, FRAME_SECONDS * (1 - number / len(self._devices)))

        return Deferred.fromCoroutine(say())

    def _heard(self) -> int:
        return sum(device.heard for device in self._devices)


def main() -> None:
    from twisted.internet import reactor

    gc.disable()
    near = NearSide(reactor)
    reactor.addSystemEventTrigger("before", "shutdown", near.stop)
    obey(reactor, {name: getattr(near, name) for name in ("connect", "speak", "ask", "talk")})


if __name__ == "__main__":
    main()
