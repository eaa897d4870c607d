"""Runs the unit tests and those with real servers as one suite, under coverage.

``python tests/run.py xiaozhi tests``: each argument is a package, a file, or the
directory of this file. Ends with trial's summary and a line ``N passed, N failed``;
the exit status is 0 if nothing failed and coverage reached the floor in setup.cfg.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import coverage
from twisted.trial.reporter import TreeReporter
from twisted.trial.runner import TestLoader, TrialRunner

ROOT = Path(__file__).resolve().parent.parent


class Reporter(TreeReporter):
    """Trial's default reporter; the coverage report precedes the summary."""

    measuring: coverage.Coverage
    covered = 0.0

    def done(self) -> None:
        self.measuring.stop()
        self.measuring.save()
        with suppress(coverage.exceptions.NoDataError):
            type(self).covered = self.measuring.report(file=sys.stdout, skip_covered=True)
        super().done()


def names(arguments: list[str]) -> list[str]:
    """Return the names for trial to load."""
    found = []
    for argument in arguments:
        directory = ROOT / argument
        if argument == "tests":
            found += [str(path) for path in sorted(directory.rglob("test_*.py"))]
        else:
            found.append(argument)
    return found


def main(arguments: list[str]) -> int:
    """Run the suite. :return: the exit status."""
    sys.path[0] = str(ROOT)
    measuring = coverage.Coverage(config_file=str(ROOT / "setup.cfg"))
    floor = float(measuring.get_option("report:fail_under") or 0)  # type: ignore[arg-type]
    Reporter.measuring = measuring
    measuring.start()
    suite = TestLoader().loadByNames(names(arguments or ["xiaozhi", "tests"]), recurse=True)
    result: Any = TrialRunner(Reporter, tracebackFormat="default").run(suite)
    passed = result.successes + len(result.expectedFailures)
    failed = len(result.errors) + len(result.failures) + len(result.unexpectedSuccesses)
    enough = Reporter.covered >= floor
    told = "covered" if enough else "covered, which is below"
    print(f"{Reporter.covered:.1f} % {told} (floor {floor:g} %)")
    skipped = f", {len(result.skips)} skipped" if result.skips else ""
    print(f"{passed} passed, {failed} failed{skipped}", flush=True)
    return 0 if passed and not failed and enough else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
