"""One provider behind its circuit breaker, shared by all failover groups that contain it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from xiaozhi.base.capabilities import Capabilities
from xiaozhi.base.values import ProviderStatus
from xiaozhi.interfaces import IAdaptive, IOfModel
from xiaozhi.metrics.instruments import Tally
from xiaozhi.providers.kit.failover.breaker import Breaker
from xiaozhi.providers.kit.failover.settings import FailoverSettings


class ContainingGroup(Protocol):
    """A failover group, as its candidates see it."""

    def others(self, candidate: Candidate) -> Sequence[str]:
        """Return the names of this candidate's alternatives."""


class Candidate:
    """A provider, its circuit breaker and its failures.

    :ivar name: its reference in the configuration.
    :ivar model: the vendor's name for its model; empty: none.
    :ivar trouble: its last failure; empty while it works.
    :ivar failures: failed attempts by code, including those after which another provider answered.
    :ivar running: running calls.
    """

    _log = Logger()

    def __init__(
        self,
        kind: str,
        name: str,
        provider: Any,
        settings: FailoverSettings,
        clock: IReactorTime,
        capabilities: Capabilities | None = None,
    ) -> None:
        self.kind = kind
        self.name = name
        self.provider = provider
        self.model: str = provider.model if IOfModel.providedBy(provider) else ""
        self.capabilities = capabilities
        self.trouble = ""
        self.failures = Tally()
        self.running = 0
        self.breaker = Breaker(
            clock, settings.failures, settings.cooldown, settings.cooldown_max, self._turned
        )
        # Bound: one for each agent version in use.
        self._groups: list[ContainingGroup] = []

    def joins(self, group: ContainingGroup) -> None:
        """Add a failover group that contains this candidate."""
        self._groups.append(group)

    def leaves(self, group: ContainingGroup) -> None:
        """Remove a failover group."""
        if group in self._groups:
            self._groups.remove(group)

    def status(self) -> ProviderStatus:
        """Report its state."""
        declared = self.capabilities
        return ProviderStatus(
            self.kind,
            self.name,
            self.model,
            self.breaker.state.value,
            self.breaker.failures,
            self.breaker.wait,
            self.trouble,
            {code: count for (code,), count in self.failures},
            tuple(self.provider.refused) if IAdaptive.providedBy(self.provider) else (),
            {} if declared is None else declared.summary(self.kind),
        )

    def _turned(self, is_open: bool) -> None:
        where = {"kind": self.kind, "name": str(self)}
        if not is_open:
            self.trouble = ""
            self._log.info("{kind} {name} works again: circuit closed", **where)
            return
        self._log.warn(
            "{kind} {name} failed {failures} times in a row: circuit open for {seconds:g} s;"
            " last error: {trouble}. {instead}",
            failures=self.breaker.failures,
            seconds=self.breaker.cooldown,
            trouble=self.trouble,
            instead=self._instead(),
            **where,
        )

    def _instead(self) -> str:
        """Describe which providers answer meanwhile."""
        lists = [tuple(group.others(self)) for group in self._groups]
        named = list(dict.fromkeys(name for others in lists for name in others))
        alone = f"There is no other: name a second one in selected.{self.kind}."
        if not named:
            return alone
        instead = f"Instead: {', '.join(named)}."
        return instead if all(lists) else f"{instead} Some agents have no other."

    def __str__(self) -> str:
        return f"{self.name} ({self.model})" if self.model else self.name
