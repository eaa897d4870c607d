"""WebSocket close codes of the edge (RFC 6455, 7.4; 4000–4999 are for private use)."""

from __future__ import annotations

from xiaozhi.base.closing import CloseReason, Ending

NORMAL = 1000
"""The conversation is over; clients do not treat it as an error."""

GOING_AWAY = 1001
"""This process stops; connect again."""

NO_CODE = 1005
"""Never sent: the peer's Close frame named no code."""

ABNORMAL = 1006
"""Never sent: the socket ended without a Close frame, as is usual for devices (§1.1)."""

POLICY = 1008
"""A limit or a timeout; the reason names it."""

TOO_BIG = 1009
"""A message longer than ``limits.max_message_bytes``; Autobahn closes with it."""

TRY_AGAIN = 1013
"""This process holds too many bytes of unfinished messages; connect again."""

INTERNAL = 1011
"""Our fault, or a peer that no longer responds."""

REPLACED = 4001
"""The same device has connected again."""

OF_REASON = {
    CloseReason.FINISHED: NORMAL,
    CloseReason.STOPPING: GOING_AWAY,
    CloseReason.LIMIT: POLICY,
    CloseReason.FAULT: INTERNAL,
    CloseReason.REPLACED: REPLACED,
}

#: Close code → reason in the counters, for connections that the peer ended.
LEFT = {
    ABNORMAL: "device_lost",
    NO_CODE: "device_closed",
    TOO_BIG: "too_big",
}


def ending(code: int, reason: str) -> Ending:
    """Describe an end that came from the peer, or from Autobahn."""
    return Ending(code, reason, LEFT.get(code, "device_closed"))
