"""Agents that a test assigns, and their services with provider doubles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from xiaozhi.agents.agent import Agent
from xiaozhi.ai.session.services import AgentServicesTable, PhraseVoices
from xiaozhi.ai.speech.phrases import PhraseStore
from xiaozhi.ai.speech.shipped import Shipped
from xiaozhi.interfaces import IAgents, IFileStore
from xiaozhi.providers.kit.registry import ProviderSet
from xiaozhi.testing.parts import inline_timed_offload
from xiaozhi.wire.messages import Device


@implementer(IAgents)
class KnownAgents:
    """Agents that a test assigns.

    :ivar assigned: an agent by device id, or a Deferred of one: fired, failed or pending.
    """

    def __init__(self, default: Agent) -> None:
        self.default = default
        self.assigned: dict[str, Agent | Deferred[Agent]] = {}
        self._watchers: list[Callable[[], None]] = []

    def for_device(self, device: Device) -> Deferred[Agent]:
        """See :class:`IAgents`."""
        found = self.assigned.get(device.device_id, self.default)
        return found if isinstance(found, Deferred) else succeed(found)

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """See :class:`IAgents`."""
        self._watchers.append(changed)

        def end() -> None:
            if changed in self._watchers:
                self._watchers.remove(changed)

        return end

    def assign(self, device_id: str, agent: Agent | Deferred[Agent]) -> None:
        """Assign an agent to a device and notify the watchers."""
        self.assigned[device_id] = agent
        for changed in [*self._watchers]:
            changed()


def services_table(
    default: Agent,
    providers: Mapping[str, ProviderSet],
    files: IFileStore,
    *,
    shipped: bool = True,
) -> AgentServicesTable:
    """Make the services of agents, without phrase prewarming.

    :param providers: by agent id, read when an agent is leased; agents without an entry use
        those of ``default``.
    :param shipped: whether the phrases that ship with the program are used.
    """
    voices = PhraseVoices(
        PhraseStore(files), Shipped(inline_timed_offload) if shipped else None, None
    )

    def select(agent: Agent) -> ProviderSet:
        found = providers.get(agent.id, providers[default.id])
        # A provider set with groups would replace the turn limits that the test sets.
        own = "voice" if agent.id == default.id else f"voice of {agent.id}"
        return replace(found, voice=own, groups=())

    return AgentServicesTable(default, select, voices)
