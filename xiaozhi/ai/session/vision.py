"""Vision of the agent that serves a device, for pictures that come over HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from xiaozhi.agents.agent import Agent
from xiaozhi.ai.session.services import AgentServicesTable
from xiaozhi.base.call import CallContext, calling
from xiaozhi.base.errors import XiaozhiError
from xiaozhi.base.values import Picture
from xiaozhi.wire.messages import Device


class DeviceVision:
    """Describes pictures with the vision model of each device's own agent.

    :param agent_of: finds the agent that serves a device.
    """

    _log = Logger()

    def __init__(
        self, agent_of: Callable[[Device], Awaitable[Agent]], table: AgentServicesTable
    ) -> None:
        self._agent_of = agent_of
        self._table = table

    def describe(self, device: Device, picture: Picture, question: str) -> Deferred[str]:
        """Answer a question about a picture.

        If the device's agent cannot be found, the default agent looks at it.

        :raises ProviderError: through the Deferred. Cancelling it ends the vendor's request.
        """
        return Deferred.fromCoroutine(self._describe(device, picture, question))

    async def _describe(self, device: Device, picture: Picture, question: str) -> str:
        try:
            agent = await self._agent_of(device)
        except XiaozhiError as error:
            self._log.warn(
                "device {device}: no agent found, the default one looks at its picture: {error}",
                device=device.device_id,
                error=error,
            )
            agent = self._table.default
        services = self._table.lease(agent)
        call = CallContext(
            agent_id=services.agent.id,
            device_id=device.device_id,
            client_id=device.client_id,
            user_id=device.user_id,
            language=services.settings.dialogue.language,
            voice=str(services.agent.voice.get("id", "")),
        )
        try:
            with calling(call):
                return str(await services.vlllm.describe(picture, question))
        finally:
            services.release()
