"""An admitted device, as admission passes it to its link."""

from __future__ import annotations

from dataclasses import dataclass

from xiaozhi.wire.messages import Device


@dataclass(frozen=True, slots=True)
class Arrival:
    """An admitted device.

    :ivar host: host name by which the device reached us; empty: unknown.
    :ivar language: its preferred language, BCP 47; empty: unknown.
    """

    device: Device
    host: str = ""
    language: str = ""
