"""A device that has been let in, as admission hands it to its link."""

from __future__ import annotations

from dataclasses import dataclass

from xiaozhi.wire.messages import Device


@dataclass(frozen=True, slots=True)
class Arrival:
    """A device that has been let in.

    :ivar host: by which the device knows us; empty if it did not say.
    :ivar language: that it prefers, BCP 47; empty if it did not say.
    """

    device: Device
    host: str = ""
    language: str = ""
