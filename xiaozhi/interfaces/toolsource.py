"""States of tool sources, and the session that tools are offered to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from xiaozhi.base.call import current_call
from xiaozhi.wire.messages import Device


class SourceState(Enum):
    """The state of a tool source.

    ``WAITING``: it failed and will retry; ``FAILED``: it will not.
    """

    STARTING = "starting"
    READY = "ready"
    WAITING = "waiting"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """The state of a tool source.

    :ivar reason: reason of a failure or a wait, in a few words and without secrets; else empty.
    """

    state: SourceState
    reason: str = ""


def _language() -> str:
    return current_call().language


def _nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True)
class ToolSession:
    """The session that tools are offered to.

    :ivar language: returns the language of the running turn, BCP 47; empty: unknown.
    :ivar end: ends the session after the answer has been played.
    """

    device: Device
    session_id: str = ""
    agent_id: str = ""
    language: Callable[[], str] = _language
    end: Callable[[], None] = _nothing
