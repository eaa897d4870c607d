"""Overhead of our own code between the end of speech and the first sound of the answer.

Both services run, with providers that take exactly a configured time. Devices talk by
button, so that ``listen stop`` is the end of speech. The three delays (recognition, the
model, the synthesiser) are subtracted from the time to the answer's first packet. The
remainder is both services, the bridge, decoding and encoding.

The pacer's ``start_gap`` (no sound within 60 ms after ``tts start``, for the sake
of devices) runs from the end of recognition and is over before the model and the
synthesiser have answered: it is neither part of the result nor subtracted from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.result import Aim, Result
from benchmarks.stage import Stage

_DELAY = 0.08  # of each of the three
_SPEECH = 0.3
_ANSWER = "Yes."


def _settings() -> dict[str, Any]:
    return {
        "selected": {
            "asr": "scripted",
            "llm": "scripted",
            "tts": "tone",
            "vlllm": "scripted",
            "vad": "energy",
        },
        "providers": {
            "asr": {"scripted": {"delay": _DELAY, "texts": ["is it so"]}},
            "llm": {"scripted": {"delay": _DELAY, "answers": [_ANSWER]}},
            "tts": {"tone": {"delay": _DELAY}},
        },
    }


# Milliseconds, by devices.
_P50 = {1: 15.0, 20: 15.0, 100: 40.0}
_P99 = {1: 40.0, 20: 40.0, 100: 150.0}


def run(devices: int, turns: int) -> Iterator[Result]:
    """Run the benchmark.

    :param turns: of each device.
    """
    with Stage() as stage:
        load = stage.load()
        brain, grpc = stage.brain(_settings())
        edge, port = stage.edge(grpc)
        load.ask("connect", port=port, count=devices)
        cpu = brain.cpu(), edge.cpu()
        measured = load.ask("talk", turns=turns, seconds=_SPEECH, wait=120.0)
        count = measured["count"]
        delays = 3 * _DELAY * 1000
        more = {
            "devices": devices,
            "turns": count,
            "max": round(measured["max"] - delays, 2),
            "delays_ms": round(delays),
            "ai_cpu_ms_per_turn": round((brain.cpu() - cpu[0]) / count * 1000, 1),
            "im_cpu_ms_per_turn": round((edge.cpu() - cpu[1]) / count * 1000, 1),
        }
        for part, aims in (("p50", _P50), ("p99", _P99)):
            figure = round(measured[part] - delays, 2)
            aim = Aim("figure", aims[devices]) if devices in aims else None
            yield Result(f"turn_overhead_{devices}_{part}", figure, "ms", None, aim, more)
