"""Listening on TCP, with errors that name the address and the configuration key."""

from __future__ import annotations

import errno
import secrets
import socket
from contextlib import suppress
from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory

from xiaozhi.base.errors import XiaozhiError

_BACKLOG = 1024
"""Length of the accept queue; the system may have a lower limit."""


def listen(
    reactor: Any,
    host: str,
    port: int,
    factory: IProtocolFactory,
    key: str = "listen",
    *,
    one_key: bool = False,
    reuse_port: bool = False,
) -> Deferred[IListeningPort]:
    """Listen on TCP.

    :param host: an address of this machine; empty: all.
    :param key: the section of the configuration with ``host`` and ``port``.
    :param one_key: ``key`` is not a section but has the value ``host:port``.
    :param reuse_port: processes that set it share the port; the kernel distributes
        connections.
    :raises XiaozhiError: through the Deferred; the message names address and key.
    """
    keys = (key, key) if one_key else (f"{key}.host", f"{key}.port")
    way = _listen_among_others if reuse_port else _listen
    return maybeDeferred(way, reactor, host, port, factory, keys)


def _listen(
    reactor: Any, host: str, port: int, factory: IProtocolFactory, keys: tuple[str, str]
) -> IListeningPort:
    try:
        listening: IListeningPort = reactor.listenTCP(
            port, factory, backlog=_BACKLOG, interface=host
        )
    except CannotListenError as error:
        raise XiaozhiError("cannot_listen", refusal(error, host, port, keys)) from None
    return listening


def _listen_among_others(
    reactor: Any, host: str, port: int, factory: IProtocolFactory, keys: tuple[str, str]
) -> IListeningPort:
    if not hasattr(socket, "SO_REUSEPORT"):
        raise XiaozhiError("cannot_listen", f"{keys[1]}: reuse_port: not on this operating system")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as ours:
        try:
            # Twisted's listenTCP offers no way to set the second one.
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            ours.bind((host, port))
            ours.listen(_BACKLOG)
            ours.setblocking(False)
        except OSError as error:
            reason = CannotListenError(host, port, error)
            raise XiaozhiError("cannot_listen", refusal(reason, host, port, keys)) from None
        # It duplicates the socket.
        listening: IListeningPort = reactor.adoptStreamPort(ours.fileno(), family, factory)
    return listening


def refusal(error: CannotListenError, host: str, port: int, keys: tuple[str, str]) -> str:
    """Describe in one line why a port cannot be bound, and the remedy.

    :param keys: of the configuration, for the host and for the port.
    """
    host_key, port_key = keys
    where = f"port {port} on {host or 'any address'}"
    number = getattr(error.socketError, "errno", None)
    if number == errno.EADDRINUSE:
        return f"{where} is in use; stop what listens there or set {port_key}"
    if number in (errno.EACCES, errno.EPERM):
        return f"{where} needs more rights; set {port_key} to 1024 or above"
    reason = getattr(error.socketError, "strerror", None) or error.socketError
    return f"cannot listen on {where}: {reason}; set {host_key} to an address of this machine"


class Listener(Service):
    """A service that listens on TCP while it runs.

    :param key: and ``one_key``, ``reuse_port``: as for :func:`listen`.
    :ivar port: the listening port, once started: with port 0 its number.
    """

    def __init__(
        self,
        reactor: Any,
        address: tuple[str, int],
        factory: IProtocolFactory,
        key: str = "listen",
        *,
        one_key: bool = False,
        reuse_port: bool = False,
    ) -> None:
        host, port = address
        self.name = f"listener {host}:{port}"
        self.port: IListeningPort | None = None
        self._asked_for = port
        self._listen = partial(
            listen, reactor, host, port, factory, key, one_key=one_key, reuse_port=reuse_port
        )

    @property
    def number(self) -> int:
        """The port's number; for port 0, known once started."""
        return int(self.port.getHost().port) if self.port else self._asked_for  # type: ignore[attr-defined]

    def startService(self) -> Deferred[None]:
        super().startService()
        return self._listen().addCallback(self._listening)

    def _listening(self, port: IListeningPort) -> None:
        self.port = port

    def stopService(self) -> Deferred[None]:
        super().stopService()
        port, self.port = self.port, None
        return (port.stopListening() if port else None) or succeed(None)


_given: set[int] = set()


def free_port() -> int:
    """Return an unused TCP port of 127.0.0.1 for a server to be started; never the same twice.

    It is outside the system's range for outgoing connections and port 0, which could take
    it before the server listens.
    """
    while True:
        port = 10_000 + secrets.randbelow(22_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port
