"""The tools of one session: those of the server's sources and those of its device."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

from twisted.logger import Logger

from xiaozhi.ai.session.shared import SessionServices
from xiaozhi.ai.vision.pictures import read_picture
from xiaozhi.base.toolpolicy import ToolPolicy
from xiaozhi.base.toolsource import SourceState, ToolSession
from xiaozhi.interfaces import ITool, IToolSource, IVisionModel
from xiaozhi.runtime.cancelling import Gate
from xiaozhi.tools.device.mcp import DeviceMcp
from xiaozhi.tools.device.things import DeviceThings
from xiaozhi.tools.names import safe_name
from xiaozhi.tools.toolbox import Toolbox
from xiaozhi.wire.messages import Downlink, Iot, Mcp, SessionOpen

# Of tools in a log line: names, and characters of each.
_NAMES_SHOWN, _NAME_SHOWN = 10, 64


class SessionTools:
    """The session's toolbox, filled while the device introduces itself and kept up to date
    when a source changes.

    :param send: sends a message to the device.
    :param end: ends the session after the answer has been played.
    :ivar ready: open once the device's tools are known, or will not be.
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
        """Offer tools of the session's own, as far as the agent may use them.

        :param source: a name that no tool source has; the tools offered under it before are
            replaced.
        """
        self.toolbox.update(source, [tool for tool in tools if self._permits(source, tool)])

    def confirms(self, name: str) -> bool:
        """Whether a tool runs only after the person has said yes.

        :param name: as the toolbox has it.
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
        """Serve another agent: with its vision model, its limits, and the tools it may use.

        Tools of the session's own have to be offered again.
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
        """Take a message of the device: an answer, or a description of its things."""
        if isinstance(message, Mcp):
            self._mcp.received(message)
        else:
            self._things.received(message)

    async def describe(self, picture: bytes, question: str) -> str:
        """Have the vision model answer a question about an encoded picture.

        :raises ProtocolError: the bytes are no usable picture.
        :raises ProviderError: the model failed.
        """
        checked = read_picture(picture, self._max_pixels)
        words: str = await self._vision.describe(checked, question)
        return words

    def close(self) -> None:
        """End the session: calls that wait for the device fail."""
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
    """Some names for a log."""
    shown = ", ".join(ascii(name[:_NAME_SHOWN]) for name in names[:_NAMES_SHOWN]) or "none"
    return shown + (f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else "")
