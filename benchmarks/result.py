"""Results of benchmarks, their aims, and their output."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Aim:
    """An upper limit of a result.

    :ivar of: ``figure`` or ``ratio``, the value that must not exceed ``most``.
    """

    of: str
    most: float

    def __str__(self) -> str:
        return f"{self.of} <= {self.most:g}"


@dataclass(frozen=True, slots=True)
class Result:
    """A measured value, its floor from the same run, and the aim.

    :ivar more: further measurements.
    """

    bench: str
    figure: float
    unit: str
    floor: float | None = None
    aim: Aim | None = None
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """Return the figure divided by the floor."""
        return round(self.figure / self.floor, 2) if self.floor else None

    @property
    def met(self) -> bool | None:
        """Whether the aim is met; None without an aim."""
        if self.aim is None:
            return None
        value = self.figure if self.aim.of == "figure" else self.ratio
        return value is not None and value <= self.aim.most

    def line(self) -> str:
        """Return the result as a JSON object."""
        whole = {
            "bench": self.bench,
            "figure": self.figure,
            "unit": self.unit,
            "floor": self.floor,
            "ratio": self.ratio,
            "aim": str(self.aim) if self.aim else None,
            "met": self.met,
            **self.more,
        }
        return json.dumps(whole)


def per_core(each: float) -> int | None:
    """Return packets per second on one core at ``each`` µs; None if too small to measure."""
    return round(1e6 / each) if each else None


def table(results: Iterable[Result]) -> Iterator[str]:
    """Yield the lines of a table for people."""
    yield f"{'':<24}{'figure':>9}  {'unit':<14}{'floor':>9}{'ratio':>8}  aim"
    for one in results:
        floor = "" if one.floor is None else f"{one.floor:g}"
        ratio = "" if one.ratio is None else f"{one.ratio:.2f}"
        aim = "" if one.aim is None else f"{one.aim}: {'met' if one.met else 'MISSED'}"
        yield f"{one.bench:<24}{one.figure:>9g}  {one.unit:<14}{floor:>9}{ratio:>8}  {aim}".rstrip()
