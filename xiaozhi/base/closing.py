"""The begin and end of a device's connection, independent of the transport."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class CloseReason(Enum):
    """Why the edge closes a device's connection."""

    FINISHED = "finished"
    """The conversation is over; clients do not treat it as a fault."""

    STOPPING = "stopping"
    """The process stops; the device should reconnect."""

    LIMIT = "limit"
    """A limit, a timeout or a withdrawn permission; the detail names it."""

    FAULT = "fault"
    """An internal error, or a device that stopped answering."""

    REPLACED = "replaced"
    """The same device has connected again."""


@dataclass(frozen=True, slots=True)
class ChannelTerms:
    """Properties that a transport has negotiated with a device.

    :ivar version: the framing the device announced; 0: none.
    :ivar framing: the framing in use, for the log.
    :ivar answer: the transport's own members of the hello's answer, e.g. ``udp``.
    """

    version: int = 0
    framing: int = 0
    answer: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a connection ended without us.

    :ivar code: the transport's own number.
    :ivar reason: the peer's reason; may be empty.
    :ivar counted: its label in metrics.
    """

    code: int
    reason: str = ""
    counted: str = "device_closed"
