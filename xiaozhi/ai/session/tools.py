"""Tools of one session: from the server's sources and from its device."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

from twisted.logger import Logger

from xiaozhi.ai.session.shared import SessionServices
from xiaozhi.ai.vision.pictures import read_picture
from xiaozhi.base.toolpolicy import ToolPolicy
from xiaozhi.interfaces import ITool, IToolSource, IVisionModel
from xiaozhi.interfaces.toolsource import SourceState, ToolSession
from xiaozhi.runtime.cancelling import Gate
from xiaozhi.tools.device.mcp import DeviceMcp
from xiaozhi.tools.device.things import DeviceThings
from xiaozhi.tools.names import safe_name
from xiaozhi.tools.toolbox import Toolbox
from xiaozhi.wire.messages import Downlink, Iot, Mcp, SessionOpen

# Limits for tool names in a log line: number of names, and characters of each.
_NAMES_SHOWN, _NAME_SHOWN = 10, 64


class SessionTools:
    """Fills the session's toolbox while the device introduces itself, and updates it when a
    tool source changes.

    :param send: sends a message to the device.
    :param end: ends the session after the answer has been played.
    :ivar ready: opens when the device's tools are known or their discovery has failed.
    """

    _log = Logger()

    def __init__(
        self,
        opening: SessionOpen,
        send: Callable[[Downlink], None],
        shared: SessionServices,
        end: Callable[[], None],
    ) -> None:
        agent = shared.agent.agent
        self._session = ToolSession(opening.device, opening.session_id, agent.id, end=end)
        self._policy: ToolPolicy = agent.tools
        self.toolbox = Toolbox()
        speaks_mcp = opening.hello.features.mcp
        self.ready = Gate(is_open=not speaks_mcp)
        vision = shared.vision(opening.device, opening.host) if speaks_mcp else ("", "")
        self._mcp = DeviceMcp(send, shared.clock, shared.settings.mcp, vision)
        self._things = DeviceThings(send, shared.settings.mcp.tools)
        self._vision: IVisionModel = shared.agent.vlllm
        self._max_pixels = shared.settings.max_pixels
        self._watches: list[Callable[[], None]] = []
        self._sources: tuple[IToolSource, ...] = (*shared.tools.all, self._mcp, self._things)
        for source in self._sources:
            self._take(source)
            self._watches.append(source.watch(partial(self._take, source)))
        if speaks_mcp:
            self._mcp.start().addCallback(lambda _: self._introduced())

    def offer(self, source: str, tools: Iterable[ITool]) -> None:
        """Offer the session's own tools, as far as the agent may use them.

        :param source: a name that no tool source has; replaces the tools offered under it
            before.
        """
        self.toolbox.update(source, [tool for tool in tools if self._permits(source, tool)])

    def confirms(self, name: str) -> bool:
        """Return whether a tool needs a spoken confirmation.

        :param name: its name in the toolbox.
        """
        tool = self.toolbox.identity(name)
        if tool is None:
            return False
        title = tool.spec.title
        return self._policy.confirms(title, safe_name(title), name)

    def _permits(self, source: str, tool: ITool) -> bool:
        title = tool.spec.title or tool.spec.name
        return self._policy.permits(source, title, safe_name(title))

    def adopt(self, shared: SessionServices) -> None:
        """Switch to another agent's vision model, limits and permitted tools.

        The session's own tools must be offered again.
        """
        agent = shared.agent.agent
        self._session = replace(self._session, agent_id=agent.id)
        self._policy = agent.tools
        self._vision = shared.agent.vlllm
        self._max_pixels = shared.settings.max_pixels
        self._mcp.adopt(shared.settings.mcp)
        self._things.adopt(shared.settings.mcp.tools)
        for source in self._sources:
            self._take(source)

    def received(self, message: Mcp | Iot) -> None:
        """Handle a message of the device: a response, or a description of its things."""
        if isinstance(message, Mcp):
            self._mcp.received(message)
        else:
            self._things.received(message)

    async def describe(self, picture: bytes, question: str) -> str:
        """Answer a question about an encoded picture with the agent's vision model.

        :raises ProtocolError: the bytes are not a usable picture.
        :raises ProviderError: the model failed.
        """
        checked = read_picture(picture, self._max_pixels)
        words: str = await self._vision.describe(checked, question)
        return words

    def close(self) -> None:
        """End the session; calls that wait for the device fail."""
        for end in self._watches:
            end()
        self._mcp.stop()
        self._things.stop()
        self._watches.clear()

    def _take(self, source: IToolSource) -> None:
        self.offer(source.name, source.tools(self._session))

    def _introduced(self) -> None:
        status = self._mcp.status
        if status.state is SourceState.STOPPED:
            return
        if status.state is SourceState.FAILED:
            self._log.info(
                "{session_id}: no tools from the device: {error}",
                session_id=self._session.session_id,
                error=status.reason,
            )
        self._report_malformed()
        self.ready.open()

    def _report_malformed(self) -> None:
        repaired, left_out = self._mcp.repaired, self._mcp.left_out
        if repaired or left_out:
            self._log.info(
                "{session_id}: malformed schemas of the device's tools; repaired: {repaired}; tools"
                " left out: {left_out}",
                session_id=self._session.session_id,
                repaired=_listed(repaired),
                left_out=_listed(left_out),
            )


def _listed(names: list[str]) -> str:
    """Return the first names, shortened, for a log line."""
    shown = ", ".join(ascii(name[:_NAME_SHOWN]) for name in names[:_NAMES_SHOWN]) or "none"
    return shown + (f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else "")
