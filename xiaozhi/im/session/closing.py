"""Reasons for an end: the AI's, the edge's, and how each reads to the other side."""

from __future__ import annotations

from xiaozhi.base.closing import CloseReason

#: The AI's reasons for ending a session; any other is a fault.
OF_SESSION = {
    "farewell": CloseReason.FINISHED,
    "idle": CloseReason.FINISHED,
    "draining": CloseReason.STOPPING,
    "revoked": CloseReason.LIMIT,
}

#: The edge's details as the AI reads them; any other means that the device is gone.
TO_SESSION = {
    "goodbye": "goodbye",
    "idle": "idle",
    "replaced": "replaced",
    "going_away": "edge_stopping",
}
