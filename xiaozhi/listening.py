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

from xiaozhi.errors import XiaozhiError


def listen(
    reactor: Any, host: str, port: int, factory: IProtocolFactory, key: str = "listen"
) -> Deferred[IListeningPort]:
    """Listen on TCP.

    :param host: an address of this machine; empty: all.
    :param key: the section of the configuration with ``host`` and ``port``.
    :raises XiaozhiError: through the Deferred; its line names address and key.
    """
    return maybeDeferred(_listen, reactor, host, port, factory, key)


def _listen(
    reactor: Any, host: str, port: int, factory: IProtocolFactory, key: str
) -> IListeningPort:
    try:
        listening: IListeningPort = reactor.listenTCP(port, factory, interface=host)
    except CannotListenError as error:
        raise XiaozhiError("cannot_listen", refusal(error, host, port, key)) from None
    return listening


def refusal(error: CannotListenError, host: str, port: int, key: str) -> str:
    """Why a port cannot be had and what to do, in one line."""
    where = f"port {port} on {host or 'any address'}"
    number = getattr(error.socketError, "errno", None)
    if number == errno.EADDRINUSE:
        return f"{where} is in use; stop what listens there or set {key}.port"
    if number in (errno.EACCES, errno.EPERM):
        return f"{where} needs more rights; set {key}.port to 1024 or above"
    reason = getattr(error.socketError, "strerror", None) or error.socketError
    return f"cannot listen on {where}: {reason}; set {key}.host to an address of this machine"


class Listener(Service):
    """Listens on TCP while it runs.

    :param key: as for :func:`listen`.
    :ivar port: the listening port, once started: with port 0 its number.
    """

    def __init__(
        self, reactor: Any, host: str, port: int, factory: IProtocolFactory, key: str = "listen"
    ) -> None:
        self.name = f"listener {host}:{port}"
        self.port: IListeningPort | None = None
        self._listen = partial(listen, reactor, host, port, factory, key)

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
    """A TCP port of 127.0.0.1 for a server that will be started; none twice.

    None of those that the system gives to outgoing connections and to whoever asks
    for any: until the server listens, one of those might take it.
    """
    while True:
        port = 10_000 + secrets.randbelow(22_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port
