"""WebSocket client with the firmware's upgrade request and close behaviour (§1)."""

from __future__ import annotations

import os
from base64 import b64encode
from typing import Any, Protocol, cast

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint

from xiaozhi.device.errors import DeviceError
from xiaozhi.device.identity import Identity
from xiaozhi.device.network.ota import DeviceEndpoint
from xiaozhi.runtime.connecting import host_endpoint

# Bytes of a message from the server; the firmware is limited by its memory only.
MAX_MESSAGE = 1 << 20


class SocketUser(Protocol):
    """Receives the messages of a socket."""

    def text_received(self, text: str) -> None: ...

    def binary_received(self, data: bytes) -> None: ...

    def closed(self, code: int = 1006, reason: str = "") -> None:
        """May be called twice: for the Close frame and for the end of TCP."""


class FirmwareSocket(WebSocketClientProtocol):
    """Autobahn's client, sending the same bytes as the firmware.

    :ivar upgraded: fires with this socket after the 101; fails with
        :class:`DeviceError` ``refused`` or ``cannot_connect``.
    :ivar lost: fires when TCP is closed.
    """

    factory: FirmwareSocketFactory

    def __init__(self) -> None:
        super().__init__()
        self.upgraded: Deferred[FirmwareSocket] = Deferred(lambda _: self.drop())
        self.lost: Deferred[None] = Deferred()
        self.user: SocketUser | None = None

    # --- sending ----------------------------------------------------------------------

    def send_text(self, text: str) -> None:
        self.sendMessage(text.encode(), isBinary=False)

    def send_binary(self, data: bytes) -> None:
        self.sendMessage(data, isBinary=True)

    def drop(self) -> None:
        """Close TCP without a Close frame (§1.1)."""
        self.dropConnection(abort=False)

    # --- Autobahn's hooks -----------------------------------------------------------

    def startHandshake(self) -> None:
        # Autobahn checks the response against this attribute.
        self.websocket_key = b64encode(os.urandom(16))
        self.http_request_data = self.factory.request(self.websocket_key)
        self.sendData(self.http_request_data)

    def failHandshake(self, reason: str) -> None:
        status = getattr(self, "http_status_line", "")
        text = bytes(self.data or b"").partition(b"\r\n\r\n")[2].decode("utf-8", "replace")
        said = f"{status} {text[:300]}".strip() or reason
        self._fail(DeviceError("refused", f"the server refused the upgrade: {said}"))
        super().failHandshake(reason)

    def onOpen(self) -> None:
        self.upgraded.callback(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if self.user is None:
            return
        if isBinary:
            self.user.binary_received(payload)
        else:
            self.user.text_received(payload.decode())

    def onCloseFrame(self, code: int | None, reasonRaw: bytes | None) -> bool | None:
        # The firmware neither echoes the frame nor closes TCP by itself (§1.1).
        if self.user is not None:
            self.user.closed(code or 1005, (reasonRaw or b"").decode("utf-8", "replace"))
        return None

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self._fail(DeviceError("cannot_connect", f"the connection ended: {reason}"))
        if self.user is not None:
            self.user.closed(1006, reason or "")
        self.lost.callback(None)

    def _fail(self, error: DeviceError) -> None:
        if not self.upgraded.called:
            self.upgraded.errback(error)


class FirmwareSocketFactory(WebSocketClientFactory):
    """Makes the sockets of one device to one address.

    :param framing: announced as ``Protocol-Version``.
    """

    noisy = False
    protocol: Any = FirmwareSocket

    def __init__(
        self, reactor: Any, endpoint: DeviceEndpoint, identity: Identity, framing: int
    ) -> None:
        super().__init__(endpoint.url, reactor=reactor)
        # Autobahn's own timers would run on the global reactor.
        self.setProtocolOptions(
            openHandshakeTimeout=0,
            closeHandshakeTimeout=0,
            serverConnectionDropTimeout=0,
            autoPingInterval=0,
            perMessageCompressionOffers=[],
            maxMessagePayloadSize=MAX_MESSAGE,
            tcpNoDelay=True,
        )
        headers = {
            "Client-Id": identity.client_id,
            "Connection": "Upgrade",
            "Device-Id": identity.device_id,
            "Protocol-Version": str(framing),
            "Sec-WebSocket-Key": "",
            "Sec-WebSocket-Version": "13",
            "Upgrade": "websocket",
        }
        if endpoint.token:
            bare = " " not in endpoint.token
            headers["Authorization"] = f"Bearer {endpoint.token}" if bare else endpoint.token
        for name, value in headers.items():
            if "\r" in value or "\n" in value or not value.isascii():
                raise DeviceError("cannot_connect", f"{name} cannot be a header: {value!r}")
        self._upgrade_headers = headers

    def request(self, key: bytes) -> bytes:
        """Return the upgrade request, byte for byte as in §1.2: Host has no port."""
        headers = self._upgrade_headers | {"Sec-WebSocket-Key": key.decode()}
        host = f"[{self.host}]" if ":" in self.host else self.host
        lines = [f"GET {self.resource} HTTP/1.1", f"Host: {host}"]
        lines += [f"{name}: {headers[name]}" for name in sorted(headers)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def open_socket(
    reactor: Any,
    endpoint: DeviceEndpoint,
    identity: Identity,
    framing: int,
    *,
    via: IStreamClientEndpoint | None = None,
    timeout: float = 10.0,
) -> Deferred[FirmwareSocket]:
    """Connect and upgrade.

    :param via: endpoint to use instead of the address in the URL.
    :param timeout: seconds for connection and upgrade together.
    :return: fails with :class:`DeviceError` ``cannot_connect`` or ``refused``.
    """
    opening = Deferred.fromCoroutine(_open(reactor, endpoint, identity, framing, via))

    def late(_: object, seconds: float) -> FirmwareSocket:
        raise DeviceError("cannot_connect", f"{endpoint.url}: no upgrade within {seconds:g} s")

    return opening.addTimeout(timeout, reactor, late)


async def _open(
    reactor: Any,
    endpoint: DeviceEndpoint,
    identity: Identity,
    framing: int,
    via: IStreamClientEndpoint | None,
) -> FirmwareSocket:
    try:
        factory = FirmwareSocketFactory(reactor, endpoint, identity, framing)
    except DeviceError:
        raise
    except Exception as error:  # Autobahn's URL parser raises many types
        raise DeviceError("cannot_connect", f"{endpoint.url}: {error}") from None
    if via is None:
        via = host_endpoint(reactor, factory.host, factory.port, tls=factory.isSecure)
    try:
        connected = await cast("Deferred[Any]", via.connect(factory))
    except OSError as error:
        raise DeviceError("cannot_connect", f"{endpoint.url}: {error}") from error
    except Exception as error:
        raise DeviceError("cannot_connect", f"{endpoint.url}: {error}") from error
    return cast(FirmwareSocket, await connected.upgraded)
