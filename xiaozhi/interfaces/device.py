"""Seams around a device: transport, authentication, presence, inbox."""

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
    """A device's connection over any transport, as its link sees it."""

    name: str = Attribute("The transport as the hello names it, e.g. ``websocket``.")

    def greet(hello: Hello) -> ChannelTerms:
        """Derive the transport's own terms from the device's hello, before it is answered."""

    def send_text(text: str) -> None:
        """Send one JSON text."""

    def send_audio(audio: Audio) -> int:
        """Send one Opus packet with its timestamp.

        :return: bytes on the wire.
        :raises ProtocolError: the transport cannot carry this packet.
        """

    def close(reason: CloseReason, detail: str) -> None:
        """Close the connection. Returns at once; nothing is sent afterwards.

        :param detail: for the device and the log, e.g. ``idle``.
        """

    def code_of(reason: CloseReason) -> int:
        """Map a reason to the transport's own number, for the log."""

    def probe() -> None:
        """Request a sign of life from the device."""

    def pause() -> None:
        """Stop reading from the device."""

    def resume() -> None:
        """Read again."""


class IDeviceEvents(Interface):
    """The link's side of an :class:`IDeviceChannel`: called on the reactor, in order."""

    def text_received(text: str) -> None:
        """Handle a JSON text."""

    def audio_received(audio: Audio, size: int) -> None:
        """Handle an audio packet.

        :param size: bytes on the wire.
        """

    def malformed(error: ProtocolError, size: int) -> None:
        """Handle bytes that are not a packet."""

    def alive(size: int) -> bool:
        """Handle a control message of the transport, e.g. a keep-alive.

        :return: whether the transport may answer it: False for a device that floods or
            does not read.
        """

    def congested() -> None:
        """Stop sending speech: the device does not read, and the send queue is full."""

    def uncongested() -> None:
        """Resume speech: the device reads again."""

    def abused(what: str) -> None:
        """Close the connection: the device has exceeded a limit of the transport."""

    def lost(ending: Ending) -> None:
        """Handle the end of the connection; nothing follows."""


class IPresentDevice(Interface):
    """A device that is reachable without a session, such as an idle MQTT device."""

    def deliver(mail: Mail) -> bool:
        """Send a message now.

        :return: False: it cannot be sent, and stays in the inbox.
        """

    def dismiss(reason: CloseReason, detail: str) -> None:
        """Close the connection: the device is connected elsewhere, or no longer allowed."""


class IAuthenticator(Interface):
    """Decides which devices may connect."""

    def authenticate(token: str | None, device_id: str, client_id: str) -> Device:
        """Authenticate a device.

        :param token: as sent, with or without ``Bearer``.
        :raises AuthError: the device is refused; has the HTTP status of the reply.
        """


class IDeviceTokens(Interface):
    """Issues the tokens that an :class:`IAuthenticator` accepts."""

    def issue(device: Device, scope: str, ttl: float) -> str:
        """Return a new token.

        :param scope: ``device`` for the WebSocket, ``vision`` for picture uploads.
        :param ttl: lifetime in seconds.
        """

    def verify(token: str | None, device_id: str, scope: str) -> Device:
        """Check a token and return its device.

        :raises AuthError: the token is invalid.
        """


class IPresence(Interface):
    """The record of which edge process holds which device.

    The newest claim wins, also between processes and independently of their clocks
    (§9, 22 and 23).
    """

    def start() -> Deferred[None]:
        """Connect.

        :raises StoreError: the backend is unavailable; the message names the address.
        """

    def stop() -> Deferred[None]:
        """Remove this node's claims and disconnect."""

    def claim(presence: Presence, replaced: Callable[[], None]) -> Deferred[Presence | None]:
        """Claim a device.

        :param replaced: called once if another session claims the device later.
        :return: the claim that was replaced, if any.
        """

    def release(device_id: str, session_id: str) -> Deferred[None]:
        """Release the claim of a session that ended. Does not affect another session's."""

    def lookup(device_id: str) -> Deferred[Presence | None]:
        """Return the claim of a device, if any."""


class IDeviceInbox(Interface):
    """Reaches a device wherever it is connected, or at its next connection."""

    def post(device_id: str, mail: Mail, ttl: float) -> Deferred[Receipt]:
        """Send a message now, or keep it; in order per device, and once.

        :param ttl: seconds to keep it for a device that is not connected; 0: do not keep it.
        :raises StoreError: ``inbox_full`` or ``inboxes_full``: the limit of kept messages is
            reached, for the device or in total; ``presence_unavailable``.
        """


class IInboxReader(Interface):
    """The edge's side of an :class:`IDeviceInbox`."""

    def attach(device_id: str, session_id: str, deliver: Callable[[Mail], bool]) -> None:
        """Start delivery to a session that has claimed its device and accepts messages.

        :param deliver: receives the kept messages and those posted from now on. It returns
            False if a message cannot be sent; the message is then kept.
        """

    def detach(device_id: str, session_id: str) -> None:
        """Stop delivery to a session that is over. Idempotent; does not affect another one."""
