"""The device's MCP server, with the rules of the firmware's parser (§5.1).

The rules differ from JSON-RPC: keys match in any case, most malformed requests get
no reply, and errors have no code and are not escaped.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from xiaozhi.device.errors import DeviceError
from xiaozhi.device.events import ToolCalled

# Bytes of JSON in one page of tools/list (§5.2).
PAGE = 8000
PROTOCOL_VERSION = "2024-11-05"

Value = bool | int | str
Run = Callable[[dict[str, Value]], "Awaitable[Value]"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """An argument of a tool.

    :ivar kind: ``boolean``, ``integer`` or ``string``.
    :ivar default: a value makes the argument optional.
    """

    name: str
    kind: str
    minimum: int | None = None
    maximum: int | None = None
    default: Value | None = None

    def schema(self) -> dict[str, Any]:
        limits = {"default": self.default, "minimum": self.minimum, "maximum": self.maximum}
        return {"type": self.kind} | {k: v for k, v in limits.items() if v is not None}


@dataclass(frozen=True, slots=True)
class SimulatedTool:
    """A tool of the device.

    :ivar run: receives every argument; the message of a raised :class:`DeviceError`
        becomes the error message.
    :ivar user_only: listed only with ``withUserTools``, but always callable.
    """

    name: str
    description: str
    run: Run
    parameters: tuple[Parameter, ...] = ()
    user_only: bool = False

    def listed(self) -> str:
        """Return the tool's entry in ``tools/list`` as JSON."""
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {p.name: p.schema() for p in self.parameters},
        }
        required = [p.name for p in self.parameters if p.default is None]
        if required:
            schema["required"] = required
        whole = {"name": self.name, "description": self.description, "inputSchema": schema}
        if self.user_only:
            whole["annotations"] = {"audience": ["user"]}
        return _json(whole)


@dataclass(frozen=True, slots=True)
class VisionTarget:
    """Upload address for photos, from ``initialize``; empty if there is none."""

    url: str = ""
    token: str = ""


class McpServer:
    """Answers JSON-RPC payloads one at a time; the caller waits for each reply.

    :param called: receives each tool call when it has ended.
    :param page: bytes of a page of ``tools/list``.
    :ivar vision: from the last ``initialize``.
    """

    def __init__(
        self,
        tools: Sequence[SimulatedTool],
        called: Callable[[ToolCalled], None],
        *,
        board: str = "xiaozhi-software-device",
        version: str = "2.4.2",
        page: int = PAGE,
    ) -> None:
        self._tools = {tool.name: tool for tool in tools}
        self._called = called
        self._board = board
        self._version = version
        self._page = page
        self.vision = VisionTarget()

    async def answer(self, payload: bytes) -> str | None:
        """Answer a request.

        :return: the reply as JSON, which is malformed if a name with quotes is part of an
            error; None if the firmware sends no reply.
        """
        try:
            whole = json.loads(payload, object_pairs_hook=_Object)
        except (ValueError, RecursionError):
            return None
        method = whole.text("method") if isinstance(whole, _Object) else None
        if method is None or whole.text("jsonrpc") != "2.0" or method.startswith("notifications"):
            return None
        number = whole.find("id")
        if not isinstance(whole.find("params", whole), _Object) or not _is_number(number):
            return None
        params: _Object | None = whole.find("params")
        try:
            result = await self._result(method, params)
        except _Refusal as refusal:
            return f'{{"jsonrpc":"2.0","id":{_int(number)},"error":{{"message":"{refusal}"}}}}'
        return f'{{"jsonrpc":"2.0","id":{_int(number)},"result":{result}}}'

    async def _result(self, method: str, given: _Object | None) -> str:
        params = given if given is not None else _Object([])
        if method == "initialize":
            return self._initialize(params)
        if method == "tools/list":
            with_user_tools = params.find("withUserTools") is True
            return self._list(params.text("cursor") or "", with_user_tools)
        if method == "tools/call":
            if given is None:
                raise _Refusal("Missing params")
            return await self._call(params)
        raise _Refusal(f"Method not implemented: {method}")

    def _initialize(self, params: _Object) -> str:
        capabilities = params.find("capabilities")
        vision = capabilities.find("vision") if isinstance(capabilities, _Object) else None
        if isinstance(vision, _Object):
            self.vision = VisionTarget(vision.text("url") or "", vision.text("token") or "")
        return _json(
            {
                "protocolVersion": PROTOCOL_VERSION,
                "capabilities": {"tools": {}},
                "serverInfo": {"name": self._board, "version": self._version},
            }
        )

    def _list(self, cursor: str, with_user_tools: bool) -> str:
        tools = [t for t in self._tools.values() if with_user_tools or not t.user_only]
        names = [tool.name for tool in tools]
        if cursor and cursor not in names:
            raise _Refusal(f"Unknown cursor: {cursor}")
        shown: list[str] = []
        size = 0
        for tool in tools[names.index(cursor) if cursor else 0 :]:
            listed = tool.listed()
            size += len(listed.encode()) + 1
            if size + 30 > self._page:
                if not shown:
                    raise _Refusal(f"Failed to add tool {tool.name}: it is over the size limit")
                return f'{{"tools":[{",".join(shown)}],"nextCursor":{_json(tool.name)}}}'
            shown.append(listed)
        return f'{{"tools":[{",".join(shown)}]}}'

    async def _call(self, params: _Object) -> str:
        name = params.text("name")
        if name is None:
            raise _Refusal("Missing name")
        given = params.find("arguments", _Object([]))
        if not isinstance(given, _Object):
            raise _Refusal("Invalid arguments")
        tool = self._tools.get(name)
        if tool is None:
            raise _Refusal(f"Unknown tool: {name}")
        arguments: dict[str, Value] = {}
        try:
            arguments = {p.name: _argument(given, p) for p in tool.parameters}
            value = await tool.run(arguments)
        except (_Refusal, DeviceError) as error:
            message = error.message if isinstance(error, DeviceError) else str(error)
            self._called(ToolCalled(name, _json(arguments), message, failed=True))
            raise _Refusal(message) from None
        text = value if isinstance(value, str) else _json(value)
        self._called(ToolCalled(name, _json(arguments), text, failed=False))
        return _json({"content": [{"type": "text", "text": text}], "isError": False})


class _Refusal(Exception):
    """The text of an error reply."""


class _Object(list[tuple[str, Any]]):
    """A JSON object as the firmware reads it: keys match in any case, the first one wins."""

    def find(self, name: str, default: Any = None) -> Any:
        """Return the member, or the default if it is missing."""
        for key, value in self:
            if key.lower() == name.lower():
                return value
        return default

    def text(self, name: str) -> str | None:
        value = self.find(name)
        return value if isinstance(value, str) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _int(number: float) -> int:
    """Truncate to an integer and clamp to 32 bits, as the firmware's parser does."""
    if number != number:
        return 0
    return int(max(-(2**31), min(2**31 - 1, number)))


def _argument(given: _Object, parameter: Parameter) -> Value:
    value = given.find(parameter.name)
    if parameter.kind == "boolean" and isinstance(value, bool):
        return value
    if parameter.kind == "string" and isinstance(value, str):
        return value
    if parameter.kind == "integer" and _is_number(value):
        number = _int(value)
        if parameter.minimum is not None and number < parameter.minimum:
            raise _Refusal(f"Value is below minimum allowed: {parameter.minimum}")
        if parameter.maximum is not None and number > parameter.maximum:
            raise _Refusal(f"Value exceeds maximum allowed: {parameter.maximum}")
        return number
    if parameter.default is not None:
        return parameter.default
    raise _Refusal(f"Missing valid argument: {parameter.name}")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
