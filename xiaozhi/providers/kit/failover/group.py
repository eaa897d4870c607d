"""The next provider when one fails: providers of one kind in the order of preference.

A call goes to the first one whose breaker is closed. If that fails, or has not begun to
answer within its time, the next one is asked; once something of an answer has come, there
is no way back. Each but the last has a limit of its own, so that there is time left
for another within the limit of the turn's stage, which is so much longer for a list; the
last one has what is left of that.

If all are open, they are asked in spite of it, first the one that is due soonest: the
person waits anyway, what remains otherwise is an apology, and one that works again is
found by the first who asks. The stage's limit holds.
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
from xiaozhi.interfaces import IAdaptive, IOfModel, IPreparable
from xiaozhi.metrics.instruments import Tally
from xiaozhi.providers.kit.failover.breaker import Attempt, Breaker, BreakerState
from xiaozhi.providers.kit.failover.settings import FailoverSettings

T = TypeVar("T")
_END: Any = object()

# What is wrong with the question, or with nobody; all else speaks against the provider.
_INNOCENT = frozenset(("bad_request", "refused", "too_long", "closed"))


class Candidate:
    """One provider of a list.

    :ivar name: as ``selected`` has it.
    :ivar trouble: what it failed with last; empty since it works.
    """

    def __init__(self, name: str, provider: Any, breaker: Breaker) -> None:
        self.name = name
        self.provider = provider
        self.model: str = provider.model if IOfModel.providedBy(provider) else ""
        self.breaker = breaker
        self.trouble = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.model})" if self.model else self.name


class FailoverGroup:
    """The providers of one kind.

    :ivar failures: of attempts, by name and code, also where another one then answered.
    """

    _log = Logger()

    def __init__(
        self,
        kind: str,
        providers: Sequence[tuple[str, Any]],
        settings: FailoverSettings,
        clock: IReactorTime,
    ) -> None:
        """:param providers: with their names, the preferred one first."""
        self.kind = kind
        self.settings = settings
        self.failures = Tally()
        self._limit: float = getattr(settings, kind)
        self._clock = clock
        self.candidates = [self._candidate(name, provider) for name, provider in providers]

    def _candidate(self, name: str, provider: Any) -> Candidate:
        settings = self.settings
        breaker = Breaker(
            self._clock,
            settings.failures,
            settings.cooldown,
            settings.cooldown_max,
            lambda is_open: self._turned(candidate, is_open),
        )
        candidate = Candidate(name, provider, breaker)
        return candidate

    @property
    def before(self) -> float:
        """Seconds that may pass until the last of them is asked."""
        return self._limit * (len(self.candidates) - 1)

    def order(self) -> list[tuple[Candidate, float | None]]:
        """Whom to ask, and for how long each may let us wait; None: as long as others
        allow."""
        chosen = [each for each in self.candidates if each.breaker.admits]
        if not chosen:
            chosen = sorted(self.candidates, key=lambda each: each.breaker.wait)
        return [*((each, self._limit) for each in chosen[:-1]), (chosen[-1], None)]

    async def answered(self, call: Callable[[Candidate], Awaitable[T]]) -> T:
        """The answer of the first who gives one.

        :raises ProviderError: of the last one.
        """
        for candidate, limit in self.order():
            trial = _Trial(self, candidate, final=limit is None)
            with trial:
                answer = await self._within(limit, candidate, call(candidate))
                trial.answers()
                return answer
        raise AssertionError("the last one's error was swallowed")

    async def streamed(
        self, call: Callable[[Candidate], AsyncGenerator[T, None]]
    ) -> AsyncGenerator[tuple[Candidate, T], None]:
        """The stream of the first who begins one, with whose it is.

        :raises ProviderError: of the last one; or it broke off.
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
        """An attempt failed."""
        code = "internal_error"
        if isinstance(error, ProviderError):
            code = error.code
            message = str(error)
        else:
            message = f"{type(error).__name__} [{code}]"
            self._log.failure("{kind} {name} broke", kind=self.kind, name=candidate.name)
        self.failures.add(candidate.name, code)
        if code in _INNOCENT:
            attempt.abandoned()
            return
        candidate.trouble = message
        attempt.failed()

    def slow(self, candidate: Candidate, seconds: float, attempt: Attempt) -> None:
        """Others have given up waiting for it, after too long a time."""
        if seconds < self._limit:
            attempt.abandoned()
            return
        self.failures.add(candidate.name, "timeout")
        candidate.trouble = f"no answer within {seconds:.1f} s [timeout]"
        attempt.failed()

    def seconds(self) -> float:
        return self._clock.seconds()

    def _turned(self, candidate: Candidate, is_open: bool) -> None:
        where = {"kind": self.kind, "name": str(candidate)}
        if not is_open:
            candidate.trouble = ""
            self._log.info("{kind} {name} works again and is asked as before", **where)
            return
        others = [each.name for each in self.candidates if each is not candidate]
        self._log.warn(
            "{kind} {name} failed {failures} times in a row and is left alone for {seconds:g} s;"
            " the last time: {trouble}. {instead}",
            failures=candidate.breaker.failures,
            seconds=candidate.breaker.cooldown,
            trouble=candidate.trouble,
            instead=f"Instead: {', '.join(others)}."
            if others
            else f"There is no other: name a second one in selected.{self.kind}.",
            **where,
        )

    def status(self) -> Iterator[ProviderStatus]:
        """How each one is."""
        for each in self.candidates:
            yield ProviderStatus(
                self.kind,
                each.name,
                each.model,
                each.breaker.state.value,
                each.breaker.failures,
                each.breaker.wait,
                each.trouble,
                {codes[1]: n for codes, n in self.failures if codes[0] == each.name},
                tuple(each.provider.refused) if IAdaptive.providedBy(each.provider) else (),
            )

    @property
    def well(self) -> bool:
        """Whether one of them at least is not known to fail."""
        return any(each.breaker.state is BreakerState.CLOSED for each in self.candidates)

    def prepare(self) -> None:
        """See :class:`IPreparable`."""
        for each in self.candidates:
            if IPreparable.providedBy(each.provider):
                each.provider.prepare()

    def close(self) -> Deferred[None]:
        """Close all of them, whatever one of them says to it."""
        return close_all([each.provider for each in self.candidates])


class _Trial:
    """One attempt: a ``with`` around it swallows the error after which the next one is
    to be asked.

    :param final: there is no other to ask.
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
        """The first of its answer is there; from now on its errors are the turn's."""
        self._begun = True
        self._attempt.answers()

    def waits(self) -> None:
        """We wait for more."""
        self._since = self._group.seconds()

    def __enter__(self) -> _Trial:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        group, candidate, attempt = self._group, self._candidate, self._attempt
        if error is None or (isinstance(error, GeneratorExit) and self._begun):
            # Interrupted while it spoke is well enough.
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
    """Close providers; what goes wrong is logged."""

    def failed(failure: Failure) -> None:
        FailoverGroup._log.failure("closing a provider failed", failure)

    closing = [maybeDeferred(provider.close).addErrback(failed) for provider in providers]
    return DeferredList(closing).addCallback(lambda _: None)
