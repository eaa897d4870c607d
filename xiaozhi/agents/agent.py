"""The agent: everything that distinguishes one assistant from another, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from xiaozhi.agents.settings import SessionSettings
from xiaozhi.base.toolpolicy import ToolPolicy

#: The id of the agent that serves every device without another one.
DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Agent:
    """One version of an agent.

    :ivar id: stable; its key in the configuration.
    :ivar version: digest of everything below and of its providers' settings.
    :ivar name: for people; empty: the id.
    :ivar settings: of its sessions: prompt, roles, listening, idle time, memory, limits.
    :ivar providers: references by kind, each in the order of preference.
    :ivar voice: fields that the preferred synthesiser is given: of ``id``, ``rate``,
        ``pitch``, ``volume``.
    :ivar tools: which tools it may use.
    """

    id: str = DEFAULT
    version: str = ""
    name: str = ""
    settings: SessionSettings = field(default_factory=SessionSettings)
    providers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    voice: Mapping[str, str | float] = field(default_factory=dict)
    tools: ToolPolicy = ToolPolicy()
