"""WebSocket close codes the edge uses (RFC 6455, 7.4; 4000–4999 are anyone's own)."""

from __future__ import annotations

NORMAL = 1000
"""The talk is over; clients do not take it for a fault."""

GOING_AWAY = 1001
"""This process stops; connect again."""

NO_CODE = 1005
"""Never sent: the peer's Close frame named no code."""

ABNORMAL = 1006
"""Never sent: the socket ended without a Close frame, as devices end it (§1.1)."""

POLICY = 1008
"""A limit or a timeout; the reason names it."""

TOO_BIG = 1009
"""A message longer than ``limits.max_message_bytes``; Autobahn closes with it."""

TRY_AGAIN = 1013
"""This process holds as much of unfinished messages as it may; connect again."""

INTERNAL = 1011
"""Our fault, or a peer that stopped answering."""

REPLACED = 4001
"""The same device has connected anew."""

#: How the AI's reasons for ending a session read on a socket; others are faults.
OF_SESSION = {
    "farewell": NORMAL,
    "idle": NORMAL,
    "draining": GOING_AWAY,
    "revoked": POLICY,
}
#: How the edge's reasons read to the AI; others mean that the device is gone.
TO_SESSION = {
    "goodbye": "goodbye",
    "idle": "idle",
    "replaced": "replaced",
    "going_away": "edge_stopping",
}

#: How a connection's end that is not ours is counted.
LEFT = {
    ABNORMAL: "device_lost",
    NO_CODE: "device_closed",
    TOO_BIG: "too_big",
}
