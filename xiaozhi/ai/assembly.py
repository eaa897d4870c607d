"""Assembly of the agents: their book, reloading, providers and services."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import msgspec
from msgspec.structs import replace as replace_setting
from twisted.internet.defer import DeferredLock
from twisted.logger import Logger

from xiaozhi.agents.agent import DEFAULT, Agent
from xiaozhi.agents.book import AgentBook, BookReader
from xiaozhi.agents.files import FileAgents, FileReading
from xiaozhi.agents.needs import needs_of
from xiaozhi.ai.schema import AiSettings
from xiaozhi.ai.session.services import AgentServicesTable, PhraseVoices
from xiaozhi.ai.session.vision import DeviceVision
from xiaozhi.ai.speech.phrases import PhraseStore
from xiaozhi.ai.speech.prewarming import PrewarmingRuntime
from xiaozhi.ai.speech.shipped import Shipped
from xiaozhi.ai.vision.store import PictureStore
from xiaozhi.base.errors import ConfigError
from xiaozhi.interfaces import IFileStore, ProviderRuntime
from xiaozhi.providers.kit.catalogue import Entry, ProviderCatalogue, unmet
from xiaozhi.providers.kit.registry import ProviderRegistry, ProviderSet
from xiaozhi.runtime.config import load, read_section
from xiaozhi.runtime.offload import ThreadOffload
from xiaozhi.runtime.service import ServiceOptions

_log = Logger()

# Sections that take effect when the file is reloaded.
_READ_AGAIN = frozenset(("agents", "session", "selected", "providers"))


@dataclass(frozen=True, slots=True)
class Agents:
    """The agents of the process, their providers and services.

    :ivar vision: describes pictures that arrive over HTTP.
    """

    files: FileAgents
    registry: ProviderRegistry
    table: AgentServicesTable
    vision: DeviceVision


def assemble_agents(
    settings: AiSettings,
    runtime: ProviderRuntime,
    files: IFileStore,
    offload: ThreadOffload,
    options: ServiceOptions | None,
) -> Agents:
    """Assemble the agents. The default agent's providers are made now, those of others when
    a session needs them.

    :raises ConfigError: a section is invalid.
    """
    registry = ProviderRegistry(_catalogue(settings, options), runtime, settings.failover)
    book = _book(settings, registry.catalogue, options)
    _warn_of_needs(book, registry.catalogue)

    def select(agent: Agent) -> ProviderSet:
        providers = registry.select(_entries(agent, registry.catalogue))
        if settings.files.pictures.keep:
            providers = replace(providers, vlllm=PictureStore(providers.vlllm, files))
        return providers

    prewarming = PrewarmingRuntime(offload.within, runtime.reactor, DeferredLock())
    voices = PhraseVoices(PhraseStore(files), Shipped(offload.within), prewarming)
    table = AgentServicesTable(book.default, select, voices)
    reader = _reader(settings, registry, table, options)
    agents = FileAgents(book, reader, offload)
    return Agents(agents, registry, table, DeviceVision(agents.for_device, table))


def _path(options: ServiceOptions | None) -> str:
    return str(options.path) if options else "configuration"


def _catalogue(settings: AiSettings, options: ServiceOptions | None) -> ProviderCatalogue:
    return ProviderCatalogue(settings.providers, partial(read_section, path=_path(options)))


def _book(
    settings: AiSettings, catalogue: ProviderCatalogue, options: ServiceOptions | None
) -> AgentBook:
    return _read(settings, catalogue, _path(options))


def _read(settings: AiSettings, catalogue: ProviderCatalogue, path: str) -> AgentBook:
    selected = msgspec.structs.asdict(settings.selected)
    reader = BookReader(settings.session, selected, catalogue, partial(read_section, path=path))
    return reader.read(settings.agents, settings.devices.agents)


def _reader(
    settings: AiSettings,
    registry: ProviderRegistry,
    table: AgentServicesTable,
    options: ServiceOptions | None,
) -> Callable[[], FileReading]:
    """Return a function for a thread that reloads the file."""

    def read() -> FileReading:
        fresh = load(options.path, AiSettings, options.overrides) if options else settings
        catalogue = _catalogue(fresh, options)
        book = _book(fresh, catalogue, options)

        def apply() -> None:
            former = registry.adopt(catalogue)
            try:
                table.adopt_default(book.default)
            except ConfigError:
                registry.adopt(former)
                raise
            _warn_of_needs(book, catalogue)

        return FileReading(book, apply, _needing_restart(settings, fresh))

    return read


def _needing_restart(settings: AiSettings, fresh: AiSettings) -> tuple[str, ...]:
    """List the changed sections that need a restart."""
    own, other = (
        replace_setting(each, devices=replace_setting(each.devices, agents={}))
        for each in (settings, fresh)
    )
    return tuple(
        name
        for name in own.__struct_fields__
        if name not in _READ_AGAIN and getattr(own, name) != getattr(other, name)
    )


def _entries(agent: Agent, catalogue: ProviderCatalogue) -> dict[str, tuple[Entry, ...]]:
    key = "selected" if agent.id == DEFAULT else f"agents.{agent.id}.providers"
    return catalogue.entries(agent.providers, key, agent.voice, f"agents.{agent.id}.voice")


def _warn_of_needs(book: AgentBook, catalogue: ProviderCatalogue) -> None:
    """Log the needs of agents that none of their providers meets."""
    for agent in book.agents.values():
        key = "session" if agent.id == DEFAULT else f"agents.{agent.id}"
        confirm = f"agents.{agent.id}.tools.confirm" if agent.tools.confirm else ""
        needs = needs_of(agent.settings, key, tools=confirm)
        for need in unmet(needs, _entries(agent, catalogue)):
            _log.warn("{need}: it has no effect", need=need)
