"""Agents and their services, with doubles as providers."""

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
from xiaozhi.testing.parts import within
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
        """Change the agent of a device, and say so."""
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
    """Make the services of agents; no phrase is spoken ahead.

    :param providers: by agent id, read when an agent is leased; those of ``default`` serve
        agents that are not named.
    :param shipped: whether the phrases that come with the program are used.
    """
    voices = PhraseVoices(PhraseStore(files), Shipped(within) if shipped else None, None)

    def select(agent: Agent) -> ProviderSet:
        found = providers.get(agent.id, providers[default.id])
        # The limits of turns are those that the test sets, also with lists of providers.
        own = "voice" if agent.id == default.id else f"voice of {agent.id}"
        return replace(found, voice=own, groups=())

    return AgentServicesTable(default, select, voices)
