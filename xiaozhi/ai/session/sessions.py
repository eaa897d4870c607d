"""The sessions that are open: what the bridge opens, and what health reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from weakref import WeakKeyDictionary

from twisted.logger import Logger
from zope.interface import implementer

from xiaozhi.ai.memory.history import Forgetful
from xiaozhi.ai.session.session import Session
from xiaozhi.ai.session.shared import SharedServices
from xiaozhi.base.ownership import DeviceState, Registered
from xiaozhi.interfaces import ISessionAcceptor, ISessionEvents, ISessionLink
from xiaozhi.wire.messages import Device, SessionOpen


@implementer(ISessionAcceptor)
class Sessions:
    """Makes a :class:`~xiaozhi.ai.session.session.Session` for each that the edge opens.

    A guest, whose device id nobody holds, is talked with, but neither learns what was
    said by that id before nor leaves anything behind.
    """

    _log = Logger()

    def __init__(
        self,
        assistant: SharedServices,
        holder: Callable[[str], Registered | None] = lambda device_id: None,
        met: Callable[[Device], None] = lambda device: None,
    ) -> None:
        """
        :param holder: who holds a device id.
        :param met: told of each device that opens a session.
        """
        self._assistant = assistant
        self._guests = replace(assistant, history=Forgetful(assistant.seconds))
        self._holder = holder
        self._met = met
        self._open: WeakKeyDictionary[Session, str] = WeakKeyDictionary()

    def accept(self, opening: SessionOpen, link: ISessionLink) -> ISessionEvents:
        device = opening.device
        self._assistant.counts.opened.add("resumed" if opening.resumed else "new")
        self._log.info(
            "{session_id}: {verb} by device {device_id}{guest}",
            session_id=opening.session_id,
            verb="taken up again" if opening.resumed else "opened",
            device_id=device.device_id,
            guest=", which nobody holds" if device.guest else "",
        )
        session = Session(opening, link, self._guests if device.guest else self._assistant)
        self._open[session] = device.device_id
        held = self._holder(device.device_id)
        if held is not None and held.state is DeviceState.REVOKED:
            # Edges refuse such devices; this one knows another registry, or an older state.
            # Not at once: the bridge has yet to be told whom to deliver to.
            self._assistant.clock.callLater(0, session.dismiss, "revoked")
        else:
            self._met(device)
        return session

    def owner_changed(self, registered: Registered) -> None:
        """End the sessions of a device that was revoked."""
        if registered.state is DeviceState.REVOKED:
            for session, device_id in [*self._open.items()]:
                if device_id == registered.device_id:
                    session.dismiss("revoked")
