"""Gateway: admission, and the table of device links of one edge process."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from secrets import token_urlsafe

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from xiaozhi.base.closing import CloseReason
from xiaozhi.base.errors import AuthError
from xiaozhi.base.ownership import DeviceState, Registered, fingerprint
from xiaozhi.im.ingress.admission import Credentials, Refusal
from xiaozhi.im.ingress.attendance import Attendance, Attendances
from xiaozhi.im.ingress.entrance import Entrance
from xiaozhi.im.ingress.reachability import Reachability
from xiaozhi.im.session.arrival import Arrival
from xiaozhi.im.session.context import EdgeTimers, LinkContext
from xiaozhi.im.session.link import DeviceLink
from xiaozhi.im.sessionlog.log import SessionLog
from xiaozhi.im.settings import EdgeSettings
from xiaozhi.interfaces import (
    IAuthenticator,
    IBridge,
    IDeviceChannel,
    IInboxReader,
    IPresence,
    IPresentDevice,
)
from xiaozhi.web.limits.buckets import Buckets
from xiaozhi.wire.messages import Device


def new_session_id() -> str:
    """Return 24 unguessable characters of ``[A-Za-z0-9_-]``."""
    return token_urlsafe(18)


@dataclass(frozen=True, slots=True)
class EdgeServices:
    """The services behind a gateway.

    :ivar inbox: receives the devices that are reachable here.
    """

    bridge: IBridge
    log: SessionLog
    authenticator: IAuthenticator
    presence: IPresence
    inbox: IInboxReader


class Gateway:
    """The table of live links, by device and by session.

    A device has one link; its newest connection wins (§9, 22 and 23). The older link ends
    before the newer one replaces it, so they share nothing.

    :ivar context: state that links share.
    :ivar entrance: state that ports and protocols share.
    :ivar node: name of this process.
    :ivar connections: number of admitted sockets that are not gone yet.
    """

    _log = Logger()

    def __init__(
        self,
        services: EdgeServices,
        clock: IReactorTime,
        settings: EdgeSettings,
        node: str,
        new_session_id: Callable[[], str] = new_session_id,
    ) -> None:
        """:param node: this process's name in the presence table."""
        timers = EdgeTimers.on(clock)
        self.context = LinkContext(services.bridge, services.log, timers, settings, new_session_id)
        self.entrance = Entrance(settings, timers, self.context.counts)
        self.connections = 0
        self._authenticator = services.authenticator
        self.node = node
        self._reachability = Reachability(
            services.presence, services.inbox, node, timers.wall, self.context.counts
        )
        self._attendances = Attendances(
            self._reachability, new_session_id, lambda device_id: device_id in self._reached
        )
        # Links that have received a hello, and are claimed.
        self._reached: dict[str, DeviceLink] = {}
        self._by_device: dict[str, DeviceLink] = {}
        self._by_session: dict[str, DeviceLink] = {}
        self._attempts = Buckets(settings.gateway.device_rate, settings.gateway.device_burst)
        self._draining = False
        self._drained: Deferred[None] | None = None

    @property
    def draining(self) -> bool:
        """Whether new connections are refused because the process stops."""
        return self._draining

    def links(self) -> Collection[DeviceLink]:
        """Links that are not over."""
        return self._by_session.values()

    def link_of(self, device_id: str) -> DeviceLink | None:
        """Return a device's link."""
        return self._by_device.get(device_id)

    def link(self, session_id: str) -> DeviceLink | None:
        """Return a session's link."""
        return self._by_session.get(session_id)

    # --- coming and going ---------------------------------------------------------

    def admit(self, offered: Credentials) -> Device:
        """Authenticate a connection before its 101.

        :raises AuthError: the device is not allowed.
        :raises Refusal: the connection is not possible now.
        """
        if self._draining:
            raise Refusal(503, "draining", "this server is stopping; connect again")
        if self.connections >= self.context.settings.gateway.max_connections:
            raise Refusal(503, "too_many_connections", "this server is full; try again later")
        device = self._authenticator.authenticate(
            offered.token, offered.device_id, offered.client_id
        )
        former = self._by_device.get(device.device_id)
        if device.guest and former is not None and not former.device.guest:
            raise AuthError("wrong_client", "the device is connected as another client", 403)
        # Only after authentication, or anybody could lock out a device by its id.
        if not self._attempts.take(device.device_id, self.context.timers.clock.seconds()):
            raise Refusal(429, "device_rate", "this device connects too often; wait a moment")
        return device

    def connect(self, channel: IDeviceChannel, arrival: Arrival) -> DeviceLink:
        """Make the link of an open connection; :meth:`connection_gone` must follow."""
        device_id = arrival.device.device_id
        former = self._by_device.get(device_id)
        if former is not None:
            former.replaced()
        link = DeviceLink(self.context, self, channel, arrival)
        self._by_device[device_id] = self._by_session[link.session_id] = link
        link.connected()
        # Last: connection_gone() is not called for a connection that fails here.
        self.connections += 1
        return link

    def greeted(self, link: DeviceLink) -> None:
        """Claim a device that has sent its hello, and deliver its posted messages.

        Not before the hello: a connection that was abandoned early must not replace one at
        another edge. A guest is not claimed: messages to its device id are not for it.
        """
        if link.device.guest:
            return
        device_id = link.device.device_id
        self._reached[device_id] = link
        self._reachability.claim(
            device_id, link.session_id, link.deliver, lambda: self._replaced(link)
        )

    def session_over(self, link: DeviceLink) -> None:
        """Remove a link that is over; its connection may still be closing."""
        device_id, session_id = link.device.device_id, link.session_id
        self._by_session.pop(session_id, None)
        if self._by_device.get(device_id) is link:
            del self._by_device[device_id]
        self._reachability.release(device_id, session_id)
        if self._reached.get(device_id) is link:
            del self._reached[device_id]
            self._attendances.session_over(device_id)

    def _replaced(self, link: DeviceLink) -> None:
        """Close the link: another process has claimed the device."""
        self._attendances.dismiss(link.device.device_id, CloseReason.REPLACED, "replaced")
        link.replaced()

    def attend(self, device: Device, present: IPresentDevice) -> Attendance:
        """Make a device that is connected without a session reachable.

        ``present`` receives its messages, except during a session that it opens with
        :meth:`connect`. :meth:`Attendance.leave` must follow.
        """
        return self._attendances.add(device, present)

    @property
    def present(self) -> int:
        """The number of devices in the table of present devices."""
        return len(self._attendances)

    def owner_changed(self, registered: Registered) -> None:
        """Close the links of a device id that was bound to another client, or revoked."""
        if registered.state is DeviceState.REVOKED:
            self._attendances.dismiss(registered.device_id, CloseReason.LIMIT, "revoked")
        link = self._by_device.get(registered.device_id)
        if link is None:
            return
        client = link.device.client_id
        revoked = registered.state is DeviceState.REVOKED
        if (
            revoked
            or (client and fingerprint(client) != registered.client)
            or (link.device.guest and not client)
        ):
            self._log.info(
                "device {device_id} is disconnected: {why}",
                device_id=registered.device_id,
                why="it was revoked" if revoked else "it belongs to another client",
            )
            link.dismissed("revoked" if revoked else "wrong_client")

    def connection_gone(self) -> None:
        """Uncount a connection that was passed to :meth:`connect`."""
        self.connections -= 1
        self._check_drained()

    # --- stopping ------------------------------------------------------------------------

    def drain(self, timeout: float) -> Deferred[None]:
        """Refuse new connections and disconnect the devices.

        A device in a turn plays its current sentence to the end.

        :param timeout: seconds until the remaining devices are disconnected too.
        :return: fires when every socket is gone, at the latest ``close_timeout``
            after ``timeout``.
        """
        self._draining = True
        if self._drained is not None:
            return self._drained
        self._attendances.drain()
        for link in list(self._by_session.values()):
            link.drain()
        if not self.connections:
            return succeed(None)
        drained: Deferred[None] = Deferred()
        self._drained = drained
        hurry = self.context.timers.clock.callLater(timeout, self._hurry)

        def done(result: None) -> None:
            if hurry.active():
                hurry.cancel()

        return drained.addCallback(done)

    def _hurry(self) -> None:
        for link in list(self._by_session.values()):
            link.go_away()

    def _check_drained(self) -> None:
        drained = self._drained
        if drained is not None and not self.connections and not drained.called:
            drained.callback(None)

    def stop(self) -> None:
        """Release the timers; call when all connections are gone."""
        self.context.timers.stop()
        self.entrance.stop()
