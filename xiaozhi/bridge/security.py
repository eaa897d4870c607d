"""Certificates and token of the bridge, read and checked.

They are read once, when a service is assembled. gRPC receives them only when it starts,
since it must not start before the process becomes a daemon.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from xiaozhi.base.errors import ConfigError
from xiaozhi.bridge.settings import ClientSettings, Limits, ServerSettings

# Bytes; hard to guess if random.
_SHORTEST_TOKEN = 32
_TOKEN = re.compile(r"[\x21-\x7e]+")

ReadSecret = Callable[[Path, str], bytes]
"""Reads a secret file; the second argument is the key to name in an error."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """PEM of a certificate chain and its private key."""

    certificate: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ClientSecurity:
    """Credentials of the edge and its requirements.

    :ivar tls: whether the connection is encrypted.
    :ivar ca: PEM of the authorities; None: the well-known ones.
    :ivar pair: the client certificate; None: no certificate.
    :ivar server_name: expected name in the certificate; empty: the target's host.
    :ivar token: empty: no token is sent.
    """

    tls: bool = False
    ca: bytes | None = None
    pair: KeyPair | None = None
    server_name: str = ""
    token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class ServerSecurity:
    """Credentials of the AI service and its requirements.

    :ivar pair: None: the connection is not encrypted.
    :ivar client_ca: PEM; edges must present a certificate signed by these.
    :ivar token: required of edges; empty: no token is required.
    """

    pair: KeyPair | None = None
    client_ca: bytes | None = None
    token: str = field(default="", repr=False)


def client_security(settings: ClientSettings, read_secret: ReadSecret) -> ClientSecurity:
    """Read the credentials of the section ``bridge``.

    :raises ConfigError: names the key and the file.
    """
    tls, token = settings.tls, _token(settings, "bridge", read_secret)
    if not tls.enabled:
        return ClientSecurity(token=token)
    return ClientSecurity(
        tls=True,
        ca=_authorities(tls.ca_file, "bridge.tls.ca_file"),
        pair=_pair(tls.certificate_file, tls.key_file, "bridge.tls", read_secret),
        server_name=tls.server_name,
        token=token,
    )


def server_security(settings: ServerSettings, read_secret: ReadSecret) -> ServerSecurity:
    """Read the credentials of the section ``grpc``.

    :raises ConfigError: names the key and the file; or the port needs no credentials.
    """
    tls, token = settings.tls, _token(settings, "grpc", read_secret)
    proven = bool(token) or (tls.enabled and bool(tls.client_ca_file))
    if not (proven or settings.allow_unauthenticated or _is_loopback(settings.listen)):
        raise ConfigError(
            f"grpc.listen: {settings.listen} can be reached from other machines, and nobody is"
            " asked who he is: set grpc.token (and the edges' bridge.token) or"
            " grpc.tls.client_ca_file; or listen on 127.0.0.1; or, in a network that you trust"
            " wholly, set grpc.allow_unauthenticated"
        )
    if not tls.enabled:
        return ServerSecurity(token=token)
    return ServerSecurity(
        pair=_pair(tls.certificate_file, tls.key_file, "grpc.tls", read_secret),
        client_ca=_authorities(tls.client_ca_file, "grpc.tls.client_ca_file"),
        token=token,
    )


def _is_loopback(listen: str) -> bool:
    """Whether ``host:port`` is a loopback address."""
    host = listen.rpartition(":")[0].strip("[]")
    if host.lower() == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def _token(settings: Limits, section: str, read_secret: ReadSecret) -> str:
    where, token = f"{section}.token", settings.token
    if not token and settings.token_file:
        where = f"{section}.token_file"
        data = read_secret(Path(settings.token_file), where)
        token = data.decode("utf-8", "replace").strip()
        where = f"{where}: {settings.token_file}"
        if not token:
            raise ConfigError(f"{where} is empty")
    if token and (len(token) < _SHORTEST_TOKEN or not _TOKEN.fullmatch(token)):
        raise ConfigError(
            f"{where}: a token has at least {_SHORTEST_TOKEN} letters, digits and signs, and no"
            " spaces; 'openssl rand -hex 32' makes one"
        )
    return token


def _authorities(path: str, where: str) -> bytes | None:
    if not path:
        return None
    data = _read(path, where)
    _certificates(data, path, where)
    return data


def _pair(certificate: str, key: str, section: str, read_secret: ReadSecret) -> KeyPair | None:
    if not certificate:
        return None
    where = f"{section}.certificate_file"
    data = _read(certificate, where)
    leaf = _certificates(data, certificate, where)[0]
    where = f"{section}.key_file"
    secret = read_secret(Path(key), where)
    try:
        private = serialization.load_pem_private_key(secret, None)
    except (ValueError, TypeError):
        raise ConfigError(f"{where}: {key} is not an unencrypted PEM private key") from None
    if private.public_key() != leaf.public_key():
        raise ConfigError(
            f"{where}: {key} does not belong to {section}.certificate_file {certificate}"
        )
    return KeyPair(data, secret)


def _certificates(data: bytes, path: str, where: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError:
        raise ConfigError(f"{where}: {path} holds no PEM certificate") from None


def _read(path: str, where: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{where}: {path} cannot be read: {error.strerror}") from None
