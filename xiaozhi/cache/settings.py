"""Settings of the state that processes share. Times are in seconds."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

Seconds = Annotated[float, Meta(ge=0.05, le=86400)]
Count = Annotated[int, Meta(ge=1, le=10_000_000)]


class PresenceAddress(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The store of presence: this process or Redis.

    :ivar url: ``memory:``: in one process; ``redis://[:password@]host:port/db``: in many.
    :ivar timeout: for an answer of Redis; also to connect.
    :ivar heartbeat_interval: between two checks of Redis; an edge also refreshes its own
        entry.
    """

    url: str = "memory:"
    timeout: Seconds = 3.0
    heartbeat_interval: Seconds = 5.0

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"  # the address may contain a password


class PresenceSettings(PresenceAddress, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Lifetimes of an edge's entries; see also :class:`PresenceAddress`.

    :ivar claim_ttl: how long a device's entry outlives its edge.
    :ivar refresh_interval: between two refreshes of devices' entries.
    :ivar node_ttl: how long an edge's own entry outlives it.
    """

    claim_ttl: Seconds = 90.0
    refresh_interval: Seconds = 30.0
    node_ttl: Seconds = 20.0

    def __post_init__(self) -> None:
        if self.refresh_interval * 2 > self.claim_ttl:
            raise ValueError("refresh_interval must be at most half of claim_ttl")
        if self.heartbeat_interval * 2 > self.node_ttl:
            raise ValueError("heartbeat_interval must be at most half of node_ttl")


class InboxSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of messages posted to devices by ``POST /api/devices/{device_id}/messages``.

    :ivar ttl: default lifetime of a message for a device that is not connected.
    :ivar max_ttl: the longest lifetime that a request may ask for.
    :ivar per_device: messages kept for one device; more are refused with 429.
    :ivar total: messages kept for all devices; more are refused with 503.
    :ivar max_bytes: of a request's body.
    :ivar receipt_timeout: how long to wait for another edge's receipt.
    :ivar lease: how long an edge that fetched messages may take to send them before another
        may. Longer than ``presence.timeout``.
    """

    ttl: Annotated[float, Meta(ge=0, le=2_592_000)] = 3600.0
    max_ttl: Annotated[float, Meta(ge=0, le=2_592_000)] = 604_800.0
    per_device: Annotated[int, Meta(ge=1, le=1000)] = 32
    total: Count = 10_000
    max_bytes: Annotated[int, Meta(ge=256, le=65_536)] = 16_384
    receipt_timeout: Seconds = 2.0
    lease: Seconds = 10.0

    def __post_init__(self) -> None:
        if self.ttl > self.max_ttl:
            raise ValueError("ttl must be at most max_ttl")
