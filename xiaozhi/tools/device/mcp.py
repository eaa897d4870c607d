"""The tools a device offers: the server is the MCP client (§5)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from xiaozhi.base.errors import ToolError
from xiaozhi.base.values import ToolSpec
from xiaozhi.interfaces import ITool
from xiaozhi.tools.device.mcpresult import text_of
from xiaozhi.tools.names import safe_name
from xiaozhi.tools.schema import UnusableSchema, mended
from xiaozhi.tools.settings import McpSettings
from xiaozhi.wire.messages import Mcp

# By what they are called on boards, in browsers and in Chinese.
_CAMERA = re.compile(r"photo|camera|picture|snapshot|capture|vision|拍照|拍摄|相机|摄像", re.I)


class DeviceMcp:
    """JSON-RPC with one device.

    One counter numbers all requests, and ids are integers: devices do not
    answer strings (§5.1), and some mirror answers to ids we never used (§5.2).
    Requests that are not answered end by their time limit.

    :param send: sends a message to the device.
    :ivar mended: names of tools whose schema was malformed; ``left_out``: of those that cannot
        be offered for it.
    """

    _log = Logger()

    def __init__(
        self, send: Callable[[Mcp], None], clock: IReactorTime, settings: McpSettings
    ) -> None:
        self._send = send
        self._clock = clock
        self._settings = settings
        self._next_id = 1
        # By the number as text: some clients send it back so.
        # Bound: one entry per request under way; each ends by its time limit.
        self._waiting: dict[str, Deferred[Any]] = {}
        self.mended: list[str] = []
        self.left_out: list[str] = []

    async def discover(self, vision_url: str, vision_token: str) -> list[ITool]:
        """Introduce ourselves and fetch the device's tools, page by page.

        :param vision_url: where the device uploads photos; empty: nowhere.
        :raises ToolError: the device does not answer, or says it cannot.
        """
        capabilities: dict[str, Any] = {}
        if vision_url:
            capabilities["vision"] = {"url": vision_url, "token": vision_token}
        await self._request(
            "initialize",
            {
                "protocolVersion": "2024-11-05",
                "capabilities": capabilities,
                "clientInfo": {"name": "xiaozhi-ai", "version": "1.0.0"},
            },
            self._settings.answer,
        )
        tools: list[ITool] = []
        seen: set[str] = set()
        cursor = ""
        while len(tools) + len(self.left_out) < self._settings.tools:
            params = {"cursor": cursor} if cursor else {}
            try:
                page = await self._request("tools/list", params, self._settings.answer)
            except ToolError as error:
                if not tools:
                    raise
                self._log.info("mcp: the list of tools breaks off: {code}", code=error.code)
                break
            page = page if isinstance(page, dict) else {}
            listed = page.get("tools")
            tools += self._tools_of(listed if isinstance(listed, list) else [])
            cursor = page.get("nextCursor") or ""
            # A device that repeats a cursor, or has ever another empty page, would
            # keep us here for ever.
            if not isinstance(cursor, str) or not cursor or cursor in seen or not listed:
                break
            seen.add(cursor)
        return tools[: self._settings.tools]

    def _tools_of(self, listed: list[Any]) -> list[ITool]:
        tools: list[ITool] = []
        for entry in listed:
            name = entry.get("name") if isinstance(entry, dict) else None
            if not isinstance(name, str) or not name:
                continue
            try:
                parameters, changed = mended(entry.get("inputSchema"))
            except UnusableSchema:
                self.left_out.append(name)
                continue
            if changed:
                self.mended.append(name)
            description = str(entry.get("description") or name)
            spec = ToolSpec(safe_name(name), description, parameters, name)
            tools.append(DeviceTool(self, name, spec))
        return tools

    def limit(self, name: str) -> float:
        """Seconds to wait for a tool; photos take longer (§5.2)."""
        return self._settings.camera if _CAMERA.search(name) else self._settings.call

    async def call(self, name: str, arguments: dict[str, Any]) -> str:
        """Run a tool by the device's name for it; the device runs one at a time.

        :raises ToolError: the device's error text, or no answer in time.
        """
        result = await self._request(
            "tools/call", {"name": name, "arguments": arguments}, self.limit(name)
        )
        text = text_of(result)
        if isinstance(result, dict) and result.get("isError") is True:
            raise ToolError("device_tool_failed", text or f"{name} failed")
        return text

    def received(self, message: Mcp) -> None:
        """The device sent something; what answers no request is ignored."""
        try:
            payload = msgspec.json.decode(message.payload)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            self._log.debug("mcp: the device sent an unreadable answer")
            return
        if not isinstance(payload, dict):
            return
        waiting = self._waiting.pop(str(payload.get("id")), None)
        if waiting is None:
            return
        error = payload.get("error")
        if error is not None:
            # Devices send no code (§5.1).
            words = error.get("message") if isinstance(error, dict) else error
            waiting.errback(ToolError("device_error", str(words)))
        else:
            waiting.callback(payload.get("result"))

    def close(self) -> None:
        """The session is over: what waits fails."""
        waiting, self._waiting = self._waiting, {}
        for deferred in waiting.values():
            deferred.errback(ToolError("device_gone", "the device is gone"))

    async def _request(self, method: str, params: dict[str, Any], limit: float) -> Any:
        number, self._next_id = self._next_id, self._next_id + 1

        def forget(_: Deferred[Any]) -> None:
            self._waiting.pop(str(number), None)

        answer: Deferred[Any] = Deferred(forget)
        self._waiting[str(number)] = answer
        answer.addTimeout(limit, self._clock, _no_answer(method, limit))
        request = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        self._send(Mcp(json.dumps(request, ensure_ascii=False).encode()))
        return await answer


def _no_answer(method: str, limit: float) -> Callable[[Any, float], Any]:
    def fail(_: Any, __: float) -> Any:
        raise ToolError("device_silent", f"the device did not answer {method} in {limit:g} s")

    return fail


@implementer(ITool)
class DeviceTool:
    """One tool of a device, which runs one at a time (§5.2).

    What was asked cannot be taken back: to cancel a call is to ignore its answer.
    """

    lane = "device"
    interruptible = True

    def __init__(self, device: DeviceMcp, name: str, spec: ToolSpec) -> None:
        self.spec = spec
        # A moment more than the request's own limit, which has the better words.
        self.limit = device.limit(name) + 1
        self._device = device
        self._name = name

    async def call(self, arguments: dict[str, Any]) -> str:
        return await self._device.call(self._name, arguments)
