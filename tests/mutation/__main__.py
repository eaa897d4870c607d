"""``python -m tests.mutation [NAME …]``: prints the score and every survivor.

Each NAME is a part of a module's name; without one the whole core is mutated. Exits
non-zero if the score is below the floor.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from tests.mutation.runner import Verdict, share
from tests.mutation.targets import TARGETS

# Of all mutants, in percent.
FLOOR = 85.0
_SURVIVORS = Path(__file__).resolve().parents[2] / "docs" / "testing.md"


def verdicts(modules: list[str]) -> Iterator[tuple[str, list[Verdict]]]:
    """Judge all mutants of some modules, one module at a time."""
    parts = os.cpu_count() or 1
    for module in modules:
        # A fresh process each: nothing is left of the last module's tests.
        with ProcessPoolExecutor(
            parts, mp_context=get_context("spawn"), max_tasks_per_child=1
        ) as pool:
            shares = [
                pool.submit(share, module, TARGETS[module], part, parts) for part in range(parts)
            ]
            found = [verdict for share in shares for verdict in share.result()]
        yield module, sorted(found, key=lambda verdict: verdict.line)


def main(names: list[str]) -> int:
    """:return: the exit status."""
    modules = [m for m in TARGETS if not names or any(name in m for name in names)]
    if not modules:
        print(f"no module of the core has a name with {' or '.join(names)}", file=sys.stderr)
        return 2
    explained = _SURVIVORS.read_text() if _SURVIVORS.exists() else ""
    total = noticed = unexplained = 0
    for module, found in verdicts(modules):
        score = sum(verdict.noticed for verdict in found)
        print(f"{module}: {score} of {len(found)} noticed", flush=True)
        for verdict in found:
            if not verdict.noticed:
                named = verdict.label in explained
                unexplained += not named
                print(f"  {verdict}{'' if named else '  (no reason in docs/testing.md)'}")
        total += len(found)
        noticed += score
    percent = 100 * noticed / total
    print(f"{noticed} of {total} mutants noticed: {percent:.1f} % (floor {FLOOR:g} %)")
    print(f"{unexplained} survivors without a reason")
    return 0 if percent >= FLOOR else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
