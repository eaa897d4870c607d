"""A device's tools over MCP, with the server as the MCP client (§5)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from xiaozhi.base.errors import ToolError
from xiaozhi.base.toolresult import ToolResult
from xiaozhi.base.values import ToolSpec
from xiaozhi.interfaces import ITool, IToolSource
from xiaozhi.interfaces.toolsource import SourceState, SourceStatus, ToolSession
from xiaozhi.tools.device.mcpresult import result_of, text_of
from xiaozhi.tools.device.relist import ToolListing
from xiaozhi.tools.jsonrpc import JsonRpcClient, JsonRpcError, JsonRpcPeer
from xiaozhi.tools.names import safe_name
from xiaozhi.tools.schema import UnusableSchema, repaired
from xiaozhi.tools.settings import McpSettings
from xiaozhi.tools.source import SourceBase
from xiaozhi.wire.messages import Mcp

# Names of camera tools on boards, in browsers and in Chinese.
_CAMERA = re.compile(r"photo|camera|picture|snapshot|capture|vision|拍照|拍摄|相机|摄像", re.I)

#: The name of the source.
DEVICE = "device"
_CODES = {"rpc_closed": "device_gone", "rpc_busy": "device_busy"}
_LIST_CHANGED = "notifications/tools/list_changed"


@dataclass(slots=True)
class _ToolList:
    """A device's tools, as far as they were listed.

    :ivar repaired: names of tools whose malformed schema was repaired.
    :ivar left_out: names of tools whose schema is unusable.
    :ivar broken_off: code of the error that ended the list early; empty: it is complete.
    """

    tools: list[ITool] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    broken_off: str = ""


@implementer(IToolSource)
class DeviceMcp(SourceBase):
    """The tools of one device over MCP (§5); lasts as long as its session.

    Devices do not answer text ids (§5.1), and some echo responses with ids we never used
    (§5.2). Their own requests are ignored. When a device reports that its tools have changed,
    they are listed again.

    :param send: sends a message to the device.
    :param vision: URL at which the device uploads photos, and its token for that; an empty URL:
        it cannot.
    """

    _log = Logger()

    def __init__(
        self,
        send: Callable[[Mcp], None],
        clock: IReactorTime,
        settings: McpSettings,
        vision: tuple[str, str] = ("", ""),
    ) -> None:
        super().__init__(DEVICE)
        self._settings = settings
        self._vision = vision
        self._list = _ToolList()
        listing = ToolListing(self._list_tools, lambda: self._settings.relist, clock)
        self._listing = listing
        peer = JsonRpcPeer(notifications={_LIST_CHANGED: lambda _: listing.again()})
        self._rpc = JsonRpcClient(lambda data: send(Mcp(data)), clock, peer=peer)

    @property
    def repaired(self) -> list[str]:
        """Names of tools whose malformed schema was repaired."""
        return self._list.repaired

    @property
    def left_out(self) -> list[str]:
        """Names of tools whose schema is unusable."""
        return self._list.left_out

    def adopt(self, settings: McpSettings) -> None:
        """Switch to other limits."""
        former, self._settings = self._settings, settings
        if former.tools <= len(self._list.tools) < settings.tools:
            # The device may have more tools than the former limit allowed.
            self._listing.again()

    def start(self) -> Deferred[None]:
        """Discover the device's tools; see :class:`~xiaozhi.interfaces.IToolSource`."""
        return self._listing.start()

    async def _list_tools(self) -> None:
        if self.status.state is not SourceState.STARTING:
            await self._list_again()
            return
        try:
            await self.discover()
        except ToolError as error:
            self.changed(SourceState.FAILED, error.message)
        else:
            self.changed(SourceState.READY)

    async def _list_again(self) -> None:
        """Replace the list by a complete new one; until then, keep the former."""
        try:
            listed = await self._listed()
            if listed.broken_off:
                raise ToolError(listed.broken_off, "it breaks off")
        except ToolError as error:
            self._log.info(
                "mcp: the changed list of tools was not read, keeping the former: {code}: {error}",
                code=error.code,
                error=error.message,
            )
            return
        self._list = listed
        self.changed(SourceState.READY)

    def stop(self) -> Deferred[None]:
        """End the session; pending calls fail."""
        self.status = SourceStatus(SourceState.STOPPED)
        self._listing.stop()
        self._rpc.close("the device is gone")
        return succeed(None)

    def tools(self, session: ToolSession) -> list[ITool]:
        """See :class:`~xiaozhi.interfaces.IToolSource`."""
        return self._list.tools[: self._settings.tools]

    async def discover(self) -> list[ITool]:
        """Initialise MCP and fetch the device's tools, page by page.

        :raises ToolError: the device does not respond, or returns an error.
        """
        capabilities: dict[str, Any] = {}
        url, token = self._vision
        if url:
            capabilities["vision"] = {"url": url, "token": token}
        await self._request(
            "initialize",
            {
                "protocolVersion": "2024-11-05",
                "capabilities": capabilities,
                "clientInfo": {"name": "xiaozhi-ai", "version": "1.0.0"},
            },
            self._settings.answer,
        )
        self._list = await self._listed()
        if code := self._list.broken_off:
            self._log.info("mcp: the list of tools is incomplete: {code}", code=code)
        return self._list.tools

    async def _listed(self) -> _ToolList:
        """Fetch the list, page by page.

        :raises ToolError: the first page failed.
        """
        found = _ToolList()
        seen: set[str] = set()
        cursor = ""
        while len(found.tools) + len(found.left_out) < self._settings.tools:
            params = {"cursor": cursor} if cursor else {}
            try:
                page = await self._request("tools/list", params, self._settings.answer)
            except ToolError as error:
                if not found.tools:
                    raise
                found.broken_off = error.code
                break
            listed = page.get("tools") if isinstance(page, dict) else None
            if not isinstance(listed, list):
                found.broken_off = "no_list"
                break
            self._add(listed, found)
            cursor = page.get("nextCursor") or ""
            # A device that repeats a cursor, or has ever another empty page, would
            # keep us here for ever.
            if not isinstance(cursor, str) or not cursor or cursor in seen or not listed:
                break
            seen.add(cursor)
        del found.tools[self._settings.tools :]
        return found

    def _add(self, listed: list[Any], found: _ToolList) -> None:
        for entry in listed:
            name = entry.get("name") if isinstance(entry, dict) else None
            if not isinstance(name, str) or not name:
                continue
            try:
                parameters, changed = repaired(entry.get("inputSchema"))
            except UnusableSchema:
                found.left_out.append(name)
                continue
            if changed:
                found.repaired.append(name)
            description = str(entry.get("description") or name)
            spec = ToolSpec(safe_name(name), description, parameters, name)
            found.tools.append(DeviceTool(self, name, spec))

    def limit(self, name: str) -> float:
        """Return the timeout of a tool in seconds; photos take longer (§5.2)."""
        return self._settings.camera if _CAMERA.search(name) else self._settings.call

    async def call(self, name: str, arguments: dict[str, Any]) -> ToolResult:
        """Run a tool by the device's name for it; the device runs one at a time.

        :raises ToolError: the device's error text, or no response in time.
        """
        result = await self._request(
            "tools/call", {"name": name, "arguments": arguments}, self.limit(name)
        )
        if isinstance(result, dict) and result.get("isError") is True:
            raise ToolError("device_tool_failed", text_of(result) or f"{name} failed")
        return result_of(result)

    def received(self, message: Mcp) -> None:
        """Handle a message of the device; a response without a request is ignored."""
        self._rpc.received(message.payload)

    async def _request(self, method: str, params: dict[str, Any], limit: float) -> Any:
        try:
            return await self._rpc.request(method, params, limit)
        except JsonRpcError as error:
            if error.code == "rpc_timeout":
                words = f"the device did not answer {method} in {limit:g} s"
                raise ToolError("device_silent", words) from None
            raise ToolError(_CODES.get(error.code, "device_error"), error.message) from None


@implementer(ITool)
class DeviceTool:
    """One tool of a device, which runs one at a time (§5.2).

    The device cannot cancel a call; cancellation ignores the response.
    """

    lane = "device"
    interruptible = True

    def __init__(self, device: DeviceMcp, name: str, spec: ToolSpec) -> None:
        self.spec = spec
        self._device = device
        self._name = name

    @property
    def limit(self) -> float:
        """Slightly more than the request's own timeout, whose error message is better."""
        return self._device.limit(self._name) + 1

    async def call(self, arguments: dict[str, Any]) -> ToolResult:
        return await self._device.call(self._name, arguments)
