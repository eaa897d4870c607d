"""The agent: everything that distinguishes one assistant from another, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from xiaozhi.agents.settings import SessionSettings
from xiaozhi.base.toolpolicy import ToolPolicy

#: The id of the agent that serves all devices without an assignment.
DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Agent:
    """One version of an agent.

    :ivar id: stable id, its key in the configuration.
    :ivar version: digest of the fields below and of its providers' settings.
    :ivar name: name for people; empty: the id.
    :ivar settings: settings of its sessions: prompt, roles, listening, idle time, memory, limits.
    :ivar providers: references by kind, in the order of preference.
    :ivar voice: fields for the preferred synthesiser: any of ``id``, ``rate``, ``pitch``,
        ``volume``.
    :ivar tools: the tools it may use.
    """

    id: str = DEFAULT
    version: str = ""
    name: str = ""
    settings: SessionSettings = field(default_factory=SessionSettings)
    providers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    voice: Mapping[str, str | float] = field(default_factory=dict)
    tools: ToolPolicy = ToolPolicy()
