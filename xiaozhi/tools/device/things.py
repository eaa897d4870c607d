"""IoT things, the protocol of firmware before MCP (§4.8), as tools."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from xiaozhi.base.values import ToolSpec
from xiaozhi.interfaces import ITool, IToolSource
from xiaozhi.interfaces.toolsource import SourceState, SourceStatus, ToolSession
from xiaozhi.tools.names import safe_name
from xiaozhi.tools.source import SourceBase
from xiaozhi.wire.messages import Error, Iot

#: The name of the source.
THINGS = "things"
_JSON_TYPES = {"number": "integer", "boolean": "boolean", "string": "string"}


@implementer(IToolSource)
class DeviceThings(SourceBase):
    """The things of one device, as tools. Their states are not used.

    :param send: sends a message to the device.
    :param limit: maximum number of methods, because a device could describe any number.
    """

    def __init__(self, send: Callable[[Iot | Error], None], limit: int) -> None:
        super().__init__(THINGS)
        self.status = SourceStatus(SourceState.READY)
        self._tools: list[ITool] = []
        self._send = send
        self._limit = limit

    def adopt(self, limit: int) -> None:
        """Switch to another limit."""
        self._limit = limit

    def received(self, message: Iot) -> list[ITool]:
        """Handle a message of the device.

        :return: the tools of the things that it describes.
        """
        try:
            payload = msgspec.json.decode(message.payload)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            # The edge has parsed it, but is less strict about numbers.
            self._send(Error("bad_json", f"iot: {error}"))
            return []
        methods: list[ITool] = [
            ThingMethod(self._send, str(thing.get("name")), name, method)
            for thing in _objects(payload.get("descriptors"))
            for name, method in _members(thing.get("methods"))
        ]
        taken = methods[: max(0, self._limit - len(self._tools))]
        if taken:
            self._tools += taken
            self.changed()
        return taken

    def start(self) -> Deferred[None]:
        """Do nothing: devices describe their things without a request."""
        return succeed(None)

    def stop(self) -> Deferred[None]:
        """See :class:`~xiaozhi.interfaces.IToolSource`."""
        self.status = SourceStatus(SourceState.STOPPED)
        return succeed(None)

    def tools(self, session: ToolSession) -> list[ITool]:
        """See :class:`~xiaozhi.interfaces.IToolSource`."""
        return self._tools[: self._limit]


def _objects(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _members(value: Any) -> list[tuple[str, dict[str, Any]]]:
    members = value.items() if isinstance(value, dict) else ()
    return [(name, member) for name, member in members if isinstance(member, dict)]


@implementer(ITool)
class ThingMethod:
    """One method of one thing. Devices do not answer commands."""

    limit: float | None = None
    lane = "device"
    interruptible = True

    def __init__(
        self, send: Callable[[Iot | Error], None], thing: str, name: str, method: dict[str, Any]
    ) -> None:
        parameters = _members(method.get("parameters"))
        self._send = send
        self._thing = thing
        self._name = name
        self.spec = ToolSpec(
            safe_name(f"{thing}_{name}"),
            str(method.get("description") or f"{thing}: {name}"),
            {
                "type": "object",
                "properties": {
                    key: {
                        "type": _JSON_TYPES.get(str(value.get("type")), "string"),
                        "description": str(value.get("description", "")),
                    }
                    for key, value in parameters
                },
                "required": [key for key, _ in parameters],
            },
            # Escaped dots keep titles of different methods distinct.
            ".".join(part.replace(".", "..") for part in (thing, name)),
        )

    async def call(self, arguments: dict[str, Any]) -> str:
        command = {"name": self._thing, "method": self._name, "parameters": arguments}
        self._send(Iot(json.dumps({"commands": [command]}, ensure_ascii=False).encode()))
        return json.dumps({"sent": True})
