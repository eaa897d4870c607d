"""Rate limits by key."""

from __future__ import annotations


class Buckets:
    """A token bucket per key. A refused request is not charged.

    A bucket is stored as the time at which it will be full again, and only until then. Beyond
    ``most`` buckets, the least recently used one is dropped, which amounts to a full bucket.

    :param rate: tokens per second.
    :param burst: tokens in a full bucket.
    :param most: maximum number of stored buckets.
    """

    __slots__ = ("_depth", "_full_at", "_most", "_step")

    def __init__(self, rate: float, burst: int, most: int = 65_536) -> None:
        self._step = 1.0 / rate
        self._depth = burst / rate
        self._most = most
        self._full_at: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: str, now: float) -> bool:
        """Take a token; return False if the bucket is empty."""
        buckets = self._full_at
        before = buckets.pop(key, now)
        after = max(before, now) + self._step
        allowed = after - now <= self._depth + 1e-9
        buckets[key] = after if allowed else before
        self._forget(now)
        return allowed

    def wait(self, key: str, now: float) -> float:
        """Return the seconds until a token is available; 0: now."""
        before = self._full_at.get(key, now)
        return max(0.0, max(before, now) + self._step - now - self._depth)

    def _forget(self, now: float) -> None:
        """Drop full buckets, least recently used first. Each call adds at most one and may
        remove two, so they do not accumulate."""
        buckets = self._full_at
        for _ in range(2):
            oldest = next(iter(buckets))
            if buckets[oldest] > now and len(buckets) <= self._most:
                return
            del buckets[oldest]
            if not buckets:
                return
