"""How a device's connection begins and ends, in terms of no transport."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class CloseReason(Enum):
    """Why the edge closes a device's connection."""

    FINISHED = "finished"
    """The talk is over; clients do not take it for a fault."""

    STOPPING = "stopping"
    """This process stops; connect again."""

    LIMIT = "limit"
    """A limit, a timeout or a withdrawn permission; the detail names it."""

    FAULT = "fault"
    """Our fault, or a device that stopped answering."""

    REPLACED = "replaced"
    """The same device has connected anew."""


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
    :ivar reason: as the peer gave it; may be empty.
    :ivar counted: the label it is counted under.
    """

    code: int
    reason: str = ""
    counted: str = "device_closed"
