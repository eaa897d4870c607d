"""Presence shared by several processes through Redis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from xiaozhi.cache.connection import RedisAddress, RedisConnection
from xiaozhi.cache.local import Claim, Claims
from xiaozhi.errors import StoreError
from xiaozhi.interfaces import IPresence
from xiaozhi.values import Presence

# KEYS: one per device. ARGV: prefix of the nodes' channels, life of a key in ms, our
# node, then for every key device, session, since. Answers for every key whether the
# claim stands, and session, node, since of who held the device before. Both a claim
# and its refreshing: a key that was lost comes back.
_CLAIM = """
local answer = {}
for i, key in ipairs(KEYS) do
  local device, session, since = ARGV[3*i+1], ARGV[3*i+2], ARGV[3*i+3]
  local held = redis.call('HMGET', key, 'session_id', 'node', 'since')
  local foreign = held[1] and held[1] ~= session and held[2] ~= ARGV[3]
  if foreign and tonumber(held[3]) > tonumber(since) then
    answer[i] = {0, held[1], held[2], held[3]}
  else
    redis.call('HSET', key, 'session_id', session, 'node', ARGV[3], 'since', since)
    redis.call('PEXPIRE', key, ARGV[2])
    if foreign then
      redis.call('PUBLISH', ARGV[1] .. held[2], held[1] .. ' ' .. device)
    end
    answer[i] = {1, held[1] or '', held[2] or '', held[3] or ''}
  end
end
return answer
"""

# KEYS: one per device. ARGV: the session of each.
_RELEASE = """
for i, key in ipairs(KEYS) do
  if redis.call('HGET', key, 'session_id') == ARGV[i] then redis.call('DEL', key) end
end
return 1
"""

_AT_ONCE = 100
"""Devices to a script call: bounds how long one holds up Redis and the reactor."""


@implementer(IPresence)
class RedisPresence:
    """Presence of all processes that share a Redis.

    A device's key says who holds it and expires unless its node refreshes it. A node
    whose claim is replaced by another hears of it on its channel at once, and if
    that message was lost, at the next refresh.

    While Redis is away calls fail with ``presence_unavailable``. A claim made then
    still replaces this process's own older session, is remembered, and reaches Redis
    when it is back.
    """

    _log = Logger()

    def __init__(
        self,
        address: RedisAddress,
        reactor: Any,
        node: str,
        *,
        ttl: float = 90.0,
        refresh_interval: float = 30.0,
        timeout: float = 3.0,
        prefix: str = "xiaozhi",
    ) -> None:
        """
        :param ttl: seconds a key outlives its node.
        :param refresh_interval: seconds; a third of ``ttl`` or less.
        :param timeout: seconds for an answer of Redis; also to connect.
        """
        self._address = address
        self._reactor = reactor
        self._node = node
        self._ttl = ttl
        self._refresh_interval = refresh_interval
        self._claims = Claims()
        self._keys = f"{prefix}:presence:"
        # Channels, unlike keys, are shared by all databases of a server.
        self._channels = f"{prefix}:{address.database}:replaced:"
        self._commands = RedisConnection(address, reactor, timeout, regained=self._regained)
        self._news = RedisConnection(
            address,
            reactor,
            timeout,
            channel=self._channels + node,
            heard=self._heard,
            regained=self._regained,
        )
        self._refreshing = LoopingCall(self._refresh_quietly)
        self._refreshing.clock = reactor

    def start(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._start())

    def stop(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    def claim(self, presence: Presence, replaced: Callable[[], None]) -> Deferred[Presence | None]:
        previous = self._claims.put(Claim(presence, replaced))
        self._claims.tell(previous)
        return Deferred.fromCoroutine(self._claim(presence))

    def release(self, device_id: str, session_id: str) -> Deferred[None]:
        claim = self._claims.take(device_id, session_id)
        if claim is None:
            return succeed(None)
        return Deferred.fromCoroutine(self._release([claim.presence]))

    def lookup(self, device_id: str) -> Deferred[Presence | None]:
        return Deferred.fromCoroutine(self._lookup(device_id))

    async def _start(self) -> None:
        try:
            await self._commands.start()
            await self._news.start()
        except StoreError:
            await self._disconnect()
            raise
        self._refreshing.start(self._refresh_interval, now=False)

    async def _stop(self) -> None:
        if self._refreshing.running:
            self._refreshing.stop()
        held = self._claims.all()
        self._claims.clear()
        try:
            for at in range(0, len(held), _AT_ONCE):
                await self._release(held[at : at + _AT_ONCE])
        except StoreError as error:
            self._log.warn(
                "presence: keys are left to expire by themselves: {error}", error=str(error)
            )
        await self._disconnect()

    async def _disconnect(self) -> None:
        await self._news.stop()
        await self._commands.stop()

    async def _claim(self, presence: Presence) -> Presence | None:
        [(stands, held)] = await self._put([presence])
        if not stands:
            self._lost(presence.device_id, presence.session_id)
            return None
        return held if held and held.session_id != presence.session_id else None

    async def _put(self, presences: Sequence[Presence]) -> list[tuple[bool, Presence | None]]:
        arguments = [self._channels, str(int(self._ttl * 1000)), self._node]
        for presence in presences:
            arguments += [presence.device_id, presence.session_id, repr(presence.since)]
        answers = await self._commands.script(
            _CLAIM, [self._keys + presence.device_id for presence in presences], arguments
        )
        return [
            (
                bool(stands),
                Presence(presence.device_id, session, node, float(since)) if session else None,
            )
            for presence, (stands, session, node, since) in zip(presences, answers, strict=True)
        ]

    async def _release(self, presences: Sequence[Presence]) -> None:
        await self._commands.script(
            _RELEASE,
            [self._keys + presence.device_id for presence in presences],
            [presence.session_id for presence in presences],
        )

    async def _lookup(self, device_id: str) -> Presence | None:
        fields = ["session_id", "node", "since"]
        session, node, since = await self._commands.call("hmget", self._keys + device_id, fields)
        return Presence(device_id, session, node, float(since)) if session else None

    async def _refresh(self) -> None:
        held = self._claims.all()
        for at in range(0, len(held), _AT_ONCE):
            # Sessions may have ended meanwhile; theirs must not come back.
            part = [
                presence
                for presence in held[at : at + _AT_ONCE]
                if (claim := self._claims.get(presence.device_id))
                and claim.presence.session_id == presence.session_id
            ]
            if not part:
                continue
            for presence, (stands, _) in zip(part, await self._put(part), strict=True):
                if not stands:
                    self._lost(presence.device_id, presence.session_id)

        # Nothing else shows that the channel's connection, which only listens, is dead.
        await self._news.call("ping")

    def _regained(self) -> None:
        self._reactor.callLater(0, self._refresh_quietly)

    def _refresh_quietly(self) -> Deferred[None]:
        def failed(failure: Any) -> None:
            failure.trap(StoreError)
            self._log.warn("presence: not refreshed: {error}", error=str(failure.value))

        return Deferred.fromCoroutine(self._refresh()).addErrback(failed)

    def _heard(self, message: str) -> None:
        session_id, _, device_id = message.partition(" ")
        self._lost(device_id, session_id)

    def _lost(self, device_id: str, session_id: str) -> None:
        self._claims.tell(self._claims.take(device_id, session_id))
