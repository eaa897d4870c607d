"""Tool sources of the process, made from the configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.plugin import getPlugins

from xiaozhi import plugins
from xiaozhi.base.errors import ConfigError
from xiaozhi.interfaces import IToolSource, IToolSourceMaker, IToolStore
from xiaozhi.interfaces.toolsource import SourceState
from xiaozhi.tools.device.mcp import DEVICE
from xiaozhi.tools.device.things import THINGS
from xiaozhi.tools.runtime import SourceRuntime, ToolFacilities

#: Reads a section: ``(value, type, key path) -> value of the type``, ConfigError if not.
ReadSection = Callable[[Any, type[Any], str], Any]

# Names of the sources that each session has.
_RESERVED = (DEVICE, THINGS, "roles")


@dataclass(frozen=True, slots=True)
class _Made:
    source: IToolSource
    runtime: SourceRuntime


class ToolSources:
    """The sources that live as long as the process, in the order of their names.

    :param store: opened and closed with them.
    """

    _log = Logger()

    def __init__(self, made: Iterable[_Made] = (), store: IToolStore | None = None) -> None:
        self._made = tuple(made)
        self._store = store

    @property
    def all(self) -> tuple[IToolSource, ...]:
        """All sources, ready or not."""
        return tuple(each.source for each in self._made)

    def start(self) -> Deferred[None]:
        """Start all sources in parallel. A failed source is logged and does not affect others."""
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        if self._store is not None:
            await self._store.start()
        await DeferredList([each.source.start() for each in self._made], consumeErrors=True)
        for source in self.all:
            if source.status.state is not SourceState.READY:
                self._log.warn(
                    "tools: {source} is {state}: {reason}",
                    source=source.name,
                    state=source.status.state.value,
                    reason=source.status.reason,
                )

    def stop(self) -> Deferred[None]:
        """Stop all sources, even if one of them fails."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        for each in self._made:
            each.runtime.timers.stop()
        await DeferredList([each.source.stop() for each in self._made], consumeErrors=True)
        if self._store is not None:
            await self._store.stop()

    def health(self) -> list[dict[str, str]]:
        """Return the state of each source for the health page."""
        return [
            {
                "name": source.name,
                "state": source.status.state.value,
                "reason": source.status.reason,
            }
            for source in self.all
        ]

    def trouble(self) -> str:
        """Return the names of the sources that have failed or wait; empty: none."""
        bad = (SourceState.FAILED, SourceState.WAITING)
        return "; ".join(
            f"{each.name}: {each.status.reason}" for each in self.all if each.status.state in bad
        )


def choose_sources(
    sections: Mapping[str, Any],
    facilities: ToolFacilities,
    read_section: ReadSection,
    makers: Iterable[IToolSourceMaker] | None = None,
) -> ToolSources:
    """Make the tool sources.

    :param sections: settings by source: ``{"weather": {"api_key": …}}``. A source without
        settings is made if it is a standard one; ``false`` disables one.
    :param read_section: ``xiaozhi.runtime.config.read_section``.
    :param makers: default: the installed ones.
    :raises ConfigError: naming the key: ``tools.weather.api_key``.
    """
    if makers is None:
        makers = getPlugins(IToolSourceMaker, plugins)
    table: dict[str, IToolSourceMaker] = {}
    for maker in makers:
        if maker.name in table or maker.name in _RESERVED:
            raise ConfigError(f"tools.{maker.name}: two installed plugins have this name")
        table[maker.name] = maker
    for name in sections:
        if name not in table:
            there = ", ".join(sorted(table)) or "none"
            raise ConfigError(f"tools.{name}: there is no such tool source; there are {there}")
    made = []
    for name, maker in sorted(table.items()):
        section = sections.get(name, {} if maker.standard else False)
        if section is False:
            continue
        key = f"tools.{name}"
        settings = read_section({} if section in (None, True) else section, maker.settings(), key)
        runtime = facilities.runtime(name)
        try:
            made.append(_Made(maker.make(settings, runtime), runtime))
        except ConfigError as error:
            if error.message.startswith(key):
                raise
            raise ConfigError(f"{key}: {error.message}") from error
    return ToolSources(made, facilities.store)
