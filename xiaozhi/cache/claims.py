"""A process's own claims."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted.logger import Logger

from xiaozhi.base.values import Presence


@dataclass(slots=True)
class PresenceClaim:
    """One of this process's claims.

    :ivar token: the fencing token; 0 until Redis made one.
    :ivar claimed: when, in microseconds on Redis' clock.
    """

    presence: Presence
    replaced: Callable[[], None]
    token: int = 0
    claimed: int = 0


class Claims:
    """This process's claims, one per device."""

    _log = Logger()

    def __init__(self) -> None:
        self._by_device: dict[str, PresenceClaim] = {}

    def put(self, claim: PresenceClaim) -> PresenceClaim | None:
        """:return: another session's claim that it replaced; the caller notifies that session."""
        previous = self._by_device.get(claim.presence.device_id)
        self._by_device[claim.presence.device_id] = claim
        if previous and previous.presence.session_id != claim.presence.session_id:
            return previous
        return None

    def get(self, device_id: str) -> PresenceClaim | None:
        return self._by_device.get(device_id)

    def take(self, device_id: str, session_id: str) -> PresenceClaim | None:
        """Remove a session's claim, if it has one."""
        claim = self._by_device.get(device_id)
        if claim is None or claim.presence.session_id != session_id:
            return None
        return self._by_device.pop(device_id)

    def stands(self, claim: PresenceClaim) -> bool:
        """Whether this claim is still the newest one here."""
        return self._by_device.get(claim.presence.device_id) is claim

    def all(self) -> list[PresenceClaim]:
        return list(self._by_device.values())

    def clear(self) -> None:
        self._by_device.clear()

    def tell(self, claim: PresenceClaim | None) -> None:
        """Call ``replaced``; an error in it is logged and goes no further."""
        if claim is None:
            return
        try:
            claim.replaced()
        except Exception:
            self._log.failure(
                "presence: replacing session {session_id} failed",
                session_id=claim.presence.session_id,
            )
