"""Live providers of the process: shared by agents, reference-counted, closed when unused.

An instance is identified by its kind, its reference and a digest of its settings. Two references
are two instances even with equal settings: each label has a circuit breaker and metrics of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from xiaozhi.base.values import ProviderStatus
from xiaozhi.interfaces import (
    ILanguageModel,
    IPreparable,
    IRecognizer,
    ISynthesizer,
    IVisionModel,
    IVoiceActivityDetector,
    ProviderRuntime,
)
from xiaozhi.metrics.instruments import Tally
from xiaozhi.providers.kit.bysentence import as_synthesizer
from xiaozhi.providers.kit.catalogue import Entry, ProviderCatalogue
from xiaozhi.providers.kit.failover.asr import FailoverRecognizer
from xiaozhi.providers.kit.failover.candidate import Candidate
from xiaozhi.providers.kit.failover.group import FailoverGroup, close_all
from xiaozhi.providers.kit.failover.kinds import (
    Failover,
    FailoverModel,
    FailoverSynthesizer,
    FailoverVision,
)
from xiaozhi.providers.kit.failover.settings import FailoverSettings
from xiaozhi.providers.kit.states import combined, health_of, trouble_of

_FAILOVER: dict[str, type[Failover]] = {
    "asr": FailoverRecognizer,
    "llm": FailoverModel,
    "tts": FailoverSynthesizer,
    "vlllm": FailoverVision,
}


class _Instance:
    """A live provider and the number of its leases."""

    def __init__(self, entry: Entry, candidate: Candidate) -> None:
        self.entry = entry
        self.candidate = candidate
        self.leases = 0
        self.closing: IDelayedCall | None = None


class Lease:
    """The use of a shared provider until :meth:`release`."""

    def __init__(self, instance: _Instance, released: Callable[[_Instance], None]) -> None:
        self._instance = instance
        self._released: Callable[[_Instance], None] | None = released

    @property
    def candidate(self) -> Candidate:
        """The provider behind its circuit breaker."""
        return self._instance.candidate

    def release(self) -> None:
        """End the use. Idempotent."""
        released, self._released = self._released, None
        if released is not None:
            released(self._instance)


@dataclass(frozen=True, slots=True)
class ProviderSet:
    """The providers of one agent: failover groups over leased providers.

    :ivar groups: the failover groups behind ``asr``, ``llm``, ``tts`` and ``vlllm``.
    :ivar voice: identifies the preferred synthesiser with its settings, for kept phrases.
    :ivar speaker: the preferred synthesiser's reference.
    :ivar leases: released with the set.
    """

    asr: IRecognizer
    llm: ILanguageModel
    tts: ISynthesizer
    vlllm: IVisionModel
    vad: IVoiceActivityDetector
    groups: tuple[FailoverGroup, ...] = ()
    voice: str = ""
    speaker: str = ""
    leases: tuple[Lease, ...] = field(default=(), repr=False)

    @property
    def before(self) -> dict[str, float]:
        """Seconds by kind that may pass until the last provider of a list is tried."""
        return {group.kind: group.before for group in self.groups}

    def release(self) -> None:
        """End the use of all providers. Idempotent."""
        for group in self.groups:
            group.dissolve()
        for lease in self.leases:
            lease.release()


class ProviderRegistry:
    """Leases providers.

    Bound: one instance for each distinct provider that the agents in use name. A provider
    without a lease is closed after ``failover.unused`` seconds, or when its last call ends,
    whichever is later.
    """

    _log = Logger()

    def __init__(
        self,
        catalogue: ProviderCatalogue,
        runtime: ProviderRuntime,
        failover: FailoverSettings | None = None,
    ) -> None:
        self.catalogue = catalogue
        self._runtime = runtime
        self._clock = runtime.reactor
        self._failover = failover or FailoverSettings()
        self._live: dict[tuple[str, str, str], _Instance] = {}
        # Failures of instances that have been closed; metrics never count backwards.
        self._past = Tally()
        self._prepared = False
        self._closed = False

    # --- leasing

    def adopt(self, catalogue: ProviderCatalogue) -> ProviderCatalogue:
        """Use another catalogue from the next lease on; existing leases stay.

        :return: the previous catalogue.
        """
        former, self.catalogue = self.catalogue, catalogue
        return former

    def lease(self, entry: Entry) -> Lease:
        """Lease the provider of an entry; it is made unless it is leased or still open.

        :raises ConfigError: it cannot be made; the message names its key.
        """
        if self._closed:
            raise RuntimeError("the registry is closed")
        instance = self._live.get(entry.identity)
        if instance is None:
            instance = self._live[entry.identity] = self._made(entry)
        instance.leases += 1
        closing, instance.closing = instance.closing, None
        if closing is not None and closing.active():
            closing.cancel()
        return Lease(instance, self._released)

    def select(self, entries: Mapping[str, tuple[Entry, ...]]) -> ProviderSet:
        """Lease all providers of an agent.

        :param entries: by kind, from :meth:`ProviderCatalogue.entries`.
        :raises ConfigError: one cannot be made; those made for this set are closed.
        """
        before = set(self._live)
        leases: dict[str, list[Lease]] = {kind: [] for kind in entries}
        try:
            for kind, several in entries.items():
                for entry in several:
                    leases[kind].append(self.lease(entry))
        except BaseException:
            for lease in _all(leases):
                lease.release()
            made = [self._live[each] for each in self._live.keys() - before]
            close_all([self._removed(each) for each in made])
            raise
        groups = {
            kind: FailoverGroup(
                kind, [each.candidate for each in leases[kind]], self._failover, self._clock
            )
            for kind in _FAILOVER
        }
        speaker = entries["tts"][0]
        return ProviderSet(
            voice=f"{speaker.reference} {speaker.section}",
            speaker=speaker.reference,
            vad=leases["vad"][0].candidate.provider,
            groups=tuple(groups.values()),
            leases=tuple(_all(leases)),
            **{kind: cast(Any, _FAILOVER[kind](group)) for kind, group in groups.items()},
        )

    def _made(self, entry: Entry) -> _Instance:
        provider = as_synthesizer(entry.make(self._runtime))
        candidate = Candidate(
            entry.kind, entry.reference, provider, self._failover, self._clock, entry.capabilities
        )
        if self._prepared:
            self._prepare(candidate)
        return _Instance(entry, candidate)

    # --- closing

    def _released(self, instance: _Instance) -> None:
        instance.leases -= 1
        if not instance.leases and self._live.get(instance.entry.identity) is instance:
            self._close_later(instance)

    def _close_later(self, instance: _Instance) -> None:
        instance.closing = self._clock.callLater(self._failover.unused, self._unused, instance)

    def _unused(self, instance: _Instance) -> None:
        if instance.candidate.running:
            self._close_later(instance)
            return
        self._log.info(
            "{kind} {name} closed: no agent has used it for {seconds:g} s",
            kind=instance.entry.kind,
            name=str(instance.candidate),
            seconds=self._failover.unused,
        )
        close_all([self._removed(instance)])

    def _removed(self, instance: _Instance) -> Any:
        """Forget an instance, but not its failures. :return: the provider, to be closed."""
        del self._live[instance.entry.identity]
        if instance.closing is not None and instance.closing.active():
            instance.closing.cancel()
        for (code,), count in instance.candidate.failures:
            self._past.add(instance.entry.kind, instance.candidate.name, code, count=count)
        return instance.candidate.provider

    def prepare(self) -> None:
        """Prepare live providers, and later ones as they are made; see
        :class:`IPreparable`."""
        self._prepared = True
        for each in self._live.values():
            self._prepare(each.candidate)

    def _prepare(self, candidate: Candidate) -> None:
        if IPreparable.providedBy(candidate.provider):
            try:
                candidate.provider.prepare()
            except Exception:
                # It may still work: its first call does what is missing.
                self._log.failure(
                    "{kind} {name}: preparing failed, its first call will be slow",
                    kind=candidate.kind,
                    name=candidate.name,
                )

    def close(self) -> Deferred[None]:
        """Close every provider, leased or not; errors are logged. Idempotent."""
        if self._closed:
            return succeed(None)
        self._closed = True
        return close_all([self._removed(each) for each in [*self._live.values()]])

    # --- state

    def status(self) -> list[ProviderStatus]:
        """Return the state of all live providers, one for each kind and reference.

        Bound: 100 references; the rest counts as ``other``.
        """
        past = dict(self._past)
        return combined((each.candidate.status() for each in self._listed()), past)

    def health(self) -> dict[str, list[dict[str, Any]]]:
        """Return the same by kind, for people."""
        return health_of(self.status())

    def trouble(self) -> str:
        """Name the providers whose circuit is open; empty: none."""
        return trouble_of(self.status())

    def _listed(self) -> Iterator[_Instance]:
        return (each for each in self._live.values() if each.entry.kind in _FAILOVER)


def _all(leases: Mapping[str, list[Lease]]) -> Iterator[Lease]:
    return (lease for several in leases.values() for lease in several)
