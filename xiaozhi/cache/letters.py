"""Letters: messages stored in Redis until a device takes them.

A device has a list of letter ids; each letter is a key of its own and expires by itself.
The session that holds the device's claim may take them. Taken letters stay, leased to that
session, until it settles those it sent. So none is lost with an answer of Redis or with an
edge, and no two edges send the same one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from xiaozhi.base.errors import StoreError
from xiaozhi.cache.hub import RedisHub
from xiaozhi.cache.settings import InboxSettings
from xiaozhi.wire.mail import Mail

# KEYS: the device's list, its letters' prefix, when each letter of any device expires, the
# device's claim. ARGV: device, letter id, letter, ttl in ms, the same for a device that
# is not connected (0: not at all), most for a device, most in all, prefix of the nodes'
# channels. Returns the outcome, the notified node, and the expiry time (ms).
_PUT = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
for _, id in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
  if redis.call('EXISTS', KEYS[2] .. id) == 0 then redis.call('LREM', KEYS[1], 1, id) end
end
local node = redis.call('HGET', KEYS[4], 'node')
local ttl = tonumber(ARGV[5])
if ttl == 0 then
  if not node then return {'absent', '', '0'} end
  ttl = tonumber(ARGV[4])
end
if redis.call('LLEN', KEYS[1]) >= tonumber(ARGV[6]) then return {'inbox_full', '', '0'} end
if redis.call('ZCARD', KEYS[3]) >= tonumber(ARGV[7]) then return {'inboxes_full', '', '0'} end
redis.call('RPUSH', KEYS[1], ARGV[2])
redis.call('SET', KEYS[2] .. ARGV[2], ARGV[3], 'PX', ttl)
redis.call('ZADD', KEYS[3], now + ttl, ARGV[2])
redis.call('PEXPIRE', KEYS[1], math.max(ttl, redis.call('PTTL', KEYS[1])))
if node and redis.call('PUBLISH', ARGV[8] .. node, 'mail ' .. ARGV[1]) == 0 then node = false end
return {'put', node or '', string.format('%.0f', now + ttl)}
"""

# KEYS: the device's list, its letters' prefix, who has taken from it, the device's
# claim. ARGV: session, lease in ms. Returns the outcome, then ids and letters.
_TAKE = """
local taker = redis.call('GET', KEYS[3])
if redis.call('HGET', KEYS[4], 'session_id') ~= ARGV[1] or taker and taker ~= ARGV[1] then
  return {'later'}
end
local answer = {'taken'}
for _, id in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
  local letter = redis.call('GET', KEYS[2] .. id)
  if letter then
    answer[#answer + 1] = id
    answer[#answer + 1] = letter
  end
end
if #answer > 1 then redis.call('SET', KEYS[3], ARGV[1], 'PX', ARGV[2]) end
return answer
"""

# KEYS: as for taking, but last when each letter expires. ARGV: session, our node, then for
# every letter sent its id and the channel for its receipt.
_SETTLE = """
for i = 3, #ARGV, 2 do
  redis.call('LREM', KEYS[1], 1, ARGV[i])
  redis.call('DEL', KEYS[2] .. ARGV[i])
  redis.call('ZREM', KEYS[4], ARGV[i])
  redis.call('PUBLISH', ARGV[i + 1], 'receipt ' .. ARGV[i] .. ' ' .. ARGV[2])
end
if redis.call('GET', KEYS[3]) == ARGV[1] then redis.call('DEL', KEYS[3]) end
return 1
"""


# KEYS: devices' lists. Returns the indices of those that exist.
_WAITING = """
local found = {}
for i, key in ipairs(KEYS) do
  if redis.call('EXISTS', key) == 1 then found[#found + 1] = i end
end
return found
"""


@dataclass(frozen=True, slots=True)
class Letter:
    """A stored message for a device.

    :ivar sender: channel of the process that waits for the receipt.
    """

    letter_id: str
    sender: str
    mail: Mail


@dataclass(frozen=True, slots=True)
class Posted:
    """The outcome of posting a letter.

    :ivar node: the node notified to deliver it; empty: no node.
    :ivar expires: seconds since the epoch on Redis' clock; 0: not stored.
    """

    node: str
    expires: float


class _Stored(msgspec.Struct):
    sender: str
    message: str
    say: str


_read = msgspec.json.Decoder(_Stored).decode


class Letters:
    """The letters of all devices."""

    def __init__(self, hub: RedisHub, settings: InboxSettings) -> None:
        self._hub = hub
        self._settings = settings
        self._all = hub.key("letters", "due")
        self._letters = hub.key("letter", "")

    async def put(self, device_id: str, letter: Letter, ttl: float) -> Posted:
        """Store a letter and notify the node that has the device.

        :param ttl: seconds; 0: only if the device is connected.
        :raises StoreError: ``inbox_full``, ``inboxes_full`` or ``presence_unavailable``.
        """
        settings, hub = self._settings, self._hub
        stored = _Stored(letter.sender, letter.mail.message, letter.mail.say)
        least = settings.receipt_timeout
        became, node, expires = await hub.script(
            _PUT,
            [self._list(device_id), self._letters, self._all, self._claim(device_id)],
            [
                device_id,
                letter.letter_id,
                msgspec.json.encode(stored).decode(),
                str(int(least * 1000)),
                str(int(ttl * 1000)),
                str(settings.per_device),
                str(settings.total),
                hub.channels,
            ],
        )
        if became == "inbox_full":
            raise StoreError(became, f"{device_id} has not read enough of its inbox")
        if became == "inboxes_full":
            raise StoreError(became, "the inboxes of all devices are full")
        return Posted(node, int(expires) / 1000)

    async def take(self, device_id: str, session_id: str) -> list[Letter] | None:
        """Lease a device's letters, oldest first.

        :return: None: the session does not hold the device yet, or an earlier session still
            has the lease; try again.
        :raises StoreError:
        """
        became, *found = await self._hub.script(
            _TAKE,
            [
                self._list(device_id),
                self._letters,
                self._taker(device_id),
                self._claim(device_id),
            ],
            [session_id, str(int(self._settings.lease * 1000))],
        )
        if became == "later":
            return None
        return [_letter(*pair) for pair in zip(found[::2], found[1::2], strict=True)]

    async def waiting(self, devices: Sequence[str]) -> list[str]:
        """Find the devices that have letters.

        :return: those devices.
        :raises StoreError:
        """
        lists = [self._list(device_id) for device_id in devices]
        found = await self._hub.script(_WAITING, lists, [])
        return [devices[int(index) - 1] for index in found]

    async def settle(self, device_id: str, session_id: str, sent: Sequence[Letter]) -> None:
        """Remove sent letters, send their receipts, and end the lease.

        :raises StoreError:
        """
        arguments = [session_id, self._hub.node]
        for letter in sent:
            arguments += [letter.letter_id, letter.sender]
        await self._hub.script(
            _SETTLE,
            [self._list(device_id), self._letters, self._taker(device_id), self._all],
            arguments,
        )

    def _list(self, device_id: str) -> str:
        return self._hub.key("inbox", device_id)

    def _taker(self, device_id: str) -> str:
        return self._hub.key("taker", device_id)

    def _claim(self, device_id: str) -> str:
        return self._hub.key("presence", device_id)


def _letter(letter_id: str, stored: str) -> Letter:
    read = _read(stored)
    return Letter(letter_id, read.sender, Mail(read.message, read.say))
