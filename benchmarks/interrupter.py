"""A device that asks for long answers and interrupts them."""

from __future__ import annotations

import random
from time import perf_counter
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from benchmarks.talk import ABORT
from benchmarks.websocket import Socket, text_frame

_ASK = text_frame('{"type":"listen","state":"detect","text":"tell me everything"}')
# Seconds of the answer that it listens to, and that late packets may take.
_LISTEN = (0.2, 2.0)
_LATE = 0.4
_WITHIN = 20.0


class Interrupter:
    """Repeatedly asks, listens for a while and sends ``abort``.

    :ivar latencies: seconds from ``abort`` to the last packet after it; 0 if there was
        none.
    :ivar stops: number of ``tts stop`` messages of each turn.
    :ivar stale: packets received after a ``tts stop``.
    """

    def __init__(self, socket: Socket, reactor: Any, chance: random.Random) -> None:
        self._socket = socket
        self._reactor = reactor
        self._chance = chance
        self._began: Deferred[None] = Deferred()
        self._stopped: Deferred[None] = Deferred()
        self._last = 0.0
        self._stops = 0
        self.latencies: list[float] = []
        self.stops: list[int] = []
        self.stale = 0
        socket.on_binary, socket.on_text = self._heard, self._speech_text

    def interrupt(self, turns: int) -> Deferred[None]:
        async def interrupt() -> None:
            for _ in range(turns):
                await self._turn()

        return Deferred.fromCoroutine(interrupt())

    async def _turn(self) -> None:
        self._began, self._stopped, self._stops = Deferred(), Deferred(), 0
        self._socket.send(_ASK)
        await self._began.addTimeout(_WITHIN, self._reactor)
        await deferLater(self._reactor, self._chance.uniform(*_LISTEN))
        aborted = perf_counter()
        self._socket.send(ABORT)
        await self._stopped.addTimeout(_WITHIN, self._reactor)
        await deferLater(self._reactor, _LATE)
        self.latencies.append(max(0.0, self._last - aborted))
        self.stops.append(self._stops)

    def _heard(self, data: bytes) -> None:
        self._last = perf_counter()
        self.stale += self._stops > 0
        if not self._began.called:
            self._began.callback(None)

    def _speech_text(self, text: bytes) -> None:
        if b'"tts"' in text and b'"stop"' in text:
            self._stops += 1
            if not self._stopped.called:
                self._stopped.callback(None)
