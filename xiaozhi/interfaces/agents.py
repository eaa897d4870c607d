"""Seam of agents: finds the agent that serves a device."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from xiaozhi.agents.agent import Agent
from xiaozhi.wire.messages import Device


class IAgents(Interface):
    """Finds the agent of a device."""

    default: Agent = Attribute("The agent for devices without an assignment.")

    def for_device(device: Device) -> Deferred[Agent]:
        """Find the agent that serves a device, in its newest version.

        May fail, and may take long: the caller sets a limit and uses :attr:`default`.
        """

    def watch(changed: Callable[[], None]) -> Callable[[], None]:
        """Call ``changed`` when an agent or the assignment of devices has changed.

        :return: a function that ends the watch. Idempotent.
        """
