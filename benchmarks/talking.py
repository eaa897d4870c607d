"""Talking devices per core of the AI service, and the CPU per second of speech.

The service runs alone, with doubles for its vendors and its default settings: it decodes
Opus, voice activity finds the end of a question, and answers arrive in pieces of 0.1 s at
twice real time and are encoded. The stand-in for the edge keeps microphones open
(realtime mode), plays answers in real time and reports the playback.

``speech_in`` is the service's CPU for a second of sound from a device that speaks without
a pause, ``speech_out`` for a second of an answer. The floor of each is the bare codec: PyAV
decoding and resampling the same packets, and encoding the same answers with the same
settings. It is measured in turns with them, on two cores at a time: the service keeps
both busy, and virtual machines are slower then. ``speech`` is the sum of both.

``speech_voip`` is the same with answers encoded with SILK, which takes three times the CPU:
the codec's share grows while the service's work stays the same.

``talking_per_core`` counts devices that ask by voice and listen to the answer, without
a pause: this number would use all of one core. ``codecs`` is the share of CPU that their
sound takes at the floor; ``per_reactor`` is the number that would saturate the reactor's
thread, which a second core does not relieve.
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
        """Return ms of CPU per second of sound."""
        return self._cpu / self._seconds * 1000


def run(devices: int, seconds: float, turns: int, rounds: int) -> Iterator[Result]:
    """Run the benchmark.

    :param seconds: of speech without a pause, in each round.
    :param turns: of each device that talks.
    """
    yield from _with({}, devices, seconds, turns, rounds)
    yield from _with(_VOIP, devices, seconds, 0, rounds)


def _with(
    speech: dict[str, Any], devices: int, seconds: float, turns: int, rounds: int
) -> Iterator[Result]:
    """Measure with speech settings.

    :param speech: settings that differ from the defaults.
    :param turns: 0: no conversations.
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
        # Warm up.
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
        measured = near.ask("talk", seconds=_QUESTION, turns=turns, wait=60.0 + 20 * turns)
        lasted = time.monotonic() - began
        cpu, reactor = brain.cpu() - cpu, brain.main_cpu() - reactor
    if not measured["heard"] or not cpu:
        raise Broken("talking_per_core: nothing was heard")
    bare = (measured["sent"] * floor_in + measured["heard"] * floor_out) * FRAME_SECONDS / 1000
    more = {
        "devices": devices,
        "turns": measured["count"],
        "cores": round(cpu / lasted, 2),
        "codecs": round(bare / cpu, 2),
        "per_reactor": round(devices * lasted / reactor) if reactor else None,
        "p50_ms": round(measured["p50"] - _END_SILENCE, 1),
        "p99_ms": round(measured["p99"] - _END_SILENCE, 1),
    }
    yield Result("talking_per_core", round(devices * lasted / cpu), "devices", more=more)


def _bare(codecs: list[Helper], do: str, **arguments: Any) -> float:
    """Measure the bare codec, in as many processes at a time as there are."""
    for one in codecs:
        one.begin(do, **arguments)
    return float(mean(one.answer() for one in codecs))


def _cost(name: str, figure: float, floor: float, aim: Aim | None, more: dict[str, Any]) -> Result:
    return Result(name, round(figure, 2), "ms CPU/s", round(floor, 2), aim, more)
