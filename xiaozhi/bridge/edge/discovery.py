"""Addresses of the AI service: fixed ones, and names that are resolved periodically."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHostResolution,
    IReactorPluggableNameResolver,
    IReactorTime,
    IResolutionReceiver,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

_DNS = "dns:"

# Names kept for removed addresses: until their sessions have moved, certificates are
# checked against these.
_KNOWN_NAMES = 4096

Resolve = Callable[[str], "Deferred[Sequence[str]]"]
"""Returns all addresses of a name, without a port; empty or failing: not found."""

Retarget = Callable[[Collection[str]], None]
"""Receives all addresses, ``host:port``, whenever they change."""


class Name:
    """A resolved name and its latest addresses.

    :param entry: ``host:port``.
    :param timeout: seconds after which a look-up counts as failed. The next one waits for
        its real end, since it may hold a thread.
    :param found: called after each successful look-up.
    :ivar addresses: ``host:port`` each. A failed look-up keeps them.
    """

    _log = Logger()

    def __init__(
        self,
        entry: str,
        resolve: Resolve,
        clock: IReactorTime,
        timeout: float,
        found: Callable[[], None],
    ) -> None:
        host, _, self._port = entry.rpartition(":")
        self.host = host.strip("[]")
        self.addresses: tuple[str, ...] = ()
        self._resolve = resolve
        self._clock = clock
        self._timeout = timeout
        self._on_found = found
        self._looking = False
        self._failing = False
        self._limit: IDelayedCall | None = None
        self._waiting = Deferred[None]()

    def look_up(self) -> Deferred[None]:
        """Resolve the name; fires at the end or the timeout, and never fails."""
        if self._looking:
            return succeed(None)
        self._looking = True
        waiting = self._waiting = Deferred[None]()
        self._limit = self._clock.callLater(self._timeout, self._late)
        self._resolve(self.host).addBoth(self._ended)
        return waiting

    def stop(self) -> None:
        """Stop waiting for a look-up. Idempotent."""
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def _ended(self, result: Sequence[str] | Failure) -> None:
        self._looking = False
        if isinstance(result, Failure):
            self._failed(result.getErrorMessage())
        elif not result:
            self._failed("it has no address")
        else:
            self._found(result)
        if self._limit is not None:
            self.stop()
            self._waiting.callback(None)

    def _late(self) -> None:
        self._limit = None
        self._failed(f"no answer within {self._timeout:g} s")
        self._waiting.callback(None)

    def _found(self, hosts: Sequence[str]) -> None:
        # Sorted: name servers rotate the order to spread load.
        self.addresses = tuple(sorted(f"{_literal(host)}:{self._port}" for host in set(hosts)))
        if self._failing:
            self._failing = False
            self._log.info("found {name} again: {addresses}", **self._told())
        self._on_found()

    def _failed(self, reason: str) -> None:
        if not self._failing:
            self._failing = True
            self._log.warn(
                "cannot find {name} of bridge.targets: {reason}; continuing with {addresses}",
                reason=reason,
                **self._told(),
            )

    def _told(self) -> dict[str, str]:
        return {"name": self.host, "addresses": ", ".join(self.addresses) or "no address"}


class Discovery:
    """Keeps the AI service's addresses up to date.

    A look-up follows ``interval`` seconds after the end of the one before.

    :param entries: ``host:port``, or ``dns:host:port`` for all addresses of a name.
    :param interval: seconds.
    :param timeout: seconds, see :class:`Name`.
    """

    _log = Logger()

    def __init__(
        self,
        entries: Collection[str],
        resolve: Resolve,
        clock: IReactorTime,
        interval: float,
        timeout: float,
    ) -> None:
        self._given = [entry for entry in entries if not entry.startswith(_DNS)]
        self._names = [
            Name(entry.removeprefix(_DNS), resolve, clock, timeout, self._tell)
            for entry in entries
            if entry.startswith(_DNS)
        ]
        self._clock = clock
        self._interval = interval
        self._timer: IDelayedCall | None = None
        self._running = False
        self._told: tuple[str, ...] = ()
        self._server_names: dict[str, str] = {}
        self._retarget: Retarget = lambda addresses: None

    def start(self, retarget: Retarget) -> None:
        """Report the fixed addresses and begin to resolve names. Returns at once."""
        self._retarget = retarget
        self._running = True
        self._tell()
        if self._names:
            self._look_up()

    def stop(self) -> None:
        """Stop resolving. Idempotent."""
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for name in self._names:
            name.stop()

    def server_name(self, address: str) -> str:
        """Return the name behind an address, which its certificate has; empty: a fixed address."""
        return self._server_names.get(address, "")

    # --- inside

    def _look_up(self) -> None:
        self._timer = None
        left = len(self._names)

        def one_ended(_: object) -> None:
            nonlocal left
            left -= 1
            if self._running and not left:
                self._timer = self._clock.callLater(self._interval, self._look_up)

        for name in self._names:
            name.look_up().addCallback(one_ended)

    def _tell(self) -> None:
        """Report the addresses if they changed."""
        if not self._running:
            return
        found = dict.fromkeys(self._given)
        for name in self._names:
            for address in name.addresses:
                if address not in found:
                    found[address] = None
                    self._remember(address, name.host)
        addresses = tuple(found)
        if addresses == self._told:
            return
        if self._names:
            self._log.info(
                "AI processes: {now}{new}",
                now=", ".join(addresses),
                new=_changes(self._told, addresses),
            )
        self._told = addresses
        self._retarget(addresses)

    def _remember(self, address: str, name: str) -> None:
        names = self._server_names
        names.pop(address, None)
        names[address] = name
        if len(names) > _KNOWN_NAMES:
            del names[next(iter(names))]


def _changes(before: Collection[str], after: Collection[str]) -> str:
    new = [address for address in after if address not in before]
    gone = [address for address in before if address not in after]
    if not before:
        return ""
    told = [f"new: {', '.join(new)}"] if new else []
    told += [f"gone: {', '.join(gone)}"] if gone else []
    return f" ({'; '.join(told)})" if told else ""


def _literal(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@implementer(IResolutionReceiver)
class _Receiver:
    """Collects the results of the reactor's resolver."""

    def __init__(self) -> None:
        self.done = Deferred[Sequence[str]]()
        self._found: list[IPv4Address | IPv6Address] = []

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """Ignored: the look-up cannot be cancelled."""

    def addressResolved(self, address: IAddress) -> None:
        assert isinstance(address, IPv4Address | IPv6Address)
        self._found.append(address)

    def resolutionComplete(self) -> None:
        old = [each.host for each in self._found if isinstance(each, IPv4Address)]
        self.done.callback(old or [each.host for each in self._found])


def reactor_resolve(reactor: IReactorPluggableNameResolver) -> Resolve:
    """Resolve names with the system's resolver, in the reactor's threads.

    A name with IPv4 and IPv6 addresses gives only the IPv4 ones, so that a process with one
    of each does not count twice.
    """

    def resolve(host: str) -> Deferred[Sequence[str]]:
        receiver = _Receiver()
        reactor.nameResolver.resolveHostName(receiver, host)
        return receiver.done

    return resolve
