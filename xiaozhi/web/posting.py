"""``POST /api/devices/{device_id}/messages``, without a web server: both services have it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from twisted.logger import Logger

from xiaozhi.base.errors import AuthError, ProtocolError, StoreError, XiaozhiError
from xiaozhi.interfaces import IDeviceInbox
from xiaozhi.wire.mail import read_mail

PREFIX = "/api/devices"
"""Everything about single devices is below this path."""

_PATH = re.compile(rb"/api/devices/([^/]+)/messages/?")
_STATUS = {"inbox_full": 429, "inboxes_full": 503, "presence_unavailable": 503}


@dataclass(frozen=True, slots=True)
class Reply:
    """What a request is answered with, as JSON."""

    status: int
    body: Mapping[str, Any]


def failed(status: int, code: str, message: str) -> Reply:
    """An error."""
    return Reply(status, {"error": code, "message": message[:500]})


class Posting:
    """Sends devices what somebody with the management token posts.

    :ivar max_bytes: of a request's body; more is to be refused with :meth:`too_large`.
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
        :param admit: is given the header ``Authorization``; raises AuthError.
        :param identity: brings a device id into its one form; raises AuthError.
        :param ttl: seconds that mail is kept if the request does not say.
        :param max_ttl: seconds; for longer nothing is kept.
        """
        self._inbox = inbox
        self._admit = admit
        self._identity = identity
        self._ttl = ttl
        self._max_ttl = max_ttl
        self.max_bytes = max_bytes

    def refusal(self, authorization: str | None) -> Reply | None:
        """Judge a request by its header, before its body. None: let it in."""
        try:
            self._admit(authorization)
        except AuthError as error:
            return failed(error.status, error.code, error.message)
        return None

    def too_large(self) -> Reply:
        """The answer to a body of more than ``max_bytes``."""
        return failed(413, "too_large", f"the body is larger than {self.max_bytes} bytes")

    async def answer(self, path: bytes, authorization: str | None, body: bytes) -> Reply:
        """Do what a request asks.

        :param path: as sent, without the query.
        """
        refused = self.refusal(authorization)
        if refused is not None:
            return refused
        found = _PATH.fullmatch(path)
        if found is None:
            return failed(404, "not_found", f"see {PREFIX}/DEVICE-ID/messages")
        if len(body) > self.max_bytes:
            return self.too_large()
        try:
            # No id has a character beyond ASCII: identity() refuses what stands for one.
            device_id = self._identity(unquote_to_bytes(found[1]).decode("ascii", "replace"))
            return await self._post(device_id, body)
        except AuthError as error:
            return failed(error.status, error.code, error.message)
        except ProtocolError as error:
            return failed(400, error.code, error.message)
        except StoreError as error:
            return failed(_STATUS.get(error.code, 500), error.code, _advice(error))

    async def _post(self, device_id: str, body: bytes) -> Reply:
        if self._inbox is None:
            return failed(
                501,
                "no_presence",
                "this service does not know where devices are: post to the edge, or set"
                " presence.url to the Redis that the edges share",
            )
        mail, asked = read_mail(body)
        ttl = self._ttl if asked is None else asked
        if ttl > self._max_ttl:
            raise ProtocolError("bad_field", f"ttl must be at most {self._max_ttl:g} seconds")
        receipt = await self._inbox.post(device_id, mail, ttl)
        if receipt.delivered:
            self._log.info("posted to device {device_id}", device_id=device_id)
            return Reply(200, {"delivered": True, "node": receipt.node})
        if not receipt.expires:
            return failed(404, "not_connected", "the device is not connected, and ttl is 0")
        self._log.info("kept for device {device_id}", device_id=device_id)
        expires = round(receipt.expires, 3)
        return Reply(202, {"delivered": False, "kept": True, "expires": expires})


def _advice(error: XiaozhiError) -> str:
    if error.code == "presence_unavailable":
        return "Redis cannot be reached, and the device is not connected here; try again later"
    return error.message
