"""Device and client ids of software devices."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import NAMESPACE_URL, uuid5


@dataclass(frozen=True, slots=True)
class Identity:
    """The two ids that every request carries (§1.2).

    :ivar device_id: a MAC, lower case, with colons.
    :ivar client_id: a UUID.
    """

    device_id: str = "02:00:00:00:00:01"
    client_id: str = "9b1c4e0a-6a51-4c39-9f0e-3d7a0c2f5a10"


def numbered(number: int) -> Identity:
    """Return the identity of device ``number`` of a fleet.

    It is always the same, with a locally administered MAC.
    """
    octets = (0x02_5A_00_00_00_00 | number).to_bytes(6, "big")
    device_id = ":".join(f"{octet:02x}" for octet in octets)
    return Identity(device_id, str(uuid5(NAMESPACE_URL, f"device:{device_id}")))
