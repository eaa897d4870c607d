"""``POST /api/devices/{device_id}/messages``, in both services."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from xiaozhi.base.errors import ProtocolError, StoreError
from xiaozhi.interfaces import IDeviceInbox
from xiaozhi.web.guards import management_guard
from xiaozhi.web.replies import HttpError, Reply, json_reply
from xiaozhi.web.routes import RouteOptions, Routes
from xiaozhi.wire.mail import read_mail

PREFIX = "/api/devices"
"""Prefix of all paths about single devices."""

_STATUS = {"inbox_full": 429, "inboxes_full": 503, "presence_unavailable": 503}
_ADVICE = {
    "presence_unavailable": "Redis is unreachable, and the device is not connected here; try"
    " again later"
}


class Posting:
    """Delivers messages that holders of the management token post to devices.

    :ivar max_bytes: maximum body of a request.
    """

    _log = Logger()

    def __init__(
        self,
        inbox: IDeviceInbox | None,
        admit: Callable[[str | None], None],
        identity: Callable[[str], str],
        *,
        ttl: float,
        max_ttl: float,
        max_bytes: int,
    ) -> None:
        """
        :param inbox: None: this process cannot reach devices.
        :param admit: checks the header ``Authorization``; raises AuthError.
        :param identity: normalises a device id; raises AuthError.
        :param ttl: default seconds to keep a message.
        :param max_ttl: maximum seconds to keep a message.
        """
        self._inbox = inbox
        self._guard = management_guard(admit)
        self._identity = identity
        self._ttl = ttl
        self._max_ttl = max_ttl
        self.max_bytes = max_bytes

    def add_to(self, routes: Routes, page: str) -> None:
        """Add the routes below :data:`PREFIX`.

        :param page: their name in metrics.
        """
        options: RouteOptions = {
            "guard": self._guard,
            "max_body": self.max_bytes,
            "page": page,
        }
        routes.post(f"{PREFIX}/{{device_id}}/messages", self.post, **options)
        routes.post(f"{PREFIX}/{{rest:path}}", _elsewhere, **options)
        routes.post(PREFIX, _nowhere, **options)

    async def post(self, device_id: str, body: bytes) -> Reply:
        """Deliver or keep a message.

        :return: 200, it was delivered; 202, it is kept.
        :raises XiaozhiError: neither.
        """
        device_id = self._identity(device_id)
        if self._inbox is None:
            raise HttpError(
                501,
                "no_presence",
                "this service cannot locate devices: post to the edge, or set presence.url to"
                " the Redis that the edges share",
            )
        mail, asked = read_mail(body)
        ttl = self._ttl if asked is None else asked
        if ttl > self._max_ttl:
            raise ProtocolError("bad_field", f"ttl must be at most {self._max_ttl:g} seconds")
        try:
            receipt = await self._inbox.post(device_id, mail, ttl)
        except StoreError as error:
            message = _ADVICE.get(error.code, error.message)
            raise HttpError(_STATUS.get(error.code, 500), error.code, message) from None
        if receipt.delivered:
            self._log.info("posted to device {device_id}", device_id=device_id)
            return json_reply({"delivered": True, "node": receipt.node})
        if not receipt.expires:
            raise HttpError(404, "not_connected", "the device is not connected, and ttl is 0")
        self._log.info("kept for device {device_id}", device_id=device_id)
        expires = round(receipt.expires, 3)
        return json_reply({"delivered": False, "kept": True, "expires": expires}, 202)


def _elsewhere(rest: str) -> Reply:
    return _nowhere()


def _nowhere() -> Reply:
    raise HttpError(404, "not_found", f"see {PREFIX}/DEVICE-ID/messages")
