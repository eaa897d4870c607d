"""Agents of a configuration file, and their assignment to devices."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import Any

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import replace as replace_field

from xiaozhi.agents.agent import DEFAULT, Agent
from xiaozhi.agents.roles import check_prompt, check_roles
from xiaozhi.agents.sections import AgentSection
from xiaozhi.agents.settings import RoleSettings, SessionSettings
from xiaozhi.base.errors import ConfigError
from xiaozhi.providers.kit.catalogue import ProviderCatalogue

#: Reads a section: ``(value, type, key path) -> value of the type``, ConfigError if not.
ReadSection = Callable[[Any, type[Any], str], Any]

# Sections of an agent that change fields of the same section of ``session``.
_PARTS = ("listen", "wake", "idle", "turn", "dialogue", "mcp", "speech", "announce")
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class AgentBook:
    """Agents by id, and the assignment of devices.

    :ivar assigned: agent ids by device id or pattern, first match first.
    """

    agents: Mapping[str, Agent]
    assigned: Mapping[str, str]

    @property
    def default(self) -> Agent:
        """The agent for devices without an assignment."""
        return self.agents[DEFAULT]

    def of(self, device_id: str) -> Agent:
        """Return a device's agent: by its id, else by the first pattern that matches."""
        found = self.assigned.get(device_id)
        if found is None:
            lower = device_id.lower()
            matching = (
                agent
                for pattern, agent in self.assigned.items()
                if fnmatchcase(lower, pattern.lower())
            )
            found = next(matching, DEFAULT)
        return self.agents[found]

    def changed(self, newer: AgentBook) -> tuple[str, ...]:
        """List the ids of agents that are new, removed or different in another book."""
        return tuple(
            sorted(
                agent_id
                for agent_id in self.agents.keys() | newer.agents.keys()
                if self._version(agent_id) != newer._version(agent_id)
            )
        )

    def _version(self, agent_id: str) -> str:
        agent = self.agents.get(agent_id)
        return agent.version if agent is not None else ""


class BookReader:
    """Reads agents from sections of a configuration.

    :param read_section: ``xiaozhi.runtime.config.read_section``.
    """

    def __init__(
        self,
        session: SessionSettings,
        selected: Mapping[str, str | tuple[str, ...]],
        catalogue: ProviderCatalogue,
        read_section: ReadSection,
    ) -> None:
        self._session = session
        self._selected = selected
        self._catalogue = catalogue
        self._read_section = read_section

    def read(self, sections: Mapping[str, Any], assigned: Mapping[str, str]) -> AgentBook:
        """Read all agents.

        :param sections: by agent id.
        :param assigned: agent ids by device id or pattern.
        :raises ConfigError: naming the key: ``agents.kitchen.listen.end_silence``.
        """
        read = {
            str(agent_id): self._section(str(agent_id), section)
            for agent_id, section in sections.items()
        }
        agents = {DEFAULT: self._agent(self._base(), read.get(DEFAULT))}
        for agent_id in read:
            self._inherit(agent_id, read, agents, ())
        for pattern, agent_id in assigned.items():
            if agent_id not in agents:
                raise ConfigError(
                    f"devices.agents.{pattern}: there is no agent {agent_id}; {_are(agents)}"
                )
        return AgentBook(agents, dict(assigned))

    def _section(self, agent_id: str, section: Any) -> AgentSection:
        key = f"agents.{agent_id}"
        if not _ID.fullmatch(agent_id):
            raise ConfigError(f"{key}: an agent's id consists of letters, digits, - and _")
        read: AgentSection = self._read_section(
            {} if section is None else section, AgentSection, key
        )
        if agent_id == DEFAULT and read.inherits != DEFAULT:
            raise ConfigError(f"{key}.inherits: the default agent inherits from none")
        return read

    def _base(self) -> Agent:
        check_roles(self._session)
        providers = self._catalogue.lists(self._selected)
        return Agent(DEFAULT, settings=self._session, providers=providers)

    def _inherit(
        self,
        agent_id: str,
        read: Mapping[str, AgentSection],
        agents: dict[str, Agent],
        heirs: tuple[str, ...],
    ) -> Agent:
        if agent_id in agents:
            return agents[agent_id]
        key = f"agents.{(heirs or (agent_id,))[-1]}.inherits"
        if agent_id in heirs:
            circle = " -> ".join((*heirs[heirs.index(agent_id) :], agent_id))
            raise ConfigError(f"{key}: agents inherit from each other in a circle: {circle}")
        if agent_id not in read:
            raise ConfigError(f"{key}: there is no agent {agent_id}; {_are({*read, DEFAULT})}")
        section = read[agent_id]
        parent = self._inherit(section.inherits, read, agents, (*heirs, agent_id))
        agent = self._agent(replace(parent, id=agent_id, name=""), section)
        agents[agent_id] = agent
        return agent

    def _agent(self, parent: Agent, section: AgentSection | None) -> Agent:
        """:param parent: the inherited agent, with the new agent's id."""
        key = f"agents.{parent.id}"
        if section is None:
            return self._versioned(parent, "selected", "voice")
        providers = {**parent.providers, **section.providers}
        keys = key + ".providers" if section.providers else "selected"
        voice = {**parent.voice, **_set(section.voice)}
        agent = replace(
            parent,
            name=section.name,
            settings=self._settings(parent.settings, section, key),
            providers=self._catalogue.lists(providers, keys),
            voice=voice,
            tools=replace(parent.tools, **_set(section.tools)),
        )
        return self._versioned(agent, keys, f"{key}.voice")

    def _settings(
        self, session: SessionSettings, section: AgentSection, key: str
    ) -> SessionSettings:
        changes: dict[str, Any] = {}
        for part in _PARTS:
            own = getattr(session, part)
            given = {**_shortcuts(section, part), **getattr(section, part)}
            if given:
                merged = {**msgspec.to_builtins(own), **given}
                changes[part] = self._read_section(merged, type(own), f"{key}.{part}")
        if section.roles is not UNSET:
            changes["roles"] = dict(section.roles)
            changes["role"] = next(iter(section.roles), "")
            changes["device_roles"] = {}
        if section.role is not UNSET:
            changes["role"] = section.role
        settings = replace_field(session, **changes)
        role = settings.roles.get(settings.role)
        if role is not None:
            changed = _changed_role(role, section, key)
            settings = replace_field(settings, roles={**settings.roles, settings.role: changed})
        check_roles(settings, key)
        return settings

    def _versioned(self, agent: Agent, selected_key: str, voice_key: str) -> Agent:
        """Check the agent's providers, and set its version to a digest of its content."""
        entries = self._catalogue.entries(agent.providers, selected_key, agent.voice, voice_key)
        content = (
            agent.name,
            agent.settings,
            {kind: [entry.identity for entry in several] for kind, several in entries.items()},
            dict(agent.voice),
            agent.tools,
        )
        digest = sha256(msgspec.json.encode(content, order="sorted")).hexdigest()[:16]
        return replace(agent, version=digest)


def _changed_role(role: RoleSettings, section: AgentSection, key: str) -> RoleSettings:
    """Apply an agent's prompt and greeting, which take precedence over its role's."""
    if section.prompt is not UNSET:
        check_prompt(section.prompt, f"{key}.prompt")
        role = replace_field(role, prompt=section.prompt, greeting="")
    if section.greeting is not UNSET:
        role = replace_field(role, greeting="")
    return role


def _set(section: Struct) -> dict[str, Any]:
    """Return the fields of a section that are set."""
    return {
        name: value
        for name in section.__struct_fields__
        if (value := getattr(section, name)) is not UNSET
    }


def _shortcuts(section: AgentSection, part: str) -> dict[str, Any]:
    """Return the fields of a part of ``session`` that an agent's short keys set."""
    if part == "wake":
        return {"greeting": section.greeting} if section.greeting is not UNSET else {}
    if part != "dialogue":
        return {}
    found = _set(section.memory)
    if "kind" in found:
        found["memory"] = found.pop("kind")
    if section.language is not UNSET:
        found["language"] = section.language
    return found


def _are(known: Iterable[str]) -> str:
    return "there are " + ", ".join(sorted(known))
