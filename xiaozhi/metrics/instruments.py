"""Instruments that count in plain numbers, cheap enough for the hot path."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

#: Bounds in seconds for lateness, which should be close to 0.
LATENESS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.06, 0.12, 0.25, 0.5, 1.0, 2.5)
#: Bounds in seconds for waits of a person.
WAITING = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0)
#: Bounds in seconds for whole turns.
LASTING = (0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 300.0)

OTHER = "other"


class Histogram:
    """Counts values by a few upper bounds.

    ``observe`` costs a search in a short tuple and two additions.

    :ivar sum: sum of all values.
    """

    __slots__ = ("_bounds", "_counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        """:param bounds: upper bounds, increasing; larger values count as infinite."""
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value; a bound includes the values equal to it."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        """The number of values."""
        return sum(self._counts)

    def buckets(self) -> list[tuple[str, float]]:
        """Return the bounds in Prometheus' notation with the number of values up to each."""
        names = [*map(str, self._bounds), "+Inf"]
        return list(zip(names, accumulate(self._counts), strict=True))


class Tally:
    """Counters by labels.

    The number of different labels is bounded; further ones count as ``other``, so that no peer
    can exhaust memory with names.
    """

    __slots__ = ("_counts", "_most")

    def __init__(self, most: int = 100) -> None:
        self._counts: dict[tuple[str, ...], int] = {}
        self._most = most

    def add(self, *labels: str, count: int = 1) -> None:
        """Add to a counter."""
        counts = self._counts
        if labels not in counts and len(counts) >= self._most:
            labels = (OTHER,) * len(labels)
        counts[labels] = counts.get(labels, 0) + count

    def __getitem__(self, labels: tuple[str, ...]) -> int:
        return self._counts.get(labels, 0)

    def __iter__(self) -> Iterator[tuple[tuple[str, ...], int]]:
        """Iterate over labels and their counts."""
        return iter(self._counts.items())


class Histograms:
    """Histograms by labels, bounded like :class:`Tally`."""

    __slots__ = ("_bounds", "_by_label", "_most")

    def __init__(self, bounds: tuple[float, ...], most: int = 50) -> None:
        self._bounds = bounds
        self._most = most
        self._by_label: dict[tuple[str, ...], Histogram] = {}

    def observe(self, value: float, *labels: str) -> None:
        """Count a value."""
        found = self._by_label.get(labels)
        if found is None:
            if len(self._by_label) >= self._most:
                labels = (OTHER,) * len(labels)
            found = self._by_label.setdefault(labels, Histogram(self._bounds))
        found.observe(value)

    def __iter__(self) -> Iterator[tuple[tuple[str, ...], Histogram]]:
        """Iterate over labels and their histograms."""
        return iter(self._by_label.items())
