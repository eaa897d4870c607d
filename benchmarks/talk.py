"""A device that asks by button and measures the time to the answer."""

from __future__ import annotations

import math
from array import array
from time import perf_counter
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.task import deferLater

from benchmarks.frames import FRAME_SECONDS
from benchmarks.websocket import Socket, binary_frame, text_frame
from xiaozhi.audio import OpusEncoder

_RATE = 16000
_BITRATE = 20_000
_ANSWER_WITHIN = 20.0
_START = text_frame('{"type":"listen","state":"start","mode":"manual"}')
_STOP = text_frame('{"type":"listen","state":"stop"}')
ABORT = text_frame('{"type":"abort"}')


def speech(seconds: float) -> list[bytes]:
    """Make frames of real sound, since the server decodes them."""
    sound = array(
        "h",
        (
            round(8000 * math.sin(index * 2 * math.pi * 300 / _RATE))
            for index in range(int(seconds * _RATE))
        ),
    )
    encoder = OpusEncoder(_RATE, round(FRAME_SECONDS * 1000), 5, _BITRATE)
    return [binary_frame(one) for one in encoder.encode(sound.tobytes()) + encoder.flush()]


class Talker:
    """Turns of one device, one after the other.

    :param frames: the question.
    :param apart: seconds between two frames.
    :param expected: part of the text of every answer that is not an apology.
    :ivar latencies: seconds from ``listen stop`` to the answer's first packet.
    :ivar turns: number of ended turns.
    :ivar answered: number of turns with the expected answer.
    """

    def __init__(
        self,
        socket: Socket,
        reactor: Any,
        frames: list[bytes],
        apart: float = FRAME_SECONDS,
        expected: str = "",
    ) -> None:
        self._socket = socket
        self._reactor = reactor
        self._frames = frames
        self._apart = apart
        self._expected = expected.encode()
        self._asked = 0.0
        self._answered: Deferred[None] = Deferred()
        self._saying_it = self._as_expected = False
        self.latencies: list[float] = []
        self.turns = self.answered = 0
        socket.on_binary, socket.on_text = self._heard, self._speech_text

    async def _turn(self) -> None:
        self._socket.send(_START)
        for frame in self._frames:
            self._socket.send(frame)
            if self._apart:
                await deferLater(self._reactor, self._apart)
        self._answered = Deferred()
        self._saying_it = self._as_expected = False
        self._asked = perf_counter()
        self._socket.send(_STOP)
        await self._answered.addTimeout(_ANSWER_WITHIN, self._reactor)
        self.turns += 1
        self.answered += self._as_expected

    def talk(self, turns: int) -> Deferred[None]:
        """Run turns; the first is not counted."""

        async def talk() -> None:
            for _ in range(turns + 1):
                await self._turn()
            del self.latencies[:1]

        return Deferred.fromCoroutine(talk())

    def talk_until(self, time: float) -> Deferred[None]:
        """Run turns until this time of ``perf_counter``."""

        async def talk() -> None:
            while perf_counter() < time:
                await self._turn()

        return Deferred.fromCoroutine(talk())

    def talk_on(self) -> Deferred[None]:
        """Run turns, answered or not, until cancelled."""

        async def talk() -> None:
            try:
                while True:
                    try:
                        await self._turn()
                    except TimeoutError:
                        self.turns += 1
            finally:
                self._socket.send(ABORT)

        return Deferred.fromCoroutine(talk())

    def _heard(self, data: bytes) -> None:
        if self._asked:
            self.latencies.append(perf_counter() - self._asked)
            self._asked = 0.0
        self._as_expected = self._as_expected or self._saying_it

    def _speech_text(self, text: bytes) -> None:
        if b'"tts"' not in text:
            return
        if b'"sentence_start"' in text:
            self._saying_it = self._expected in text
        elif b'"stop"' in text and not self._answered.called:
            self._answered.callback(None)
