"""The sessions that are open: what the bridge opens, and what health reports."""

from __future__ import annotations

from twisted.logger import Logger
from zope.interface import implementer

from xiaozhi.ai.assistant import Assistant
from xiaozhi.ai.session import Session
from xiaozhi.interfaces import ISessionAcceptor, ISessionEvents, ISessionLink
from xiaozhi.wire.messages import SessionOpen


@implementer(ISessionAcceptor)
class Sessions:
    """Makes a :class:`~xiaozhi.ai.session.Session` for each that the edge opens."""

    _log = Logger()

    def __init__(self, assistant: Assistant) -> None:
        self._assistant = assistant

    def accept(self, opening: SessionOpen, link: ISessionLink) -> ISessionEvents:
        self._assistant.counts.opened.add("resumed" if opening.resumed else "new")
        self._log.info(
            "{session_id}: {verb} by device {device_id}",
            session_id=opening.session_id,
            verb="taken up again" if opening.resumed else "opened",
            device_id=opening.device.device_id,
        )
        return Session(opening, link, self._assistant)
