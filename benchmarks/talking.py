"""How many talking devices a core of the AI service carries, and what a second of speech costs.

The service runs alone, with doubles for its vendors and everything else as it is shipped:
Opus is decoded, voice activity finds where a question ends, answers come in pieces of
0.1 s at twice the pace of speech and are encoded. What stands for the edge keeps
microphones open (realtime mode), plays answers at their pace and reports it.

``speech_in`` is the service's CPU for a second of sound from a device that speaks without
a pause, ``speech_out`` for a second of an answer. The floor of each is the bare codec: PyAV
decoding and resampling the same packets, and encoding the same answers with the same
settings. It is measured in turns with them, on two cores at a time: the service has
both busy, and virtual machines are slower then. ``speech`` is both together.

``speech_voip`` is the same with answers encoded with SILK, which costs three times as much:
then there is more codec beside the same work of the service.

``talking_per_core`` counts devices that ask by voice and listen to the answer, without
a pause: so many of them would use all of one core. ``codecs`` is the part of the CPU that
their sound costs at the floor; ``per_reactor`` is how many would fill the reactor's thread,
which no second core relieves.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import mean
from typing import Any

from benchmarks.frames import FRAME_SECONDS
from benchmarks.process import Broken, Helper, Process
from benchmarks.result import Aim, Result
from benchmarks.soak import talkative
from benchmarks.stage import Stage

_MOST = 1.5
_FLOOR_SECONDS = 1.0
_CORES = 2
_QUESTION = 2.0
# Silence that ends a question, from the settings' defaults, in ms.
_END_SILENCE = 700.0
# Thirty characters, 60 ms of sound each.
_ANSWER = "All right then, so shall it be."
_SETTLE = 0.3
_VOIP = {"application": "voip", "complexity": 5, "bitrate": 24000}


class _Meter:
    """CPU of the service, for packets of sound."""

    def __init__(self, service: Process) -> None:
        self._service = service
        self._seconds = self._cpu = 0.0

    def __enter__(self) -> _Meter:
        self._before = self._service.cpu()
        return self

    def __exit__(self, *_: object) -> None:
        time.sleep(_SETTLE)
        self._cpu += self._service.cpu() - self._before

    def passed(self, packets: int) -> None:
        self._seconds += packets * FRAME_SECONDS

    @property
    def each(self) -> float:
        """ms of CPU for a second of sound."""
        return self._cpu / self._seconds * 1000


def run(devices: int, seconds: float, turns: int, rounds: int) -> Iterator[Result]:
    """:param seconds: of speech without a pause, in each round.
    :param turns: of each device that talks.
    """
    yield from _with({}, devices, seconds, turns, rounds)
    yield from _with(_VOIP, devices, seconds, 0, rounds)


def _with(
    speech: dict[str, Any], devices: int, seconds: float, turns: int, rounds: int
) -> Iterator[Result]:
    """:param speech: settings that are not the defaults.
    :param turns: 0: no talks.
    """
    settings = talkative()
    settings["session"]["speech"] = speech
    settings["selected"]["vad"] = "webrtc"
    settings["providers"]["llm"]["scripted"]["answers"] = [_ANSWER]
    settings["providers"]["tts"] = {"tone": {"pace": 2}}
    with Stage() as stage:
        codecs, near = [stage.codecs() for _ in range(_CORES)], stage.near_side()
        brain, port = stage.brain(settings)
        near.ask("connect", port=port, count=devices)
        # For what is made once.
        near.ask("talk", seconds=_QUESTION, turns=1)
        decoding: list[float] = []
        encoding: list[float] = []
        up, down = _Meter(brain), _Meter(brain)
        for _ in range(rounds):
            decoding.append(_bare(codecs, "decode", streams=devices, seconds=_FLOOR_SECONDS))
            encoding.append(_bare(codecs, "encode", streams=devices, words=_ANSWER, speech=speech))
            with up:
                up.passed(near.ask("speak", seconds=seconds))
            with down:
                down.passed(near.ask("ask", words="well?"))
        floor_in, floor_out = (1000 * sum(one) / rounds for one in (decoding, encoding))
        more: dict[str, Any] = {"devices": devices, "rounds": rounds}
        both, floor = up.each + down.each, floor_in + floor_out
        if speech:
            yield _cost("speech_voip", both, floor, Aim("ratio", _MOST), more | speech)
            return
        yield _cost("speech_in", up.each, floor_in, None, more)
        yield _cost("speech_out", down.each, floor_out, None, more)
        yield _cost("speech", both, floor, Aim("ratio", _MOST), more)
        began, cpu, reactor = time.monotonic(), brain.cpu(), brain.main_cpu()
        told = near.ask("talk", seconds=_QUESTION, turns=turns, wait=60.0 + 20 * turns)
        lasted = time.monotonic() - began
        cpu, reactor = brain.cpu() - cpu, brain.main_cpu() - reactor
    if not told["heard"] or not cpu:
        raise Broken("talking_per_core: nothing was heard")
    bare = (told["sent"] * floor_in + told["heard"] * floor_out) * FRAME_SECONDS / 1000
    more = {
        "devices": devices,
        "turns": told["count"],
        "cores": round(cpu / lasted, 2),
        "codecs": round(bare / cpu, 2),
        "per_reactor": round(devices * lasted / reactor) if reactor else None,
        "p50_ms": round(told["p50"] - _END_SILENCE, 1),
        "p99_ms": round(told["p99"] - _END_SILENCE, 1),
    }
    yield Result("talking_per_core", round(devices * lasted / cpu), "devices", more=more)


def _bare(codecs: list[Helper], do: str, **arguments: Any) -> float:
    """What the codec costs where each of them works at the same time."""
    for one in codecs:
        one.begin(do, **arguments)
    return float(mean(one.answer() for one in codecs))


def _cost(name: str, figure: float, floor: float, aim: Aim | None, more: dict[str, Any]) -> Result:
    return Result(name, round(figure, 2), "ms CPU/s", round(floor, 2), aim, more)
