"""The configuration request that every device makes at boot, and activation (§7)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.web.iweb import IAgent

from xiaozhi.device.errors import DeviceError
from xiaozhi.device.identity import Identity
from xiaozhi.device.network.http import Pieces, post, post_for_status

FIRMWARE = "2.4.2"
_BOARD = "bread-compact-wifi"
_MAX_NAME = 15

# The firmware's activation requests before it fetches the configuration again, and the
# seconds between them after a 202 and after other responses.
_ROUNDS, _PENDING, _RETRY = 10, 3.0, 10.0


class Flavour(Enum):
    """Client whose requests are imitated."""

    FIRMWARE = "firmware"
    PY_XIAOZHI = "py-xiaozhi"


@dataclass(frozen=True, slots=True)
class DeviceEndpoint:
    """WebSocket address of the server.

    :ivar token: sent as ``Authorization``; empty: not sent.
    :ivar version: of the binary framing: 1, 2 or 3.
    """

    url: str
    token: str = ""
    version: int = 1

    @property
    def address(self) -> str:
        """Return the URL for display: without its query, which may hold a token."""
        return self.url.partition("?")[0]


@dataclass(frozen=True, slots=True)
class Boot:
    """The configuration that the device received at boot.

    :ivar endpoint: None while the device is not activated.
    :ivar activation: activation code for the user; may be empty.
    :ivar message: text to display with the code.
    :ivar challenge: for ``/activate``; empty: the device cannot ask.
    """

    endpoint: DeviceEndpoint | None
    server_time_ms: int = 0
    timezone_minutes: int = 0
    firmware: str = ""
    activation: str = ""
    message: str = ""
    challenge: str = ""


async def fetch(
    agent: IAgent,
    clock: IReactorTime,
    url: str,
    identity: Identity,
    flavour: Flavour = Flavour.FIRMWARE,
    timeout: float = 30.0,
) -> Boot:
    """Request the configuration.

    :raises DeviceError: ``bad_ota``: no device could use the response.
    """
    if flavour is Flavour.FIRMWARE:
        headers, body = firmware_headers(identity), system_info(identity)
    else:
        headers, body = py_headers(identity), py_body(identity)
    data = await post(
        agent,
        clock,
        url,
        headers,
        Pieces([body.encode()]),
        code="bad_ota",
        timeout=timeout,
    )
    return read(data, flavour)


async def boot(
    agent: IAgent,
    clock: IReactorTime,
    url: str,
    identity: Identity,
    flavour: Flavour = Flavour.FIRMWARE,
    patience: float = 0.0,
    waiting: Callable[[Boot], None] = lambda boot: None,
) -> Boot:
    """Request the configuration until the device is activated (§7.3).

    :param patience: seconds to wait for activation; 0: do not wait.
    :param waiting: receives each configuration of a device that is not activated.
    :return: the configuration; without an endpoint if the wait timed out.
    :raises DeviceError: as :func:`fetch`.
    """
    until = clock.seconds() + patience
    while True:
        found = await fetch(agent, clock, url, identity, flavour)
        if found.endpoint is not None:
            return found
        waiting(found)
        for _ in range(_ROUNDS):
            if clock.seconds() >= until:
                return found
            pause = _RETRY
            if found.challenge:
                status = await activate(agent, clock, url, identity, found.challenge, flavour)
                if status == 200:
                    break
                pause = _PENDING if status == 202 else _RETRY
            await deferLater(clock, min(pause, max(0.0, until - clock.seconds())))


async def activate(
    agent: IAgent,
    clock: IReactorTime,
    url: str,
    identity: Identity,
    challenge: str,
    flavour: Flavour = Flavour.FIRMWARE,
) -> int:
    """Ask the server whether the device is activated.

    :return: the HTTP status; 0 without a response.
    """
    if flavour is Flavour.FIRMWARE:
        headers, body = firmware_headers(identity), "{}"
    else:
        headers = {**py_headers(identity), "Activation-Version": "2"}
        proof = {"algorithm": "hmac-sha256", "serial_number": "SN-SOFTWARE"}
        proof |= {"challenge": challenge, "hmac": sha256(challenge.encode()).hexdigest()}
        body = json.dumps({"Payload": proof})
    try:
        return await post_for_status(
            agent,
            clock,
            f"{url.rstrip('/')}/activate",
            headers,
            Pieces([body.encode()]),
            code="bad_ota",
        )
    except DeviceError:
        return 0


def firmware_headers(identity: Identity) -> dict[str, str]:
    return {
        "Activation-Version": "1",
        "Device-Id": identity.device_id,
        "Client-Id": identity.client_id,
        "User-Agent": f"{_BOARD}/{FIRMWARE}",
        "Accept-Language": "zh-CN",
        "Content-Type": "application/json",
    }


def py_headers(identity: Identity) -> dict[str, str]:
    return {
        "Device-Id": identity.device_id,
        "Client-Id": identity.client_id,
        "User-Agent": f"{_BOARD}/py-xiaozhi-2.1.1",
        "Accept-Language": "zh-CN",
        "Activation-Version": "2.1.1",
        "Content-Type": "application/json",
    }


def system_info(identity: Identity) -> str:
    """Return the body of the firmware's request, also the result of ``self.get_system_info``
    (§5.4)."""
    table = [("nvs", 1, 2, 0x9000, 0x4000), ("ota_0", 0, 16, 0x20000, 0x3F0000)]
    names = ("label", "type", "subtype", "address", "size")
    whole = {
        "version": 2,
        "language": "zh-CN",
        "flash_size": 16777216,
        "minimum_free_heap_size": "8318916",
        "mac_address": identity.device_id,
        "uuid": identity.client_id,
        "chip_model_name": "esp32s3",
        "chip_info": {"model": 9, "cores": 2, "revision": 2, "features": 18},
        "application": {
            "name": "xiaozhi",
            "version": FIRMWARE,
            "compile_time": "2026-07-01T08:00:00Z",
            "idf_version": "v5.5.1",
            "elf_sha256": sha256(FIRMWARE.encode()).hexdigest(),
        },
        "partition_table": [dict(zip(names, row, strict=True)) for row in table],
        "ota": {"label": "ota_0"},
        "display": {"monochrome": False, "width": 240, "height": 240},
        "board": {
            "type": _BOARD,
            "name": _BOARD,
            "manufacturer": "software",
            "ssid": "software",
            "rssi": -50,
            "channel": 6,
            "ip": "127.0.0.1",
            "mac": identity.device_id,
        },
    }
    return json.dumps(whole, separators=(",", ":"))


def py_body(identity: Identity) -> str:
    whole = {
        "application": {"version": "2.1.1", "elf_sha256": sha256(b"py-xiaozhi").hexdigest()},
        "board": {
            "type": _BOARD,
            "name": "py-xiaozhi",
            "ip": "127.0.0.1",
            "mac": identity.device_id,
        },
    }
    return json.dumps(whole)


def read(data: bytes, flavour: Flavour = Flavour.FIRMWARE) -> Boot:
    """Parse the response as the firmware does.

    :raises DeviceError: ``bad_ota``, naming the member that a device could not use.
    """
    try:
        whole = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _bad(f"it is not JSON: {error}") from None
    if not isinstance(whole, dict):
        raise _bad("it is not a JSON object")
    for name in ("mqtt", "websocket", "activation", "firmware", "server_time"):
        # null alone breaks py-xiaozhi (§9, 13).
        if name in whole and not isinstance(whole[name], dict):
            raise _bad(f"{name} is not an object")
    if flavour is Flavour.FIRMWARE and "mqtt" in whole:
        raise _bad("mqtt is present: the device would use MQTT and ignore websocket")
    clock = whole.get("server_time", {})
    firmware = _text(whole.get("firmware", {}), "firmware", "version")
    _check_version(firmware)
    activation = whole.get("activation", {})
    endpoint = None
    if "activation" not in whole:
        endpoint = _endpoint(whole.get("websocket"))
    return Boot(
        endpoint,
        _number(clock, "server_time", "timestamp"),
        _number(clock, "server_time", "timezone_offset"),
        firmware,
        _text(activation, "activation", "code"),
        _text(activation, "activation", "message"),
        _text(activation, "activation", "challenge"),
    )


def _endpoint(members: dict[str, Any] | None) -> DeviceEndpoint:
    if members is None:
        raise _bad("websocket is missing: the device would try MQTT")
    for name in members:
        if len(name) > _MAX_NAME:
            raise _bad(f"websocket.{name}: a name over {_MAX_NAME} characters makes the boot fail")
    url = _text(members, "websocket", "url")
    if not url.startswith(("ws://", "wss://")):
        raise _bad(f"websocket.url is {url!r}")
    # The firmware takes the first colon after :// for the port separator (§1.2).
    _, colon, rest = url.split("://", 1)[1].partition(":")
    if colon and not rest.split("/", 1)[0].isdigit():
        raise _bad(f"websocket.url {url!r} has a colon that devices take for the port separator")
    version = members.get("version", 1)
    if isinstance(version, bool) or version not in (1, 2, 3):
        raise _bad(f"websocket.version is {version!r}")
    return DeviceEndpoint(url, _text(members, "websocket", "token"), version)


def _check_version(version: str) -> None:
    if version and not all(part[:1].isdigit() for part in version.split(".")):
        raise _bad(f"firmware.version {version!r} is not numeric and would crash the device")


def _text(members: dict[str, Any], where: str, name: str) -> str:
    value = members.get(name, "")
    if not isinstance(value, str):
        raise _bad(f"{where}.{name} is not a string")
    return value


def _number(members: dict[str, Any], where: str, name: str) -> int:
    value = members.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _bad(f"{where}.{name} is not a number")
    return int(value)


def _bad(reason: str) -> DeviceError:
    return DeviceError("bad_ota", f"the configuration cannot be used: {reason}")
