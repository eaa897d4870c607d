"""The seam between links and the session log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from xiaozhi.base.values import LogDirection, SessionStatus
from xiaozhi.wire.messages import Device


class SessionLog(Protocol):
    """The session, message and event log, as links write it.

    No method waits or raises. The log's own setting decides whether words in ``content`` are
    kept.
    """

    def session_started(
        self, session_id: str, device: Device, metadata: Mapping[str, Any]
    ) -> None: ...

    def session_changed(self, session_id: str, status: SessionStatus) -> None: ...

    def message(
        self, session_id: str, message_type: str, direction: LogDirection, content: str | None
    ) -> None: ...

    def event(self, session_id: str, event_type: str, data: Mapping[str, Any]) -> None: ...
