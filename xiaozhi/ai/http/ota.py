"""OTA: the configuration that a device requests at every boot (§7)."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from twisted.internet.interfaces import IReactorTime

from xiaozhi.ai.http.addresses import ServiceAddress, edge_url, service_address, service_url
from xiaozhi.ai.http.registration import PendingRegistration, Registrar, Visit
from xiaozhi.ai.http.settings import OtaSettings
from xiaozhi.base.errors import AuthError, ProtocolError
from xiaozhi.interfaces import IDeviceTokens
from xiaozhi.runtime.clocks import wall_time
from xiaozhi.web.replies import Reply, json_reply, text_reply
from xiaozhi.web.request import WebRequest
from xiaozhi.web.routes import Routes

#: Firmware parses the parts with ``stoi``, which throws on anything else (§7.2).
_VERSION = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,6}){0,5}")
_NO_VERSION = "0.0.0"
#: Maximum bytes of a body for a device; at about 8 KB it hangs for good (§6).
DEVICE_BODY = 6000

EdgeCheck = Callable[[], Awaitable[str]]


class OtaHandlers:
    """``POST``: the configuration. ``GET``: a diagnosis for people. ``POST …/activate``."""

    def __init__(
        self,
        settings: OtaSettings,
        tokens: IDeviceTokens,
        registrar: Registrar,
        clock: IReactorTime,
        edge_check: EdgeCheck | None = None,
    ) -> None:
        """:param edge_check: returns one line about the state of the edge."""
        self._settings = settings
        self._tokens = tokens
        self._registrar = registrar
        self._wall = wall_time(clock)
        self._edge_check = edge_check
        if settings.websocket_url:  # report an error at the start, not at the first device
            edge_url(settings, ServiceAddress("", None))

    def add_to(self, routes: Routes, path: str) -> None:
        """Add the routes at a path."""
        routes.get(path, self.diagnose)
        routes.post(path, self.configure)
        routes.post(f"{path}/activate", self.activate)

    async def configure(self, request: WebRequest) -> Reply:
        """Return the configuration of a device."""
        report = read_report(request.body)
        client = service_address(request, self._settings.trust_proxy)
        registered = await self._registrar.register(visit_of(request, report))
        websocket = {"url": edge_url(self._settings, client), "version": self._settings.framing}
        content: dict[str, Any] = {
            "server_time": self._server_time(),
            "websocket": websocket,
            "firmware": {"version": report.version, "url": ""},
        }
        if isinstance(registered, PendingRegistration):
            content["activation"] = activation(registered.code, request.header("Accept-Language"))
        else:
            ttl = self._settings.token_ttl
            websocket["token"] = self._tokens.issue(registered, "device", ttl)
        answer = json_reply(content)
        if len(answer.body) > DEVICE_BODY:
            raise ProtocolError("too_large", "with such long ids, no device can read the answer")
        return answer

    def _server_time(self) -> dict[str, int]:
        now = self._wall()
        return {"timestamp": int(now * 1000), "timezone_offset": self._offset(now)}

    def _offset(self, now: float) -> int:
        if self._settings.timezone_offset is not None:
            return self._settings.timezone_offset
        return time.localtime(now).tm_gmtoff // 60

    async def diagnose(self, request: WebRequest) -> Reply:
        """Return a diagnosis for people: the configuration for devices, and the edge's state."""
        now = self._wall()
        offset = self._offset(now)
        client = service_address(request, self._settings.trust_proxy)
        where = edge_url(self._settings, client)
        ours = service_url(request, client, request.path)
        edge = await self._edge_check() if self._edge_check is not None else "not checked"
        local = datetime.fromtimestamp(now + offset * 60, UTC)
        return text_reply(
            "XiaoZhi OTA: devices request their configuration here.\n\n"
            f"WebSocket URL for devices: {where} (framing {self._settings.framing})\n"
            f"The edge: {edge}\n"
            f"Server time: {local:%Y-%m-%d %H:%M:%S} (UTC{offset // 60:+03d}:{offset % 60:02d})\n"
            f"Registration: {self._settings.registration}\n\n"
            "To use this server, set the OTA URL in the device's Wi-Fi setup page"
            " (advanced) to\n"
            f"  {ours}\n"
            "and restart the device. If it cannot connect although the edge answers, check that\n"
            "it can reach the host and port of the WebSocket URL; set http.ota.websocket_url if\n"
            "they are not the ones to use.\n"
        )

    def activate(self, request: WebRequest) -> Reply:
        """Return whether a device has been approved (§7.3).

        The body is ignored: this server does not have the key of the chip's HMAC. The device
        uses the status only: after 200 it requests OTA again, after 202 it polls again later.
        """
        if self._registrar.is_approved(visit_of(request)):
            return json_reply({"success": True, "message": "this device is active"})
        return json_reply({"success": False, "message": "this device awaits approval"}, 202)


@dataclass(frozen=True, slots=True)
class OtaReport:
    """The used part of a device's report; fields it does not have are empty.

    :ivar version: of its firmware; ``0.0.0`` if the device could not compare its own.
    """

    mac: str = ""
    client_id: str = ""
    version: str = _NO_VERSION


def read_report(body: bytes) -> OtaReport:
    """Read the body of an OTA request.

    Firmware builds the JSON by hand, and an SSID with a quote breaks it. An invalid body is
    therefore treated as an empty report.
    """
    try:
        report: Any = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        report = None
    if not isinstance(report, dict):
        return OtaReport()
    mac, client, application = (report.get(name) for name in ("mac_address", "uuid", "application"))
    version = application.get("version") if isinstance(application, dict) else None
    numeric = isinstance(version, str) and _VERSION.fullmatch(version) is not None
    return OtaReport(
        mac.strip() if isinstance(mac, str) else "",
        client.strip() if isinstance(client, str) else "",
        str(version) if numeric else _NO_VERSION,
    )


def visit_of(request: WebRequest, report: OtaReport | None = None) -> Visit:
    """Identify the device by headers, query or body.

    :raises AuthError: 400, the device id is missing.
    """
    report = report or OtaReport()
    device_id = request.header_or_query("Device-Id") or report.mac
    if not device_id:
        raise AuthError("missing_device_id", "the header Device-Id is missing", 400)
    about = request.header("User-Agent")[:100]
    return Visit(
        device_id,
        request.header_or_query("Client-Id") or report.client_id,
        request.header("Serial-Number"),
        "".join(c if " " <= c <= "~" else "?" for c in about),
    )


def activation(code: str, languages: str) -> dict[str, str]:
    """Return the object ``activation``. A device displays the message and speaks the code.

    :param languages: the header ``Accept-Language``.
    """
    chinese = languages.strip().lower().startswith("zh")
    words = "请管理员批准此设备" if chinese else "This device must be approved"
    challenge = secrets.token_hex(16)
    return {"code": code, "message": f"{words}\n{code}", "challenge": challenge}
