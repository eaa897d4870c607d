"""Translation of the reasons for the end of a session between the AI and the edge."""

from __future__ import annotations

from xiaozhi.base.closing import CloseReason

#: The AI's code → reason for the device; any other code is a fault.
OF_SESSION = {
    "farewell": CloseReason.FINISHED,
    "idle": CloseReason.FINISHED,
    "draining": CloseReason.STOPPING,
    "revoked": CloseReason.LIMIT,
}

#: The edge's detail → code for the AI; any other detail means that the device is gone.
TO_SESSION = {
    "goodbye": "goodbye",
    "idle": "idle",
    "replaced": "replaced",
    "going_away": "edge_stopping",
}
