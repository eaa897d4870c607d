"""Presence shared by several processes through Redis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from xiaozhi.base.errors import StoreError
from xiaozhi.base.values import Presence
from xiaozhi.cache.claiming import ClaimTable
from xiaozhi.cache.claims import Claims, PresenceClaim
from xiaozhi.cache.hub import RedisHub
from xiaozhi.interfaces import IPresence

_AT_ONCE = 50
"""Devices per script call; bounds how long a call occupies Redis and the reactor."""


@implementer(IPresence)
class RedisPresence:
    """Presence of all processes that share a Redis.

    A device's key has its holder and fencing token (see :mod:`xiaozhi.cache.claiming`), and
    expires unless its node refreshes it. A node whose claim was replaced is notified on its
    channel at once; if that message is lost, it notices at the next refresh.

    Without Redis, calls fail with ``presence_unavailable``. A claim made then still
    replaces an older session of this process. It is kept and reaches Redis on its return,
    with the time of the claim.
    """

    _log = Logger()

    def __init__(self, hub: RedisHub, *, ttl: float = 90.0, refresh_interval: float = 30.0) -> None:
        """
        :param hub: started before and stopped after this.
        :param ttl: seconds that a key outlives its node.
        :param refresh_interval: seconds; half of ``ttl`` or less.
        """
        self._hub = hub
        self._refresh_interval = refresh_interval
        self._claims = Claims()
        self._table = ClaimTable(hub, ttl)
        self._refreshing = LoopingCall(self._refresh_quietly)
        self._refreshing.clock = hub.reactor
        self._late = False
        hub.on("replaced", self._heard)
        hub.when_back(self._refresh_soon)

    def start(self) -> Deferred[None]:
        self._refreshing.start(self._refresh_interval, now=False)
        return succeed(None)

    def stop(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    def claim(self, presence: Presence, replaced: Callable[[], None]) -> Deferred[Presence | None]:
        claim = PresenceClaim(presence, replaced, claimed=self._hub.clock.micros())
        self._claims.tell(self._claims.put(claim))
        return Deferred.fromCoroutine(self._claim(claim))

    def release(self, device_id: str, session_id: str) -> Deferred[None]:
        claim = self._claims.take(device_id, session_id)
        if claim is None:
            return succeed(None)
        return Deferred.fromCoroutine(self._table.remove([claim.presence]))

    def lookup(self, device_id: str) -> Deferred[Presence | None]:
        return Deferred.fromCoroutine(self._table.find(device_id))

    async def _stop(self) -> None:
        if self._refreshing.running:
            self._refreshing.stop()
        held = [claim.presence for claim in self._claims.all()]
        self._claims.clear()
        try:
            for at in range(0, len(held), _AT_ONCE):
                await self._table.remove(held[at : at + _AT_ONCE])
        except StoreError as error:
            self._log.warn(
                "presence: keys not removed, they will expire: {error}", error=str(error)
            )

    async def _claim(self, claim: PresenceClaim) -> Presence | None:
        [ruling] = await self._table.put([claim])
        if not ruling.stands:
            self._lost(claim)
            return None
        held = ruling.held
        return held if held and held.session_id != claim.presence.session_id else None

    async def _refresh(self) -> None:
        held = self._claims.all()
        for at in range(0, len(held), _AT_ONCE):
            # Sessions may have ended meanwhile; do not write theirs again.
            part = [claim for claim in held[at : at + _AT_ONCE] if self._claims.stands(claim)]
            if not part:
                continue
            for claim, ruling in zip(part, await self._table.put(part), strict=True):
                if not ruling.stands:
                    self._lost(claim)

    def _refresh_soon(self) -> None:
        if self._refreshing.running:
            self._refresh_quietly()

    def _refresh_quietly(self) -> Deferred[None]:
        def refreshed(_: None) -> None:
            if self._late:
                self._log.info("presence: refreshed again")
            self._late = False

        def failed(failure: Any) -> None:
            failure.trap(StoreError)
            if not self._late:
                self._log.warn("presence: not refreshed: {error}", error=str(failure.value))
            self._late = True

        return Deferred.fromCoroutine(self._refresh()).addCallbacks(refreshed, failed)

    def _heard(self, message: str) -> None:
        session_id, _, device_id = message.partition(" ")
        self._claims.tell(self._claims.take(device_id, session_id))

    def _lost(self, claim: PresenceClaim) -> None:
        self._claims.tell(self._claims.take(claim.presence.device_id, claim.presence.session_id))
