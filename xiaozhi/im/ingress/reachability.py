"""Reachability of devices: claims in the presence table, and readers of the inbox."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from xiaozhi.base.values import Presence
from xiaozhi.im.counts import EdgeCounts
from xiaozhi.interfaces import IInboxReader, IPresence
from xiaozhi.wire.mail import Mail


class Reachability:
    """Claims devices for this process. Failures are logged and do not affect devices."""

    _log = Logger()

    def __init__(
        self,
        presence: IPresence,
        inbox: IInboxReader,
        node: str,
        wall: Callable[[], float],
        counts: EdgeCounts,
    ) -> None:
        """:param wall: wall clock: seconds since the epoch."""
        self._presence = presence
        self._inbox = inbox
        self._node = node
        self._wall = wall
        self._counts = counts
        self._away = False

    def claim(
        self,
        device_id: str,
        session_id: str,
        deliver: Callable[[Mail], bool],
        replaced: Callable[[], None],
    ) -> None:
        """Claim a device, also from another process, and receive its messages.

        :param session_id: id of a session, or of a connection without one.
        :param replaced: called once, when another claim replaces this one.
        """
        claim = Presence(device_id, session_id, self._node, self._wall())
        self._attempt(lambda: self._presence.claim(claim, replaced))
        self._inbox.attach(device_id, session_id, deliver)

    def release(self, device_id: str, session_id: str) -> None:
        """Release a claim; does not affect another session's. Idempotent."""
        self._inbox.detach(device_id, session_id)
        self._attempt(lambda: self._presence.release(device_id, session_id))

    def _attempt(self, call: Callable[[], Deferred[Any]]) -> None:
        def worked(_: object) -> None:
            self._away = False

        def failed(failure: Failure) -> None:
            self._counts.presence_errors += 1
            # Log once per series of failures.
            if not self._away:
                self._log.warn("presence: {error}", error=failure.getErrorMessage())
            self._away = True

        try:
            call().addCallbacks(worked, failed)
        except Exception:
            failed(Failure())
