"""Conversations of the load generator's devices with an AI service, all at once."""

from __future__ import annotations

import random
from collections.abc import Sequence
from time import perf_counter
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from benchmarks.device import LoadDevice
from benchmarks.frames import FRAME_SECONDS
from benchmarks.interrupter import Interrupter
from benchmarks.statistics import summary
from benchmarks.talk import Talker, speech

# Devices start spread over a second.
_SPREAD = 1.0


class Talks:
    """Commands that hold conversations.

    :param devices: the connected devices; more may be added later.
    """

    def __init__(self, reactor: Any, devices: list[LoadDevice]) -> None:
        self._reactor = reactor
        self._devices = devices

    def talk(
        self, turns: int, seconds: float, odd: Sequence[float] = (), expected: str = ""
    ) -> Deferred[dict[str, Any]]:
        """Make every device repeatedly speak for ``seconds`` by button and wait for the end
        of the answer.

        :param odd: seconds of speech of the last devices: they talk until all others are
            done, answered or not, and do not count.
        :param expected: part of every proper answer.
        :return: times from ``listen stop`` to the answer's first packet; ``seconds``, each
            of them; ``unanswered`` turns; the same for the odd devices.
        """
        plain = self._devices[: len(self._devices) - len(odd)]
        talkers = [self._talker(device, seconds, expected) for device in plain]
        odd_ones = [
            self._talker(device, length, expected)
            for device, length in zip(self._devices[len(plain) :], odd, strict=True)
        ]

        async def talk_all() -> dict[str, Any]:
            apart = _SPREAD / len(talkers)
            talks = [
                deferLater(self._reactor, number * apart, talker.talk, turns)
                for number, talker in enumerate(talkers)
            ]
            others = [talker.talk_on().addErrback(lambda _: None) for talker in odd_ones]
            try:
                await gatherResults(talks, consumeErrors=True)
            finally:
                for one in others:
                    one.cancel()
            taken = [one for talker in talkers for one in talker.latencies]
            return summary(taken) | {
                "seconds": taken,
                "unanswered": sum(talker.turns - talker.answered for talker in talkers),
                "odd_turns": sum(talker.turns for talker in odd_ones),
                "odd_answered": sum(talker.answered for talker in odd_ones),
            }

        return Deferred.fromCoroutine(talk_all())

    def chat(
        self, speak: float, seconds: float = 0.0, turns: int = 0, apart: float = FRAME_SECONDS
    ) -> Deferred[dict[str, Any]]:
        """Make every device ask by button repeatedly, for a time or a number of turns.

        :param speak: seconds of speech in a question.
        :param apart: seconds between two packets of it; 0: all at once.
        """
        frames = speech(speak)
        talkers = [Talker(one.socket, self._reactor, frames, apart) for one in self._devices]
        until = perf_counter() + seconds

        async def chat_all() -> dict[str, Any]:
            chats = [
                talker.talk(turns - 1) if turns else talker.talk_until(until) for talker in talkers
            ]
            await gatherResults(chats, consumeErrors=True)
            return summary([one for talker in talkers for one in talker.latencies])

        return Deferred.fromCoroutine(chat_all())

    def interrupt(self, turns: int) -> Deferred[dict[str, Any]]:
        """Make every device repeatedly ask for a long answer and interrupt it.

        :return: times from ``abort`` to the last packet after it; ``silent``, turns
            without one; ``wrong_stops``, turns without exactly one ``tts stop``; ``stale``
            packets, received after it.
        """
        chance = random.Random(1)
        devices = [Interrupter(one.socket, self._reactor, chance) for one in self._devices]

        async def interrupt_all() -> dict[str, Any]:
            apart = _SPREAD / len(devices)
            all_of_them = [
                deferLater(self._reactor, number * apart, device.interrupt, turns)
                for number, device in enumerate(devices)
            ]
            await gatherResults(all_of_them, consumeErrors=True)
            taken = [one for device in devices for one in device.latencies]
            return summary(taken) | {
                "silent": sum(not one for one in taken),
                "wrong_stops": sum(one != 1 for device in devices for one in device.stops),
                "stale": sum(device.stale for device in devices),
            }

        return Deferred.fromCoroutine(interrupt_all())

    def _talker(self, device: LoadDevice, seconds: float, expected: str) -> Talker:
        return Talker(device.socket, self._reactor, speech(seconds), expected=expected)
