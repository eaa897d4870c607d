"""``python -m benchmarks [--quick | --tiny] [--soak SECONDS] [NAME …]``: JSON, then a table."""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain

from benchmarks import (
    downlink,
    echo,
    faults,
    growth,
    interruption,
    memory,
    soak,
    talking,
    turn,
    uplink,
)
from benchmarks.process import Broken, Stolen
from benchmarks.result import Result, table

# A socket at both ends of each connection, and some reserve.
_FILES = 16_384

Bench = Callable[[], Iterable[Result]]


@dataclass(frozen=True, slots=True)
class Size:
    """Size of the measurements.

    :ivar many: number of devices for load; ``some`` and ``few`` are smaller numbers,
        ``crowd`` is a larger one.
    :ivar seconds: duration of a round; each side has ``rounds`` of them.
    :ivar connections: idle connections; ``per_second`` of them arrive each second.
    :ivar talking: devices in benchmarks of turns, with ``turns`` each.
    :ivar odd: devices among ``some`` whose providers fail.
    :ivar core: devices that talk to the AI service alone.
    :ivar session_turns: turns of one session, and ``sessions`` short sessions, in the
        benchmark of memory growth.
    :ivar soak: seconds of conversation in the soak.
    """

    many: int = 300
    some: int = 100
    few: int = 50
    crowd: int = 1000
    seconds: float = 3.0
    rounds: int = 2
    connections: int = 10_000
    per_second: int = 500
    talking: int = 20
    turns: int = 10
    odd: int = 10
    core: int = 60
    session_turns: int = 2000
    sessions: int = 200
    soak: float = 180.0


WHOLE = Size()
QUICK = Size(
    seconds=1.0,
    rounds=1,
    connections=1000,
    turns=2,
    session_turns=200,
    sessions=40,
    soak=30.0,
)
TINY = Size(
    many=3,
    some=3,
    few=3,
    crowd=3,
    seconds=0.5,
    rounds=1,
    connections=5,
    talking=2,
    turns=1,
    odd=2,
    core=2,
    session_turns=8,
    sessions=4,
    soak=3.0,
)


def benches(size: Size) -> dict[str, Bench]:
    """Return the benchmarks by name."""
    seconds, rounds = size.seconds, size.rounds
    return {
        "frame_cpu_up": lambda: uplink.run(size.many, seconds, rounds),
        "frame_cpu_down": lambda: downlink.run_cpu(size.many, 2 * seconds, rounds),
        "pacing": lambda: downlink.run_pacing(size.some, 2 * seconds, 1),
        "echo": lambda: chain.from_iterable(
            echo.run(devices, seconds, 2 * rounds - 1)
            for devices in (size.few, size.many, size.crowd)
        ),
        "idle": lambda: memory.run(size.connections, size.per_second),
        "turn_overhead": lambda: chain.from_iterable(
            turn.run(devices, size.turns) for devices in (1, size.talking, size.some)
        ),
        "provider_faults": lambda: faults.run(
            size.some, size.odd, (size.turns + 1) // 2, 2 * rounds + 1
        ),
        "interruption": lambda: interruption.run(size.some, (size.turns + 1) // 2),
        "talking_per_core": lambda: talking.run(
            size.core, seconds + 1.0, (size.turns + 3) // 4, rounds + 1
        ),
        "sessions_memory": lambda: growth.run(size.session_turns, size.sessions),
        "soak": lambda: soak.run(size.few, size.soak),
    }


def more_files() -> None:
    """Raise the limit of open files as far as possible without privileges."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def carry_out(chosen: dict[str, Bench]) -> Iterator[Result | Broken]:
    """Run benchmarks one after the other; continue after one that cannot run."""
    for name, bench in chosen.items():
        try:
            yield from bench()
        except Broken as broken:
            yield Broken(f"{name}: {broken}")


def main() -> int:
    """Run the command. :return: 0, or 1 if a benchmark could not run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    known = benches(WHOLE)
    parser.set_defaults(size=WHOLE)
    for option, size, text in (
        ("--quick", QUICK, "about a minute, less exact"),
        ("--tiny", TINY, "a handful of devices, to check that everything runs"),
    ):
        parser.add_argument(option, dest="size", action="store_const", const=size, help=text)
    parser.add_argument(
        "--soak",
        type=float,
        metavar="SECONDS",
        help=f"of the soak; default: {WHOLE.soak:g}",
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help=", ".join(known))
    options = parser.parse_args()
    for name in options.names:
        if name not in known:
            parser.error(f"no benchmark {name!r}; there are: {', '.join(known)}")
    more_files()
    began = time.monotonic()
    results: list[Result] = []
    broken, stolen = 0, Stolen()
    size = options.size if options.soak is None else replace(options.size, soak=options.soak)
    every = benches(size)
    if options.size is QUICK and not options.names:
        del every["pacing"]  # frame_cpu_down reports the pace, too
    for one in carry_out({name: every[name] for name in options.names or every}):
        if isinstance(one, Broken):
            print(one, file=sys.stderr)
            broken += 1
        else:
            seen = replace(one, more={**one.more, "stolen": stolen.lately()})
            print(seen.line(), flush=True)
            results.append(seen)
    print("", *table(results), f"{time.monotonic() - began:.0f} s", sep="\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
