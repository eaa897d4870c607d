"""What the assistant can do in one session: the server's functions and the device's tools."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from xiaozhi.ai.session.shared import SharedServices
from xiaozhi.ai.vision.pictures import read_picture
from xiaozhi.base.errors import ToolError
from xiaozhi.interfaces import IVisionModel
from xiaozhi.runtime.cancelling import Gate
from xiaozhi.tools.device.iot import DeviceThings
from xiaozhi.tools.device.mcp import DeviceMcp
from xiaozhi.tools.toolbox import Toolbox, ToolContext
from xiaozhi.wire.messages import Iot, Mcp, SessionOpen

# Of tools in a log line: names, and characters of each.
_NAMES_SHOWN, _NAME_SHOWN = 10, 64


class SessionTools:
    """The session's toolbox, filled while the device introduces itself.

    :param send: sends a message to the device.
    :param end: ends the session after the answer has been played.
    :ivar ready: open once the device has said what it can do, or will not.
    """

    _log = Logger()

    def __init__(
        self,
        opening: SessionOpen,
        send: Callable[[Any], None],
        assistant: SharedServices,
        end: Callable[[], None],
    ) -> None:
        context = ToolContext(opening.device, assistant.seconds, end)
        self.toolbox = Toolbox(assistant.functions.tools(context))
        self.ready = Gate(is_open=not opening.hello.features.mcp)
        self._mcp = DeviceMcp(send, assistant.clock, assistant.settings.mcp)
        self._things = DeviceThings(send, assistant.settings.mcp.tools)
        self._vision: IVisionModel = assistant.providers.vlllm
        self._max_pixels = assistant.settings.max_pixels
        self._discovery: Deferred[None] | None = None
        if opening.hello.features.mcp:
            url, token = assistant.vision(opening.device, opening.host)
            discovery = self._discover(opening.session_id, url, token)
            self._discovery = Deferred.fromCoroutine(discovery)

    def received(self, message: Mcp | Iot) -> None:
        """The device answers, or describes its things."""
        if isinstance(message, Mcp):
            self._mcp.received(message)
        else:
            for tool in self._things.received(message):
                self.toolbox.add(tool)

    async def describe(self, picture: bytes, question: str) -> str:
        """Have the vision model answer a question about an encoded picture.

        :raises ProtocolError: the bytes are no usable picture.
        :raises ProviderError: the model failed.
        """
        checked = read_picture(picture, self._max_pixels)
        words: str = await self._vision.describe(checked, question)
        return words

    def close(self) -> None:
        """The session is over: what waits for the device fails."""
        self._mcp.close()
        if self._discovery is not None:
            self._discovery.cancel()

    async def _discover(self, session_id: str, vision_url: str, vision_token: str) -> None:
        try:
            for tool in await self._mcp.discover(vision_url, vision_token):
                self.toolbox.add(tool)
            self._tell_malformed(session_id)
        except ToolError as error:
            self._log.info(
                "{session_id}: no tools from the device: {error}",
                session_id=session_id,
                error=error.message,
            )
        except CancelledError:
            return
        self.ready.open()

    def _tell_malformed(self, session_id: str) -> None:
        mended, left_out = self._mcp.mended, self._mcp.left_out
        if mended or left_out:
            self._log.info(
                "{session_id}: malformed schemas of the device's tools; mended: {mended}; tools"
                " left out: {left_out}",
                session_id=session_id,
                mended=_listed(mended),
                left_out=_listed(left_out),
            )


def _listed(names: list[str]) -> str:
    """Some names for a log."""
    told = ", ".join(ascii(name[:_NAME_SHOWN]) for name in names[:_NAMES_SHOWN]) or "none"
    return told + (f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else "")
