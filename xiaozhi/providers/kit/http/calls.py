"""Waiting for a vendor: limits, cancellation, and conversion of errors."""

from __future__ import annotations

from enum import Enum
from typing import Any, TypeVar

from twisted.internet import defer, error
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from xiaozhi.base.errors import ProviderError
from xiaozhi.providers.kit.errors import RETRYABLE, error_text, fault_in, meaning_of_refusal
from xiaozhi.providers.kit.redaction import Redaction

T = TypeVar("T")


class _Stopped(Enum):
    """Marks a wait that was cancelled."""

    NO = 0
    BY_CALLER = 1
    BY_TIME = 2

    def __bool__(self) -> bool:
        return self is not _Stopped.NO


class VendorCalls:
    """Running calls of one vendor. Every failure becomes a :class:`ProviderError`.

    :ivar place: the vendor's name in logs.
    :ivar over: the provider is closed.
    """

    def __init__(self, place: str, clock: Any, redaction: Redaction) -> None:
        self.place = place
        self.clock = clock
        self.over = False
        self.shorten = redaction.shorten
        # Bound: the calls of the sessions that use this provider.
        self._waiting: set[Deferred[Any]] = set()

    async def within(self, waiting: Deferred[T], seconds: float) -> T:
        """Wait with a limit, and convert every failure to a :class:`ProviderError`.

        Cancelling the wait cancels the call.
        """
        stopped = _Stopped.NO

        def stop(_: Deferred[T]) -> None:
            nonlocal stopped
            stopped = stopped or _Stopped.BY_CALLER
            waiting.cancel()

        def give_up() -> None:
            nonlocal stopped
            stopped = _Stopped.BY_TIME
            shield.cancel()

        # Twisted's HTTP client reports a cancellation with errors of its own.
        shield: Deferred[T] = Deferred(stop)
        waiting.addCallbacks(shield.callback, shield.errback)
        timer = self.clock.callLater(max(0.0, seconds), give_up)
        self._waiting.add(shield)
        try:
            return await shield
        except Exception as problem:
            if stopped is _Stopped.BY_CALLER and not self.over:
                raise defer.CancelledError() from None
            raise self._lost(problem, stopped is _Stopped.BY_TIME) from problem
        finally:
            self._waiting.discard(shield)
            if timer.active():
                timer.cancel()

    def refusal(self, status: int, body: bytes) -> ProviderError:
        """Make the error for an answer that is not 200."""
        text = self.shorten(error_text(body))
        code = meaning_of_refusal(status, body)
        message = f"{self.place} answered {status}" + (f": {text}" if text else "")
        return ProviderError(code, message, retryable=RETRYABLE[code])

    def reported(self, value: Any) -> ProviderError | None:
        """Make the error that decoded JSON of status 200 reports; None: there is no error."""
        if (fault := fault_in(value)) is None:
            return None
        text = f"{self.place} reports: {self.shorten(fault.words)}"
        return ProviderError(fault.code, text, retryable=fault.retryable)

    def close(self) -> None:
        """Fail running calls."""
        self.over = True
        for waiting in list(self._waiting):
            waiting.cancel()

    def closed_error(self) -> ProviderError:
        """Make the error of a provider that is closed."""
        return ProviderError("closed", "the provider has been closed", retryable=False)

    def _lost(self, problem: Exception, timed_out: bool) -> ProviderError:
        place = self.place
        if isinstance(problem, ProviderError):
            return problem
        if self.over:
            return self.closed_error()
        if timed_out:
            return ProviderError("timeout", f"no answer from {place} in time", retryable=True)
        if isinstance(problem, error.ConnectError | error.DNSLookupError | error.TimeoutError):
            return ProviderError(
                "unreachable",
                f"cannot reach {place}: {self.shorten(str(problem))}",
                retryable=True,
            )
        reasons = getattr(problem, "reasons", None) or [Failure(problem)]
        text = self.shorten(reasons[-1].getErrorMessage())
        return ProviderError(
            "connection_lost", f"the connection to {place} was lost: {text}", retryable=True
        )
