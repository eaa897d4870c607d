"""The presence of a single process."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from xiaozhi.base.values import Presence
from xiaozhi.cache.claims import Claims, PresenceClaim
from xiaozhi.interfaces import IPresence


@implementer(IPresence)
class LocalPresence:
    """Presence of a single process; every call completes at once."""

    def __init__(self) -> None:
        self._claims = Claims()

    def start(self) -> Deferred[None]:
        return succeed(None)

    def stop(self) -> Deferred[None]:
        self._claims.clear()
        return succeed(None)

    def claim(self, presence: Presence, replaced: Callable[[], None]) -> Deferred[Presence | None]:
        previous = self._claims.put(PresenceClaim(presence, replaced))
        self._claims.tell(previous)
        return succeed(previous.presence if previous else None)

    def release(self, device_id: str, session_id: str) -> Deferred[None]:
        self._claims.take(device_id, session_id)
        return succeed(None)

    def lookup(self, device_id: str) -> Deferred[Presence | None]:
        claim = self._claims.get(device_id)
        return succeed(claim.presence if claim else None)
