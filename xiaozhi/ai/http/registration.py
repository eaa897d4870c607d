"""Who a device that asks for its configuration is registered as."""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

from twisted.logger import Logger

from xiaozhi.errors import AuthError
from xiaozhi.wire.messages import Device


class Registrar(Protocol):
    """Decides whether a device belongs here, and to whom."""

    def register(self, device_id: str, client_id: str) -> Device:
        """:raises AuthError: it does not."""


class OpenRegistrar:
    """``registration: open``: every device that asks is let in.

    :param remembered: devices whose first visit has been logged; the one not
        seen for longest is forgotten beyond that, and logged again.
    """

    _log = Logger()

    def __init__(self, remembered: int = 10_000) -> None:
        self._remembered = remembered
        self._seen: OrderedDict[str, None] = OrderedDict()

    def register(self, device_id: str, client_id: str) -> Device:
        """See :class:`Registrar`. The user is ``open:<device id>``."""
        if not device_id.isprintable() or len(device_id) > 255:
            raise AuthError("bad_device_id", "the device id is not 1-255 printable characters", 400)
        if device_id not in self._seen:
            self._log.info(
                "registered a device that asked for it, registration is open: {device_id}",
                device_id=device_id,
            )
        self._seen[device_id] = None
        self._seen.move_to_end(device_id)
        if len(self._seen) > self._remembered:
            self._seen.popitem(last=False)
        return Device(device_id=device_id, client_id=client_id, user_id=f"open:{device_id}"[:255])
