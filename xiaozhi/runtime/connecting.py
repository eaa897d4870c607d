"""Outgoing connections to hosts by any name that the machine can resolve.

Twisted accepts a host name only if IDNA 2008 allows it in a registered domain. Names from
Docker, Kubernetes, ``/etc/hosts`` and local DNS may break that rule: ``my_host``,
``r3--a``.
IPv6 addresses are accepted bare and in brackets.
"""

from __future__ import annotations

import re
from typing import Any

import idna
from OpenSSL import SSL
from OpenSSL.crypto import X509
from service_identity.exceptions import CertificateError, VerificationError
from service_identity.hazmat import DNS_ID, verify_service_identity
from service_identity.pyopenssl import extract_patterns
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IStreamClientEndpoint
from twisted.internet.ssl import CertificateOptions, optionsForClientTLS, platformTrust
from twisted.web.client import URI, Agent, HTTPConnectionPool
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")


def ascii_host(host: str) -> str:
    """Normalise a configured host: lower case, without brackets, IDNA-encoded.

    :raises ValueError: neither an address nor a resolvable form of name.
    """
    host = host.strip()
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    if isIPv6Address(host):
        return host.lower()
    if bracketed or ":" in host:
        raise ValueError(f"{host} is no IPv6 address")
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True).decode()
        except UnicodeError:
            raise ValueError("the host name is not valid") from None
    if not _NAME.fullmatch(host) or len(host) > 253:
        raise ValueError(f"{host!r} is no host name" if host else "the host name is missing")
    if re.fullmatch(r"[0-9.]+", host) and not isIPAddress(host):
        raise ValueError(f"{host} is no IPv4 address")
    return host.lower()


def host_endpoint(
    reactor: Any,
    host: str,
    port: int,
    *,
    tls: bool = False,
    verify: bool = True,
    timeout: float = 30.0,
) -> IStreamClientEndpoint:
    """Return an endpoint that tries the addresses of a host, with TLS if wanted.

    :param host: as :func:`ascii_host` takes it.
    :param verify: whether the certificate must be valid for the host.
    :param timeout: seconds to connect, without the TLS handshake.
    :raises ValueError: as :func:`ascii_host`.
    """
    host = ascii_host(host)
    endpoint: IStreamClientEndpoint = _AnyName(reactor, host, port, timeout=timeout)
    if not tls:
        return endpoint
    creator = _tls(host) if verify else _UnverifiedTLS(host)
    return wrapClientTLS(creator, endpoint)


def http_agent(
    reactor: Any, *, connect_timeout: float, pool: HTTPConnectionPool | None = None
) -> Agent:
    """Return an HTTP client over :func:`host_endpoint`.

    :param connect_timeout: seconds.
    """
    endpoints = _Endpoints(reactor, connect_timeout)
    agent: Agent = Agent.usingEndpointFactory(reactor, endpoints, pool)
    return agent


@implementer(IAgentEndpointFactory)
class _Endpoints:
    def __init__(self, reactor: Any, timeout: float) -> None:
        self._reactor = reactor
        self._timeout = timeout

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        host, tls = uri.host.decode("ascii"), uri.scheme.lower() == b"https"
        return host_endpoint(self._reactor, host, uri.port, tls=tls, timeout=self._timeout)


class _AnyName(HostnameEndpoint):
    """Resolves a name without an IDNA check."""

    @staticmethod
    def _hostAsBytesAndText(host: bytes | str) -> tuple[bool, bytes, str]:
        text = host if isinstance(host, str) else host.decode("ascii")
        return False, text.encode("ascii"), text


def _tls(host: str) -> IOpenSSLClientConnectionCreator:
    try:
        options: IOpenSSLClientConnectionCreator = optionsForClientTLS(host)
    except UnicodeError:
        options = _AnyNameTLS(host)
    return options


@implementer(IOpenSSLClientConnectionCreator)
class _AnyNameTLS:
    """TLS, verified as usual, with a host whose name Twisted does not accept."""

    def __init__(self, host: str) -> None:
        self._host = host
        options = CertificateOptions(trustRoot=platformTrust())
        self._context: SSL.Context = options.getContext()

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """See ``IOpenSSLClientConnectionCreator``."""
        connection = SSL.Connection(self._context, None)
        connection.set_tlsext_host_name(self._host.encode())
        connection.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, self._verify)
        return connection

    def _verify(self, _: SSL.Connection, cert: X509, error: int, depth: int, ok: int) -> bool:
        if not ok or depth:
            return bool(ok)
        try:
            verify_service_identity(extract_patterns(cert), [DNS_ID(self._host)], [])
        except (CertificateError, VerificationError, ValueError):
            return False
        return True


@implementer(IOpenSSLClientConnectionCreator)
class _UnverifiedTLS:
    """TLS with any certificate."""

    def __init__(self, host: str) -> None:
        self._host = host
        options = CertificateOptions(verify=False)
        self._context: SSL.Context = options.getContext()

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """See ``IOpenSSLClientConnectionCreator``."""
        connection = SSL.Connection(self._context, None)
        if not isIPAddress(self._host) and not isIPv6Address(self._host):
            connection.set_tlsext_host_name(self._host.encode())
        return connection
