"""Seam of threads: work that would block the reactor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred

T = TypeVar("T")


class Offload(Protocol):
    """Runs a function that takes more than a millisecond in a thread.

    In production it is a thread pool; in tests, the calling thread.
    """

    def __call__(self, function: Callable[..., T], /, *args: Any) -> Deferred[T]: ...


class TimedOffload(Protocol):
    """An :class:`Offload` with a deadline: ``seconds`` until the result is needed. The
    earliest deadline runs first."""

    def __call__(
        self, seconds: float, function: Callable[..., T], /, *args: Any
    ) -> Deferred[T]: ...
