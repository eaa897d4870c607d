"""Limits of connections and requests by address."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Protocol

from twisted.internet.interfaces import IReactorTime

from xiaozhi.web.limits.buckets import Buckets


class AddressLimits(Protocol):
    """Settings of :class:`Peers`.

    :ivar max_per_address: maximum connections from one address (IPv6: from one /64).
    :ivar max_waiting_per_address: how many of these may not have sent their request yet.
    :ivar address_rate: new connections per second from one address, sustained.
    :ivar address_burst: new connections from one address that may arrive at once.
    :ivar max_per_site: and ``max_waiting_per_site``, ``site_rate``, ``site_burst``: the
        same for a whole IPv6 /48.
    :ivar trusted_proxies: networks whose ``X-Forwarded-For`` is trusted.
    :ivar unlimited: networks without limits.
    """

    @property
    def max_per_address(self) -> int: ...
    @property
    def max_waiting_per_address(self) -> int: ...
    @property
    def address_rate(self) -> float: ...
    @property
    def address_burst(self) -> int: ...
    @property
    def max_per_site(self) -> int: ...
    @property
    def max_waiting_per_site(self) -> int: ...
    @property
    def site_rate(self) -> float: ...
    @property
    def site_burst(self) -> int: ...
    @property
    def trusted_proxies(self) -> tuple[str, ...]: ...
    @property
    def unlimited(self) -> tuple[str, ...]: ...


_FORWARDED = re.compile(rb"\r\nx-forwarded-for[ \t]*:([^\r\n]*)", re.IGNORECASE)
# Some proxies add the port: 192.0.2.1:4711, [2001:db8::1]:4711
_WITH_PORT = re.compile(r"\[([^\]]+)\](?::\d+)?|([0-9.]+):\d+")

_Address = IPv4Address | IPv6Address

# Shared key of clients for which a proxy sends an invalid address.
_NOWHERE = "nowhere"


class Networks:
    """A set of addresses, given as networks.

    :param given: ``192.0.2.0/24`` or single addresses.
    """

    def __init__(self, given: Iterable[str]) -> None:
        self._networks = [ip_network(each, strict=False) for each in given]

    def __contains__(self, address: object) -> bool:
        return isinstance(address, _Address) and any(address in each for each in self._networks)


class Peers:
    """Counts connections by address.

    An IPv6 address counts as its /64, which a customer has at least, and also as its /48, the
    largest network of one site (RFC 6177). Addresses in ``unlimited`` are not counted. The
    connections of a trusted proxy count for the address in its ``X-Forwarded-For``.

    Bound: the number of connections; for rates, that of :class:`Buckets`.
    """

    def __init__(self, settings: AddressLimits, clock: IReactorTime) -> None:
        self._settings = settings
        self._clock = clock
        self._proxies = Networks(settings.trusted_proxies)
        self._unlimited = Networks(settings.unlimited)
        self._there: Counter[str] = Counter()
        self._waiting: Counter[str] = Counter()
        self._rate = Buckets(settings.address_rate, settings.address_burst)
        # The /48 of each /64 that has a connection, and the /48s' own counts.
        self._sites: dict[str, str] = {}
        self._there_by_site: Counter[str] = Counter()
        self._waiting_by_site: Counter[str] = Counter()
        self._site_rate = Buckets(settings.site_rate, settings.site_burst)

    def is_proxy(self, host: str) -> bool:
        """Return whether to trust a peer's ``X-Forwarded-For``."""
        return parsed(host) in self._proxies

    def key(self, host: str) -> str:
        """Return the key under which a peer is counted; empty: it is not counted.

        :param host: its address.
        """
        address = parsed(host)
        return "" if address in self._proxies else self._key(address)

    def forwarded(self, head: bytes) -> str:
        """Return the key of a connection through a trusted proxy, see :meth:`key`.

        The last address that is not a trusted proxy counts: those before it may be forged.

        :param head: the request head.
        """
        return self.named(_FORWARDED.findall(head))

    def named(self, headers: Iterable[bytes]) -> str:
        """As :meth:`forwarded`, for the values of the header ``X-Forwarded-For``."""
        hops = b",".join(headers).decode("latin-1").split(",")
        for hop in reversed(hops):
            if text := hop.strip():
                address = parsed(_bare(text))
                if address is None:
                    return _NOWHERE
                if address not in self._proxies:
                    return self._key(address)
        return ""

    def ask(self, key: str) -> float:
        """Charge one request to the rate.

        :return: 0: answer it; otherwise the seconds after which to retry.
        """
        if not key:
            return 0.0
        now = self._clock.seconds()
        if not self._rate.take(key, now):
            return self._rate.wait(key, now)
        site = _site(key)
        if site and not self._site_rate.take(site, now):
            return self._site_rate.wait(site, now)
        return 0.0

    def arrive(self, key: str, *, rated: bool = True) -> str:
        """Count a new connection, which waits for its request.

        :param rated: whether it is charged to the rate.
        :return: why it is refused, and not counted; empty: it is admitted. Then :meth:`leave`
            must follow, and :meth:`served` before it if a request arrives.
        """
        if not key:
            return ""
        settings = self._settings
        if self._there[key] >= settings.max_per_address:
            return "address_full"
        if self._waiting[key] >= settings.max_waiting_per_address:
            return "address_waiting"
        site = _site(key)
        if site and self._there_by_site[site] >= settings.max_per_site:
            return "site_full"
        if site and self._waiting_by_site[site] >= settings.max_waiting_per_site:
            return "site_waiting"
        now = self._clock.seconds()
        if rated and not self._rate.take(key, now):
            return "address_rate"
        if rated and site and not self._site_rate.take(site, now):
            return "site_rate"
        self._there[key] += 1
        self._waiting[key] += 1
        if site:
            self._sites[key] = site
            self._there_by_site[site] += 1
            self._waiting_by_site[site] += 1
        return ""

    def served(self, key: str) -> None:
        """Count a connection as one whose request has arrived."""
        _less(self._waiting, key)
        _less(self._waiting_by_site, self._sites.get(key, ""))

    def leave(self, key: str) -> None:
        """Uncount a closed connection."""
        _less(self._there, key)
        _less(self._there_by_site, self._sites.get(key, ""))
        if key not in self._there:
            self._sites.pop(key, None)

    @property
    def addresses(self) -> int:
        """The number of addresses with a connection."""
        return len(self._there)

    def _key(self, address: _Address | None) -> str:
        if address is None or address in self._unlimited:
            return ""
        if isinstance(address, IPv6Address):
            return str(ip_network((int(address) >> 64 << 64, 64)))
        return str(address)


def _site(key: str) -> str:
    """Return the /48 of a /64; empty: the key is not a /64."""
    return str(ip_network(key).supernet(new_prefix=48)) if key.endswith("/64") else ""


def _less(counter: Counter[str], key: str) -> None:
    if key:
        counter[key] -= 1
        if not counter[key]:
            del counter[key]


def _bare(text: str) -> str:
    found = _WITH_PORT.fullmatch(text)
    return (found[1] or found[2]) if found else text


def parsed(host: str) -> _Address | None:
    """Parse an address, IPv4 within IPv6 as IPv4; None: invalid."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
