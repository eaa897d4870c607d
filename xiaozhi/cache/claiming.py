"""Claims of devices in Redis: the scripts, and the fencing tokens they make.

Redis makes a token when a connection claims its device: its clock in microseconds, but
always more than any earlier token. So tokens follow the order of connections, whatever the
edges' clocks show. The order survives a Redis that lost its data: its clock has advanced,
and edges send the highest token they know.
The highest token holds the device; a refreshed claim keeps its token.

A claim that reaches Redis late, after an outage, gets the time of its connection by Redis'
clock as its token: it loses to any later connection elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from xiaozhi.base.values import Presence
from xiaozhi.cache.claims import PresenceClaim
from xiaozhi.cache.hub import RedisHub

# KEYS: the fence, then one per device. ARGV: prefix of the nodes' channels, life of a
# key in ms, our node, the highest token we know, the prompt limit in microseconds; then
# for every key device, session, since, token (0: none yet), claimed (microseconds).
# Answers Redis' clock; then for every key whether the claim stands, its token, and
# session, node, since of who held the device before; 1 for one with a token that stands.
_CLAIM = """
local function text(number) return string.format('%.0f', number) end
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local fence = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), tonumber(ARGV[4]))
local answer = {text(now)}
for i = 2, #KEYS do
  local at = 5 * (i - 1)
  local device, session, since = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local token, claimed = tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])
  local held = redis.call('HMGET', KEYS[i], 'session_id', 'node', 'since', 'token')
  local holds, known = tonumber(held[4] or '0'), token ~= 0
  local foreign = held[1] and held[1] ~= session and held[2] ~= ARGV[3]
  if held[1] == session then
    token = math.max(token, holds)
  elseif token == 0 then
    if now - claimed < tonumber(ARGV[5]) then
      token = math.max(fence + 1, now)
    else
      token = claimed
    end
    if held[1] and not foreign then token = math.max(token, holds + 1) end
  end
  fence = math.max(fence, token)
  if foreign and holds >= token then
    answer[i] = {0, text(holds), held[1], held[2], held[3]}
  else
    redis.call('HSET', KEYS[i],
      'session_id', session, 'node', ARGV[3], 'since', since, 'token', text(token))
    redis.call('PEXPIRE', KEYS[i], ARGV[2])
    if foreign then
      redis.call('PUBLISH', ARGV[1] .. held[2], 'replaced ' .. held[1] .. ' ' .. device)
    end
    answer[i] = known and 1 or {1, text(token), held[1] or '', held[2] or '', held[3] or ''}
  end
end
redis.call('SET', KEYS[1], text(fence))
return answer
"""

# KEYS: one per device. ARGV: the session of each.
_RELEASE = """
for i, key in ipairs(KEYS) do
  if redis.call('HGET', key, 'session_id') == ARGV[i] then redis.call('DEL', key) end
end
return 1
"""

_PROMPT = 250_000
"""Microseconds: claims that take no longer are ordered by their arrival at Redis."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """The answer of Redis to a claim.

    :ivar stands: False: a newer connection holds the device.
    :ivar held: the claim that held the device before, or still does.
    """

    stands: bool
    token: int
    held: Presence | None


class ClaimTable:
    """The claims of all processes, in Redis."""

    def __init__(self, hub: RedisHub, ttl: float) -> None:
        """:param ttl: seconds a claim outlives its node."""
        self._hub = hub
        self._ttl = str(int(ttl * 1000))
        self._highest = 0

    def key(self, device_id: str) -> str:
        """Return the key of a device's claim."""
        return self._hub.key("presence", device_id)

    async def put(self, claims: Sequence[PresenceClaim]) -> list[Ruling]:
        """Make or refresh claims; a lost key is written again.

        :raises StoreError:
        """
        hub = self._hub
        keys = [hub.key("fence"), *(self.key(claim.presence.device_id) for claim in claims)]
        arguments = [hub.channels, self._ttl, hub.node, str(self._highest), str(_PROMPT)]
        for claim in claims:
            one = claim.presence
            arguments += [one.device_id, one.session_id, repr(one.since)]
            arguments += [str(claim.token), str(claim.claimed)]
        started = hub.clock.start()
        now, *answers = await hub.script(_CLAIM, keys, arguments)
        hub.clock.read(started, int(now))
        return [self._ruling(*pair) for pair in zip(claims, answers, strict=True)]

    def _ruling(self, claim: PresenceClaim, answer: Any) -> Ruling:
        if answer == 1:
            return Ruling(True, claim.token, None)
        stands, token, session, node, since = answer
        device_id = claim.presence.device_id
        held = Presence(device_id, session, node, float(since)) if session else None
        self._highest = max(self._highest, int(token))
        if stands:
            claim.token = int(token)
        return Ruling(bool(stands), int(token), held)

    async def remove(self, presences: Sequence[Presence]) -> None:
        """Remove those claims that still stand.

        :raises StoreError:
        """
        keys = [self.key(presence.device_id) for presence in presences]
        await self._hub.script(_RELEASE, keys, [presence.session_id for presence in presences])

    async def find(self, device_id: str) -> Presence | None:
        """Return the holder of a device.

        :raises StoreError:
        """
        fields = ["session_id", "node", "since"]
        session, node, since = await self._hub.call("hmget", self.key(device_id), fields)
        return Presence(device_id, session, node, float(since)) if session else None
