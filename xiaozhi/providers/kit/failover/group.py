"""Failover over providers of one kind, in the order of preference.

A call goes to the first provider whose circuit is closed. If it fails, or has not begun to answer
within its limit, the next one is tried; after the first piece of an answer there is no switching.
Every provider except the last has a limit of its own, so that time remains for the others within
the limit of the turn's stage, which is extended for a list by as much; the last one gets the rest.

If every circuit is open, the providers are tried anyway, first the one that is due next: the person
waits in any case, the alternative is an apology, and the first call detects a provider that works
again. The stage's limit holds.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from xiaozhi.base import usage
from xiaozhi.base.errors import ProviderError
from xiaozhi.base.values import ProviderStatus
from xiaozhi.interfaces import IPreparable
from xiaozhi.providers.kit.failover.breaker import Attempt, BreakerState
from xiaozhi.providers.kit.failover.candidate import Candidate
from xiaozhi.providers.kit.failover.settings import FailoverSettings

T = TypeVar("T")
_END: Any = object()

# Errors that are not the provider's fault; all others count as its failures.
_INNOCENT = frozenset(("bad_request", "refused", "too_long", "closed"))


class FailoverGroup:
    """Providers of one kind, in the order of preference."""

    _log = Logger()

    def __init__(
        self,
        kind: str,
        candidates: Sequence[Candidate],
        settings: FailoverSettings,
        clock: IReactorTime,
    ) -> None:
        """:param candidates: the preferred one first; other groups may contain them too."""
        self.kind = kind
        self.settings = settings
        self._limit: float = getattr(settings, kind)
        self._clock = clock
        self.candidates = list(candidates)
        for each in self.candidates:
            each.joins(self)

    @classmethod
    def of(
        cls,
        kind: str,
        providers: Sequence[tuple[str, Any]],
        settings: FailoverSettings,
        clock: IReactorTime,
    ) -> FailoverGroup:
        """Make a group over providers of its own.

        :param providers: with their names, the preferred one first.
        """
        candidates = [
            Candidate(kind, name, provider, settings, clock) for name, provider in providers
        ]
        return cls(kind, candidates, settings, clock)

    def dissolve(self) -> None:
        """Leave the candidates, which other groups may still use."""
        for each in self.candidates:
            each.leaves(self)

    def others(self, candidate: Candidate) -> list[str]:
        """See :class:`~xiaozhi.providers.kit.failover.candidate.ContainingGroup`."""
        return [each.name for each in self.candidates if each is not candidate]

    @property
    def before(self) -> float:
        """Seconds that may pass until the last provider is tried."""
        return self._limit * (len(self.candidates) - 1)

    def order(self) -> list[tuple[Candidate, float | None]]:
        """Return the providers in the order to try, each with its limit in seconds; the last one
        has no limit here.
        """
        chosen = [each for each in self.candidates if each.breaker.admits]
        if not chosen:
            chosen = sorted(self.candidates, key=lambda each: each.breaker.wait)
        return [*((each, self._limit) for each in chosen[:-1]), (chosen[-1], None)]

    async def answered(self, call: Callable[[Candidate], Awaitable[T]]) -> T:
        """Return the answer of the first provider that succeeds.

        :raises ProviderError: that of the last provider.
        """
        for candidate, limit in self.order():
            trial = _Trial(self, candidate, final=limit is None)
            with trial:
                answer = await self._within(limit, candidate, call(candidate))
                trial.answers()
                return answer
        raise AssertionError("the last provider's error was lost")

    async def streamed(
        self, call: Callable[[Candidate], AsyncGenerator[T, None]]
    ) -> AsyncGenerator[tuple[Candidate, T], None]:
        """Yield the stream of the first provider that begins one, each item with its provider.

        :raises ProviderError: that of the last provider, or of a stream that broke off.
        """
        for candidate, limit in self.order():
            trial = _Trial(self, candidate, final=limit is None)
            with trial:
                async with aclosing(call(candidate)) as stream:
                    item = await self._within(limit, candidate, anext(stream, _END))
                    trial.answers()
                    while item is not _END:
                        yield candidate, item
                        trial.waits()
                        item = await anext(stream, _END)
                return

    async def _within(self, limit: float | None, candidate: Candidate, call: Awaitable[T]) -> T:
        if limit is None:
            return await call

        async def wait() -> T:
            return await call

        def late(value: Any, seconds: float) -> Any:
            if isinstance(value, Failure):
                value.trap(CancelledError)
                raise ProviderError(
                    "timeout", f"{candidate}: no answer within {seconds:g} s", retryable=True
                )
            return value

        waiting = Deferred.fromCoroutine(wait())
        return await waiting.addTimeout(limit, self._clock, late)

    def failed(self, candidate: Candidate, error: Exception, attempt: Attempt) -> None:
        """Count an attempt that failed."""
        code = "internal_error"
        if isinstance(error, ProviderError):
            code = error.code
            message = str(error)
        else:
            message = f"{type(error).__name__} [{code}]"
            self._log.failure(
                "{kind} {name} failed with an unexpected error", kind=self.kind, name=candidate.name
            )
        candidate.failures.add(code)
        if code in _INNOCENT:
            attempt.abandoned()
            return
        candidate.trouble = message
        attempt.failed()

    def slow(self, candidate: Candidate, seconds: float, attempt: Attempt) -> None:
        """Process an attempt that its caller cancelled: a failure after the limit, otherwise
        ignored.
        """
        if seconds < self._limit:
            attempt.abandoned()
            return
        candidate.failures.add("timeout")
        candidate.trouble = f"no answer within {seconds:.1f} s [timeout]"
        attempt.failed()

    def seconds(self) -> float:
        return self._clock.seconds()

    def status(self) -> Iterator[ProviderStatus]:
        """Report the state of each provider."""
        return (each.status() for each in self.candidates)

    @property
    def well(self) -> bool:
        """Whether at least one circuit is closed."""
        return any(each.breaker.state is BreakerState.CLOSED for each in self.candidates)

    def prepare(self) -> None:
        """See :class:`IPreparable`."""
        for each in self.candidates:
            if IPreparable.providedBy(each.provider):
                each.provider.prepare()

    def close(self) -> Deferred[None]:
        """Close all providers; errors are logged."""
        return close_all([each.provider for each in self.candidates])


class _Trial:
    """One attempt, as a ``with`` block that suppresses an error after which the next provider is
    tried.

    :param final: there is no other provider.
    """

    def __init__(self, group: FailoverGroup, candidate: Candidate, *, final: bool) -> None:
        self._group = group
        self._candidate = candidate
        self._final = final
        self._attempt = candidate.breaker.attempt()
        self._begun = False
        self._since = group.seconds()
        usage.by(group.kind, candidate.name, candidate.model)

    def answers(self) -> None:
        """Note the first piece of the answer; later errors end the call."""
        self._begun = True
        self._attempt.answers()

    def waits(self) -> None:
        """Note that the caller waits for the next piece."""
        self._since = self._group.seconds()

    def __enter__(self) -> _Trial:
        self._candidate.running += 1
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        group, candidate, attempt = self._group, self._candidate, self._attempt
        candidate.running -= 1
        if error is None or (isinstance(error, GeneratorExit) and self._begun):
            # An interrupted answer counts as a success.
            attempt.succeeded()
        elif isinstance(error, CancelledError):
            group.slow(candidate, group.seconds() - self._since, attempt)
        elif not isinstance(error, Exception):
            attempt.abandoned()
        else:
            group.failed(candidate, error, attempt)
            closed = isinstance(error, ProviderError) and error.code == "closed"
            return not (self._begun or self._final or closed)
        return False


def close_all(providers: Sequence[Any]) -> Deferred[None]:
    """Close providers; errors are logged."""

    def failed(failure: Failure) -> None:
        FailoverGroup._log.failure("closing a provider failed", failure)

    closing = [maybeDeferred(provider.close).addErrback(failed) for provider in providers]
    return DeferredList(closing).addCallback(lambda _: None)
