"""Seams around a device: its transport, who may connect, where it is, what waits for it."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from xiaozhi.base.closing import ChannelTerms, CloseReason, Ending
from xiaozhi.base.errors import ProtocolError
from xiaozhi.base.values import Presence, Receipt
from xiaozhi.wire.mail import Mail
from xiaozhi.wire.messages import Audio, Device, Hello


class IDeviceChannel(Interface):
    """A device's connection as its link sees it, whatever carries it."""

    name: str = Attribute("The transport as the hello names it, e.g. ``websocket``.")

    def greet(hello: Hello) -> ChannelTerms:
        """Settle the transport's own terms by the device's hello, before it is answered."""

    def send_text(text: str) -> None:
        """Send one JSON text."""

    def send_audio(audio: Audio) -> int:
        """Send one Opus packet with its timestamp.

        :return: bytes on the wire.
        :raises ProtocolError: the transport cannot carry this packet.
        """

    def close(reason: CloseReason, detail: str) -> None:
        """Close the connection. Returns at once; nothing is sent after.

        :param detail: for the device and the log, e.g. ``idle``.
        """

    def code_of(reason: CloseReason) -> int:
        """Map a reason to the transport's own number, for the log."""

    def probe() -> None:
        """Ask the device for a sign of life."""

    def pause() -> None:
        """Stop reading from the device."""

    def resume() -> None:
        """Read again."""


class IDeviceEvents(Interface):
    """The link's side of an :class:`IDeviceChannel`: called on the reactor, in order."""

    def text_received(text: str) -> None:
        """A JSON text came."""

    def audio_received(audio: Audio, size: int) -> None:
        """A packet came.

        :param size: bytes on the wire.
        """

    def malformed(error: ProtocolError, size: int) -> None:
        """Bytes came that are no packet."""

    def alive(size: int) -> bool:
        """Traffic of the transport itself came, e.g. a keep-alive.

        :return: whether the transport may answer it: False for a device that floods or
            does not read.
        """

    def congested() -> None:
        """The device does not read: the send buffer is full."""

    def uncongested() -> None:
        """The device reads again."""

    def abused(what: str) -> None:
        """The device is over a limit of the transport: close it."""

    def lost(ending: Ending) -> None:
        """The connection is gone, or closing for good; nothing follows."""


class IPresentDevice(Interface):
    """A device that can be reached without a session, as an idle MQTT device."""

    def deliver(mail: Mail) -> bool:
        """Send a message now.

        :return: False: it cannot be sent after all, and stays in the inbox.
        """

    def dismiss(reason: CloseReason, detail: str) -> None:
        """Close the connection: the device is connected elsewhere, or not allowed any more."""


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
