"""Open sessions: accept them from the bridge, end them when a device is revoked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from weakref import WeakKeyDictionary

from twisted.logger import Logger
from zope.interface import implementer

from xiaozhi.ai.memory.history import Forgetful
from xiaozhi.ai.session.leases import Leases
from xiaozhi.ai.session.session import Session
from xiaozhi.ai.session.shared import SharedServices
from xiaozhi.base.ownership import DeviceState, Registered
from xiaozhi.interfaces import IServiceEvents, IServiceLink, ISessionAcceptor
from xiaozhi.wire.messages import Device, SessionOpen


@implementer(ISessionAcceptor)
class Sessions:
    """Makes a :class:`~xiaozhi.ai.session.session.Session` for each that an edge opens.

    A guest, a device whose id has no owner, is served without history: it neither receives
    earlier dialogue of its id nor leaves any.
    """

    _log = Logger()

    def __init__(
        self,
        shared: SharedServices,
        leases: Leases,
        holder: Callable[[str], Registered | None] = lambda device_id: None,
        met: Callable[[Device], None] = lambda device: None,
    ) -> None:
        """
        :param leases: finds the agent of a device.
        :param holder: returns the registration of a device id.
        :param met: called for each device that opens a session.
        """
        self._shared = shared
        self._guests = replace(shared, history=Forgetful(shared.runtime.seconds))
        self._leases = leases
        self._holder = holder
        self._met = met
        self._open: WeakKeyDictionary[Session, str] = WeakKeyDictionary()

    def accept(self, opening: SessionOpen, link: IServiceLink) -> IServiceEvents:
        device = opening.device
        self._shared.counts.opened.add("resumed" if opening.resumed else "new")
        self._log.info(
            "{session_id}: {verb} by device {device_id}{guest}",
            session_id=opening.session_id,
            verb="resumed" if opening.resumed else "opened",
            device_id=device.device_id,
            guest=", a guest" if device.guest else "",
        )
        shared = self._guests if device.guest else self._shared
        session = Session(opening, link, shared, self._leases)
        self._open[session] = device.device_id
        held = self._holder(device.device_id)
        if held is not None and held.state is DeviceState.REVOKED:
            # The edge should have refused it; its registry differs from ours or is older.
            # Later: the bridge does not know the session yet.
            self._shared.clock.callLater(0, session.end, "revoked")
        else:
            self._met(device)
        return session

    def owner_changed(self, registered: Registered) -> None:
        """End the sessions of a device if it was revoked."""
        if registered.state is DeviceState.REVOKED:
            for session, device_id in [*self._open.items()]:
                if device_id == registered.device_id:
                    session.end("revoked")
