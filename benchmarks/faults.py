"""What a provider that hangs, crawls or fails for ten devices does to the ninety others.

All hundred talk by button without a pause. The doubles of a recogniser, a model and a
synthesiser misbehave for a question of a certain length, and the ten odd devices ask
questions of such lengths: four of them have trouble with the recogniser, three with the
model, three with the synthesiser. Rounds in which they have the same trouble alternate
with rounds in which nobody has any; those are the floor.

The figure is the 99th percentile of what turns of the ninety take beyond the doubles'
delays, of each round; of the rounds of a kind the median.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from benchmarks.process import Broken
from benchmarks.result import Aim, Result
from benchmarks.stage import Stage
from benchmarks.statistics import summary

_DELAY = 0.08  # each of the three
_SPEECH = 0.3
# The odd ones' questions where nothing is wrong, and the first of those where something is.
_ODD_SPEECH = 0.36
_FRAME = 0.06
_PATIENCE = 2.0  # seconds that a turn waits for a provider here
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
    """How long a question is that has this trouble with this kind of provider."""
    number = list(_TROUBLE).index(trouble) * len(_KINDS) + _KINDS.index(kind) + 1
    return round(_ODD_SPEECH + number * _FRAME, 2)


def _double(kind: str) -> dict[str, Any]:
    """What is common to the three doubles: the delay, and when there is trouble."""
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
    """:param odd: how many of them have trouble.
    :param turns: of each device in each round.
    :param rounds: with each kind of trouble, and as many without.
    """
    heard: dict[str, list[dict[str, Any]]] = {name: [] for name in ("", *_TROUBLE)}
    with Stage() as stage:
        load = stage.load()
        _, grpc = stage.brain(_settings())
        _, port = stage.edge(grpc)
        load.ask("connect", port=port, count=devices)
        # For what is made once.
        load.ask("talk", turns=1, seconds=_SPEECH)
        order = list(heard)
        for _ in range(rounds):
            for trouble in order:
                told = load.ask(
                    "talk",
                    turns=turns,
                    seconds=_SPEECH,
                    odd=_odd(trouble, odd),
                    expected=_EXPECTED,
                    wait=60.0 + 5 * turns,
                )
                if trouble in ("hang", "fail") and told["odd_answered"]:
                    raise Broken(f"provider_faults: {told['odd_answered']} turns did not {trouble}")
                heard[trouble].append(told)
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
    """The p99 of each round. Of one round it is two or three turns, and a moment in which
    the machine does something else decides it: so it is the median that counts."""
    return [round(one["p99"] - 3000 * _DELAY, 2) for one in rounds]


def _beyond(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """All rounds together, less what the doubles take."""
    return summary([one - 3 * _DELAY for told in rounds for one in told["seconds"]])
