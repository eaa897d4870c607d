"""The list of edges: each refreshes an entry in Redis."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from xiaozhi.base.errors import StoreError
from xiaozhi.cache.hub import RedisHub

# KEYS: when each node's entry expires; the entries. ARGV: node, its boot id, life of an
# entry in ms, the entry. Returns Redis' clock in microseconds, the boot id of the former
# entry, and all entries with their nodes.
_BEAT = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do
  redis.call('HDEL', KEYS[2], gone)
  redis.call('ZREM', KEYS[1], gone)
end
local before = string.match(redis.call('HGET', KEYS[2], ARGV[1]) or '', '^%S*')
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2] .. ' ' .. ARGV[4])
return {string.format('%.0f', clock[1] * 1000000 + clock[2]), before,
  redis.call('HGETALL', KEYS[2])}
"""

# KEYS: as above. ARGV: node, its boot id.
_LEAVE = """
local there = string.match(redis.call('HGET', KEYS[2], ARGV[1]) or '', '^%S*')
if there == ARGV[2] then
  redis.call('HDEL', KEYS[2], ARGV[1])
  redis.call('ZREM', KEYS[1], ARGV[1])
end
return 1
"""


class NodeRegistry:
    """Refreshes this process's entry and reads those of the others.

    Its heartbeat also notices that Redis is down or lost its data.
    """

    _log = Logger()

    def __init__(
        self,
        hub: RedisHub,
        boot: str,
        describe: Callable[[], Mapping[str, Any]],
        *,
        ttl: float = 20.0,
        interval: float = 5.0,
    ) -> None:
        """
        :param hub: started before and stopped after this.
        :param boot: unique id of this run of the process.
        :param describe: returns our entry, any JSON value.
        :param ttl: seconds that an entry outlives its node.
        :param interval: seconds; half of ``ttl`` or less.
        """
        self._hub = hub
        self._boot = boot
        self._describe = describe
        self._ttl = str(int(ttl * 1000))
        self._interval = interval
        self._keys = [hub.key("nodes", "due"), hub.key("nodes")]
        self._nodes: list[dict[str, Any]] = []
        self._known = False
        self._trouble = ""
        self._beating = LoopingCall(self._beat_quietly)
        self._beating.clock = hub.reactor
        hub.when_back(self._back)

    async def start(self) -> None:
        """:raises StoreError:"""
        await self._beat()
        self._beating.start(self._interval, now=False)

    async def stop(self) -> None:
        """Remove the entry. Idempotent."""
        if not self._beating.running:
            return
        self._beating.stop()
        try:
            await self._hub.script(_LEAVE, self._keys, [self._hub.node, self._boot])
        except StoreError as error:
            self._log.warn(
                "node registry: entry not removed, it will expire: {error}", error=str(error)
            )

    def nodes(self) -> list[dict[str, Any]]:
        """Return all nodes as of the last heartbeat, by name, including this one."""
        return self._nodes

    def trouble(self) -> str:
        """Describe the current fault in a few words; empty without one."""
        return self._trouble

    async def _beat(self) -> None:
        hub = self._hub
        entry = msgspec.json.encode(self._describe()).decode()
        started = hub.clock.start()
        now, before, entries = await hub.script(
            _BEAT, self._keys, [hub.node, self._boot, self._ttl, entry]
        )
        hub.clock.read(started, int(now))
        named = zip(entries[::2], entries[1::2], strict=True)
        self._nodes = sorted((_read(*pair) for pair in named), key=lambda node: str(node["node"]))
        self._notice(before)
        await hub.probe()

    def _notice(self, before: str) -> None:
        """Compare our entry with the one found.

        :param before: the boot id of our former entry.
        """
        trouble = ""
        if self._known and before and before != self._boot:
            trouble = f"another process calls itself {self._hub.node}: give each its own node"
        elif self._known and not before:
            self._log.warn("node registry: Redis lost this node's data; writing it again")
            self._hub.restore()
        self._known = True
        self._turn(trouble)

    def _turn(self, trouble: str) -> None:
        """Log a fault once when it begins and once when it ends."""
        if trouble and not self._trouble:
            self._log.warn("node registry: {trouble}", trouble=trouble)
        elif self._trouble and not trouble:
            self._log.info("node registry: recovered")
        self._trouble = trouble

    def _back(self) -> None:
        # Lost data is being restored already.
        self._known = False
        if self._beating.running:
            self._beat_quietly()

    def _beat_quietly(self) -> Deferred[None]:
        def failed(failure: Any) -> None:
            failure.trap(StoreError)
            self._turn(failure.value.message)

        return Deferred.fromCoroutine(self._beat()).addErrback(failed)


def _read(node: str, entry: str) -> dict[str, Any]:
    """Read a node's entry; another version may have written anything."""
    try:
        described = msgspec.json.decode(entry.partition(" ")[2], type=dict[str, Any])
    except msgspec.DecodeError:
        described = {}
    return {**described, "node": node}
