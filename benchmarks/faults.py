"""Effect of providers that hang, crawl or fail for ten devices on ninety others.

All hundred devices talk by button without a pause. The doubles of recogniser, model and
synthesiser misbehave for questions of certain lengths, which the ten odd devices ask:
four get a faulty recogniser, three a faulty model, three a faulty synthesiser. Rounds
with a fault alternate with rounds without one; those are the floor.

The result is the 99th percentile of the ninety's turn times beyond the doubles'
delays in each round, and the median over the rounds of a kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from benchmarks.process import Broken
from benchmarks.result import Aim, Result
from benchmarks.stage import Stage
from benchmarks.statistics import summary

_DELAY = 0.08  # of each of the three
_SPEECH = 0.3
# Length of the odd devices' questions without a fault, and of the first with one.
_ODD_SPEECH = 0.36
_FRAME = 0.06
_PATIENCE = 2.0  # seconds that a turn waits for a provider
_CRAWL = 1.0
_KINDS = ("asr", "llm", "tts")
_TROUBLE: dict[str, dict[str, Any]] = {
    "hang": {"hang": True},
    "crawl": {"crawl": _CRAWL},
    "fail": {"fail": "out_of_order", "retryable": True},
}
_EXPECTED = "You spoke for"
_MOST = 1.2


def _seconds(trouble: str, kind: str) -> float:
    """Return the length of a question that triggers this fault in this kind of provider."""
    number = list(_TROUBLE).index(trouble) * len(_KINDS) + _KINDS.index(kind) + 1
    return round(_ODD_SPEECH + number * _FRAME, 2)


def _double(kind: str) -> dict[str, Any]:
    """Return the settings common to the three doubles: the delay, and when to misbehave."""
    troubles = [
        {"when": f"{_seconds(name, kind) * 1000:.0f} milliseconds", **trouble}
        for name, trouble in _TROUBLE.items()
    ]
    return {"delay": _DELAY, "trouble": troubles}


def _settings() -> dict[str, Any]:
    answer = _EXPECTED + " {words}."
    return {
        "selected": {
            "asr": "scripted",
            "llm": "scripted",
            "tts": "tone",
            "vlllm": "scripted",
            "vad": "energy",
        },
        "providers": {
            "asr": {"scripted": {"texts": ["{ms} milliseconds"], **_double("asr")}},
            "llm": {"scripted": {"answers": [answer], **_double("llm")}},
            "tts": {"tone": {"milliseconds": 10, **_double("tts")}},
        },
        "session": {
            "turn": {
                "recognize": _PATIENCE,
                "first_token": _PATIENCE,
                "next_token": _PATIENCE,
                "first_audio": _PATIENCE,
            }
        },
    }


def run(devices: int, odd: int, turns: int, rounds: int) -> Iterator[Result]:
    """Run the benchmark.

    :param odd: number of devices with faulty providers.
    :param turns: of each device in each round.
    :param rounds: with each kind of fault, and as many without.
    """
    heard: dict[str, list[dict[str, Any]]] = {name: [] for name in ("", *_TROUBLE)}
    with Stage() as stage:
        load = stage.load()
        _, grpc = stage.brain(_settings())
        _, port = stage.edge(grpc)
        load.ask("connect", port=port, count=devices)
        # Warm up.
        load.ask("talk", turns=1, seconds=_SPEECH)
        order = list(heard)
        for _ in range(rounds):
            for trouble in order:
                measured = load.ask(
                    "talk",
                    turns=turns,
                    seconds=_SPEECH,
                    odd=_odd(trouble, odd),
                    expected=_EXPECTED,
                    wait=60.0 + 5 * turns,
                )
                if trouble in ("hang", "fail") and measured["odd_answered"]:
                    raise Broken(
                        f"provider_faults: {measured['odd_answered']} turns did not {trouble}"
                    )
                heard[trouble].append(measured)
            order.reverse()
    calm = heard.pop("")
    floor, without = _beyond(calm), _each(calm)
    for trouble, rounds_of_it in heard.items():
        seen, each = _beyond(rounds_of_it), _each(rounds_of_it)
        more = {
            "devices": devices,
            "odd": odd,
            "turns": seen["count"],
            "p50": seen["p50"],
            "floor_p50": floor["p50"],
            "rounds": each,
            "floor_rounds": without,
            "unanswered": sum(one["unanswered"] for one in rounds_of_it),
            "odd_turns": sum(one["odd_turns"] for one in rounds_of_it),
        }
        aim = Aim("ratio", _MOST)
        yield Result(f"faults_{trouble}", median(each), "ms p99", median(without), aim, more)
        if more["unanswered"]:
            raise Broken(f"{trouble}: {more['unanswered']} turns of others had no answer")


def _odd(trouble: str, count: int) -> list[float]:
    if not trouble:
        return [_ODD_SPEECH] * count
    return [_seconds(trouble, _KINDS[number % len(_KINDS)]) for number in range(count)]


def _each(rounds: Sequence[dict[str, Any]]) -> list[float]:
    """Return the p99 of each round. In one round it depends on two or three turns and on
    brief load of the machine, so only the median counts."""
    return [round(one["p99"] - 3000 * _DELAY, 2) for one in rounds]


def _beyond(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Summarise all rounds, without the doubles' delays."""
    return summary([one - 3 * _DELAY for measured in rounds for one in measured["seconds"]])
