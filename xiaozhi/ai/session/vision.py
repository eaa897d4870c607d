"""Vision model of a device's agent, for pictures that arrive over HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from zope.interface import implementer

from xiaozhi.agents.agent import Agent
from xiaozhi.ai.session.services import AgentServicesTable
from xiaozhi.base.call import calling, current_call
from xiaozhi.base.errors import XiaozhiError
from xiaozhi.base.values import Picture
from xiaozhi.interfaces import IVisionModel
from xiaozhi.wire.messages import Device


@implementer(IVisionModel)
class DeviceVision:
    """Vision model that passes each picture to the vision model of its device's agent.

    The call context names the device. Without a device, or if its agent cannot be found, the
    default agent's model describes the picture.

    :param agent_of: finds the agent that serves a device.
    """

    _log = Logger()

    def __init__(
        self, agent_of: Callable[[Device], Awaitable[Agent]], table: AgentServicesTable
    ) -> None:
        self._agent_of = agent_of
        self._table = table

    def describe(self, picture: Picture, question: str) -> Deferred[str]:
        """See :class:`~xiaozhi.interfaces.IVisionModel`. Cancellation ends the vendor's
        request."""
        return Deferred.fromCoroutine(self._describe(picture, question))

    async def _describe(self, picture: Picture, question: str) -> str:
        call = current_call()
        services = self._table.lease(
            await self._agent(Device(call.device_id, call.client_id, call.user_id))
        )
        agent = services.agent
        call = replace(
            call,
            agent_id=agent.id,
            language=services.settings.dialogue.language,
            voice=str(agent.voice.get("id", "")),
        )
        try:
            with calling(call):
                return str(await services.vlllm.describe(picture, question))
        finally:
            services.release()

    async def _agent(self, device: Device) -> Agent:
        if not device.device_id:
            return self._table.default
        try:
            return await self._agent_of(device)
        except XiaozhiError as error:
            self._log.warn(
                "device {device}: no agent found, the default agent describes its picture: {error}",
                device=device.device_id,
                error=error,
            )
            return self._table.default

    def close(self) -> Deferred[None]:
        """Do nothing: models are leased for each picture."""
        return succeed(None)
