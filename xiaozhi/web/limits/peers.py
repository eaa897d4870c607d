"""Where connections come from, and how many may come from one place."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Protocol

from twisted.internet.interfaces import IReactorTime

from xiaozhi.web.limits.buckets import Buckets


class AddressLimits(Protocol):
    """The settings this room needs.

    :ivar max_per_address: connections at once from one address (IPv6: from one /64).
    :ivar max_waiting_per_address: of these, connections that have not sent their request.
    :ivar address_rate: new ones a second from one address, sustained.
    :ivar address_burst: new ones from one address that may come at once.
    :ivar max_per_site: and ``max_waiting_per_site``, ``site_rate``, ``site_burst``: the
        same of all addresses of one IPv6 /48 together.
    :ivar trusted_proxies: networks whose ``X-Forwarded-For`` is believed.
    :ivar unlimited: networks that are not counted.
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
# As some proxies write it: 192.0.2.1:4711, [2001:db8::1]:4711
_WITH_PORT = re.compile(r"\[([^\]]+)\](?::\d+)?|([0-9.]+):\d+")

_Address = IPv4Address | IPv6Address

# One for all whose proxy says nothing that is an address.
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

    An IPv6 address counts as its /64, of which a customer has at least one, and a
    second time as its /48, the most that one site is given (RFC 6177). Some
    addresses are not counted: those in ``unlimited``; and trusted proxies, whose
    connections count for the address they name in ``X-Forwarded-For``.

    Nothing here grows without the connections themselves, but for the rate, which is
    kept for so many addresses as :class:`Buckets` does.
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
        """Whether to believe what a peer says about where its connections come from."""
        return parsed(host) in self._proxies

    def key(self, host: str) -> str:
        """Return the key a peer is counted under; empty: it is not counted.

        :param host: its address.
        """
        address = parsed(host)
        return "" if address in self._proxies else self._key(address)

    def forwarded(self, head: bytes) -> str:
        """Return the key of a connection by a trusted proxy, see :meth:`key`.

        The last address that is not a proxy of ours: all before it may be invented.

        :param head: of the request.
        """
        return self.named(_FORWARDED.findall(head))

    def named(self, headers: Iterable[bytes]) -> str:
        """The same, by the values of the header ``X-Forwarded-For``."""
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
        """One more request, where requests are rated and not connections.

        :return: seconds to wait before the next one is answered; 0: this one is.
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
        """One more connection, which waits for its request.

        :param rated: whether it counts for the rate.
        :return: why it is refused, then it is not counted; empty: it is let in, and
            :meth:`served` and :meth:`leave` or :meth:`leave` alone must follow.
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
        """Its request has come."""
        _less(self._waiting, key)
        _less(self._waiting_by_site, self._sites.get(key, ""))

    def leave(self, key: str) -> None:
        """It is closed."""
        _less(self._there, key)
        _less(self._there_by_site, self._sites.get(key, ""))
        if key not in self._there:
            self._sites.pop(key, None)

    @property
    def addresses(self) -> int:
        """How many have a connection."""
        return len(self._there)

    def _key(self, address: _Address | None) -> str:
        if address is None or address in self._unlimited:
            return ""
        if isinstance(address, IPv6Address):
            return str(ip_network((int(address) >> 64 << 64, 64)))
        return str(address)


def _site(key: str) -> str:
    """The /48 of a /64; empty: the key is none."""
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
    """An address as it is, IPv4 within IPv6 as IPv4; None: it is none."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
