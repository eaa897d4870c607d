"""Profile of a service: ``python -m benchmarks.profile im|ai``, ``make profile``.

py-spy samples the process from outside while devices send a packet every 60 ms that is
echoed (``im``), or talk by button (``ai``). It writes a file for https://speedscope.app
and prints the functions with the most samples by thread: their own time, and including
their callees.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.pair import pair
from benchmarks.process import Broken, Helper, Process
from benchmarks.soak import talkative
from benchmarks.stage import Stage

_RATE = 250
_SHOWN = 20
# Threads with a smaller part of the busiest one's samples are left out.
_IDLE = 0.05


def _record(process: Process, load: Helper, seconds: float, do: str, **arguments: Any) -> str:
    """Sample a process. :return: stacks and counts, as ``py-spy --format raw`` writes them."""
    spy = Path(sys.executable).parent / "py-spy"
    tool = str(spy) if spy.exists() else shutil.which("py-spy")
    if tool is None:
        raise Broken("py-spy is not installed: pip install py-spy")
    load.begin(do, seconds=seconds + 1.0, **arguments)
    command = [tool, "record", "--pid", str(process.pid), "--threads", "--nonblocking"]
    command += ["--duration", str(round(seconds)), "--rate", str(_RATE)]
    command += ["--format", "raw", "--output", "/dev/stdout"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Broken(f"py-spy: {done.stderr.strip()[-500:]}")
    load.answer(seconds + 60.0)
    return done.stdout


def table(stacks: str) -> Iterator[str]:
    """Return the functions with the most samples, by thread."""
    own: defaultdict[str, Counter[str]] = defaultdict(Counter)
    whole: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for line in stacks.splitlines():
        frames, _, count = line.rpartition(" ")
        if not count.isdigit():
            continue
        thread, *calls = frames.split(";")
        calls = [_short(call) for call in calls]
        if calls:
            own[thread][calls[-1]] += int(count)
        for call in set(calls):
            whole[thread][call] += int(count)
    most = max((sum(functions.values()) for functions in own.values()), default=0)
    for thread, functions in own.items():
        total = sum(functions.values())
        if total < most * _IDLE:
            continue
        yield f"{thread}: {total} samples"
        yield f"{'own':>7}{'with':>8}"
        for name, times in functions.most_common(_SHOWN):
            yield f"{times / total:>7.1%}{whole[thread][name] / total:>8.1%}  {name}"
        yield ""


def _short(call: str) -> str:
    """Remove the line number: ``send (twisted/internet/tcp.py)``."""
    name, _, place = call.partition(" (")
    return f"{name} ({place.rpartition(':')[0] or place.rstrip(')')})" if place else name


def _edge(devices: int, seconds: float) -> str:
    with Stage() as stage:
        both = pair(stage)
        both.edge.peer.ask("echo", on=True)
        both.edge.connect(devices)
        both.edge.load.ask("listen")
        return _record(both.edge.server, both.edge.load, seconds, "stream")


def _brain(devices: int, seconds: float) -> str:
    with Stage() as stage:
        load = stage.load()
        brain, grpc = stage.brain(talkative())
        _, port = stage.edge(grpc)
        load.ask("connect", port=port, count=devices)
        return _record(brain, load, seconds, "chat", speak=0.3)


def main() -> int:
    """Run the command. :return: 0, or 1 on failure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile")
    parser.add_argument("service", choices=("im", "ai"))
    parser.add_argument("--devices", type=int, default=0, help="300 for im, 50 for ai")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--output", type=Path, help="default: profile-SERVICE.folded")
    options = parser.parse_args()
    try:
        if options.service == "im":
            stacks = _edge(options.devices or 300, options.seconds)
        else:
            stacks = _brain(options.devices or 50, options.seconds)
    except Broken as broken:
        print(broken, file=sys.stderr)
        return 1
    output = options.output or Path(f"profile-{options.service}.folded")
    output.write_text(stacks)
    print(*table(stacks), f"all of it: {output}", sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
