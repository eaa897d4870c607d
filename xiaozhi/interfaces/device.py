"""Seams around a device: its transport, who may connect, where it is, what waits for it."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from zope.interface import Interface

from xiaozhi.base.values import Presence, Receipt
from xiaozhi.wire.mail import Mail
from xiaozhi.wire.messages import Device


class IDeviceTransport(Interface):
    """A device's socket."""

    def send_text(text: str) -> None:
        """Send one JSON text."""

    def send_binary(data: bytes) -> None:
        """Send one framed Opus packet."""

    def close(code: int, reason: str) -> None:
        """Send a Close frame and drop TCP soon after: devices do not echo it (§1.1)."""

    def ping() -> None:
        """Send a WebSocket ping."""

    def pause() -> None:
        """Stop reading from the socket."""

    def resume() -> None:
        """Read again."""


class IAuthenticator(Interface):
    """Decides who may connect."""

    def authenticate(token: str | None, device_id: str, client_id: str) -> Device:
        """:param token: as sent, with or without ``Bearer``.
        :raises AuthError: refused, with the HTTP status to answer.
        """


class IDeviceTokens(Interface):
    """Makes the tokens an :class:`IAuthenticator` takes."""

    def issue(device: Device, scope: str, ttl: float) -> str:
        """:param scope: ``device`` for the WebSocket, ``vision`` for picture upload.
        :param ttl: seconds.
        """

    def verify(token: str | None, device_id: str, scope: str) -> Device:
        """:raises AuthError:"""


class IPresence(Interface):
    """Which device is connected where, across all edge processes.

    The newest claim wins, also between processes and whatever their clocks say
    (§9, 22 and 23).
    """

    def start() -> Deferred[None]:
        """:raises StoreError: naming the address."""

    def stop() -> Deferred[None]:
        """Forget this node's claims and disconnect."""

    def claim(presence: Presence, replaced: Callable[[], None]) -> Deferred[Presence | None]:
        """Take a device over.

        :param replaced: called once if another session claims the device later.
        :return: whom this replaced.
        """

    def release(device_id: str, session_id: str) -> Deferred[None]:
        """The session ended. Does nothing if another one holds the device."""

    def lookup(device_id: str) -> Deferred[Presence | None]:
        """Where the device is, if anywhere."""


class IDeviceInbox(Interface):
    """Reaches a device wherever it is connected, or at its next connection."""

    def post(device_id: str, mail: Mail, ttl: float) -> Deferred[Receipt]:
        """Send now, or keep. In order per device, and once.

        :param ttl: seconds to keep it for a device that is not connected; 0: not at all.
        :raises StoreError: ``inbox_full`` or ``inboxes_full``: as much is kept already as
            may be, for the device or in all; ``presence_unavailable``.
        """


class IInboxReader(Interface):
    """The edge's side of an :class:`IDeviceInbox`: who has which device."""

    def attach(device_id: str, session_id: str, deliver: Callable[[Mail], bool]) -> None:
        """A session can be spoken to, and has claimed its device.

        :param deliver: is given what is kept for the device, and from now on what is
            posted to it. False: it cannot be sent after all, and stays kept.
        """

    def detach(device_id: str, session_id: str) -> None:
        """The session is over. Idempotent; does nothing to another one's."""
