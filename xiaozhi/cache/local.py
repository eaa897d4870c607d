"""A process's own claims; alone they are the presence of a single process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from zope.interface import implementer

from xiaozhi.interfaces import IPresence
from xiaozhi.values import Presence


@dataclass(frozen=True, slots=True)
class Claim:
    presence: Presence
    replaced: Callable[[], None]


class Claims:
    """This process's claims, one per device."""

    _log = Logger()

    def __init__(self) -> None:
        self._by_device: dict[str, Claim] = {}

    def put(self, claim: Claim) -> Claim | None:
        """:return: another session's claim that stood there; it is not told yet."""
        previous = self._by_device.get(claim.presence.device_id)
        self._by_device[claim.presence.device_id] = claim
        if previous and previous.presence.session_id != claim.presence.session_id:
            return previous
        return None

    def get(self, device_id: str) -> Claim | None:
        return self._by_device.get(device_id)

    def take(self, device_id: str, session_id: str) -> Claim | None:
        """Remove a session's claim, if it has one."""
        claim = self._by_device.get(device_id)
        if claim is None or claim.presence.session_id != session_id:
            return None
        return self._by_device.pop(device_id)

    def all(self) -> list[Presence]:
        return [claim.presence for claim in self._by_device.values()]

    def clear(self) -> None:
        self._by_device.clear()

    def tell(self, claim: Claim | None) -> None:
        """Call ``replaced``; its failure is nobody else's."""
        if claim is None:
            return
        try:
            claim.replaced()
        except Exception:
            self._log.failure(
                "presence: replacing session {session_id} failed",
                session_id=claim.presence.session_id,
            )


@implementer(IPresence)
class LocalPresence:
    """Presence of a single process. Everything happens within the call."""

    def __init__(self) -> None:
        self._claims = Claims()

    def start(self) -> Deferred[None]:
        return succeed(None)

    def stop(self) -> Deferred[None]:
        self._claims.clear()
        return succeed(None)

    def claim(self, presence: Presence, replaced: Callable[[], None]) -> Deferred[Presence | None]:
        previous = self._claims.put(Claim(presence, replaced))
        self._claims.tell(previous)
        return succeed(previous.presence if previous else None)

    def release(self, device_id: str, session_id: str) -> Deferred[None]:
        self._claims.take(device_id, session_id)
        return succeed(None)

    def lookup(self, device_id: str) -> Deferred[Presence | None]:
        claim = self._claims.get(device_id)
        return succeed(claim.presence if claim else None)
