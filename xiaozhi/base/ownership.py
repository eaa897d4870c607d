"""Ownership of device ids: values and the rule, without any store."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from hashlib import sha256


class DeviceState(Enum):
    """The decision about a device id."""

    APPROVED = "approved"
    REVOKED = "revoked"


def fingerprint(secret: str) -> str:
    """Digest a client id or serial number: only that is kept.

    :return: SHA-256 in hex, of the text in lower case, since clients differ in
        spelling; empty for an empty text.
    """
    text = secret.strip().lower()
    return sha256(text.encode("utf-8", "replace")).hexdigest() if text else ""


@dataclass(frozen=True, slots=True)
class Applicant:
    """A client that asks for a device id.

    :ivar client: fingerprint of the client id.
    :ivar serial: fingerprint of the serial number; empty: it sent none.
    :ivar about: board and firmware, as it calls itself; for people.
    """

    device_id: str
    client: str
    serial: str = ""
    about: str = ""


@dataclass(frozen=True, slots=True)
class Registered:
    """A device id that somebody holds, or nobody may.

    :ivar client: fingerprint of the client id it is bound to; empty: to none.
    :ivar serial: fingerprint of its serial number; empty: none is known.
    :ivar revision: grows over all devices with every change of whom a device
        belongs to; a token made at an earlier revision of its device is void.
    :ivar revoked_at: seconds since the epoch of the last revocation; 0: never.
    :ivar used: whether it has ever opened a session.
    """

    device_id: str
    client: str
    serial: str
    state: DeviceState
    revision: int
    revoked_at: int
    used: bool
    about: str
    first_seen: datetime
    last_seen: datetime

    def belongs_to(self, who: Applicant) -> bool:
        """Whether an applicant is who holds it. A serial number counts once it is known."""
        return (
            self.state is DeviceState.APPROVED
            and bool(who.client)
            and self.client == who.client
            and self.serial in ("", who.serial)
        )


@dataclass(frozen=True, slots=True)
class DeviceClaim:
    """Somebody who asks for a device id and waits for a person's approval.

    :ivar code: six digits, unique among living claims.
    :ivar attempts: how often it has asked.
    """

    code: str
    device_id: str
    client: str
    serial: str
    about: str
    attempts: int
    first_seen: datetime
    last_seen: datetime
    expires: datetime


class UnknownDevice(Enum):
    """The treatment of an applicant for an unowned device id."""

    CLAIM = "claim"
    ASK = "ask"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class ClaimLimits:
    """Bounds of what applicants may leave behind.

    :ivar devices: known device ids; beyond, no new one is taken in.
    :ivar claims: that live at a time, of all devices; beyond, those that have asked
        least often and are oldest give way.
    :ivar claims_per_device: the same for one device id.
    :ivar ttl: seconds that a claim and its code live.
    """

    devices: int = 100_000
    claims: int = 10_000
    claims_per_device: int = 100
    ttl: float = 1800.0
