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
    """Digest a client id or serial number; only the digest is stored.

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
    :ivar about: board and firmware, as the device states them; for display.
    """

    device_id: str
    client: str
    serial: str = ""
    about: str = ""


@dataclass(frozen=True, slots=True)
class Registered:
    """A device id with an owner, or revoked.

    :ivar client: fingerprint of the client id it is bound to; empty: unbound.
    :ivar serial: fingerprint of its serial number; empty: unknown.
    :ivar revision: increases over all devices with every change of an owner; a token issued
        at an earlier revision of its device is void.
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
        """Whether an applicant is its owner. A serial number counts once it is known."""
        return (
            self.state is DeviceState.APPROVED
            and bool(who.client)
            and self.client == who.client
            and self.serial in ("", who.serial)
        )


@dataclass(frozen=True, slots=True)
class DeviceClaim:
    """A request for a device id that waits for a person's approval.

    :ivar code: six digits, unique among valid claims.
    :ivar attempts: number of requests.
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
    """Limits of the records that applicants may create.

    :ivar devices: known device ids; beyond, new ones are refused.
    :ivar claims: valid claims of all devices; beyond, those with the fewest attempts, then
        the oldest, are dropped.
    :ivar claims_per_device: the same for one device id.
    :ivar ttl: lifetime of a claim and its code in seconds.
    """

    devices: int = 100_000
    claims: int = 10_000
    claims_per_device: int = 100
    ttl: float = 1800.0
