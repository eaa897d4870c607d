"""Toolbox of a session: tools of several sources, with names that vendors accept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from xiaozhi.base.errors import ToolError
from xiaozhi.base.toolresult import ToolResult
from xiaozhi.base.values import ToolSpec
from xiaozhi.interfaces import ITool
from xiaozhi.tools.arguments import read_arguments
from xiaozhi.tools.names import NameIndex, distinct_name, is_telling

# Maximum characters of a description; vendors reject longer ones.
DESCRIPTION_LIMIT = 1024
# Maximum similar names in the error for an unknown tool.
_ALIKE = 5


@dataclass(frozen=True, slots=True)
class ToolIdentity:
    """Distinguishes a tool from any other that has or had its name.

    :ivar source: name of its source.
    :ivar spec: its description for the model; a changed tool is another tool.
    """

    source: str
    spec: ToolSpec


@dataclass(frozen=True, slots=True)
class _Entry:
    """:ivar key: source and title, which identify the tool across updates."""

    tool: ITool
    spec: ToolSpec
    key: tuple[str, str]


class Toolbox:
    """The tools of one session by name; of several with one name, the first keeps it.

    Each tool has a unique name that vendors accept, and is also found by other spellings that
    models use. A tool keeps its name while its source has it.
    """

    def __init__(self, tools: Iterable[ITool] = ()) -> None:
        # Bound: each source bounds its own tools.
        self._entries: dict[str, _Entry] = {}
        self._names: dict[tuple[str, str], str] = {}
        self._index: NameIndex | None = None
        for tool in tools:
            self.add(tool)

    def add(self, tool: ITool, source: str = "") -> None:
        """Add a tool; adding the same one again changes nothing.

        :param source: name of its source; empty: its class.
        """
        key = self._key(tool, source)
        if key not in self._names:
            self._put(tool, key, distinct_name(key[1], key[0], self._entries))

    def update(self, source: str, tools: Iterable[ITool]) -> None:
        """Replace the tools of a source."""
        wanted: dict[tuple[str, str], ITool] = {}
        for tool in tools:
            wanted.setdefault(self._key(tool, source), tool)
        gone = [key for key in self._names if key[0] == source and key not in wanted]
        for key in gone:
            del self._entries[self._names.pop(key)]
        for key, tool in wanted.items():
            name = self._names.get(key) or distinct_name(key[1], source, self._entries)
            self._put(tool, key, name)
        self._index = None

    def _key(self, tool: ITool, source: str) -> tuple[str, str]:
        return source or type(tool).__name__, tool.spec.title or tool.spec.name

    def _put(self, tool: ITool, key: tuple[str, str], name: str) -> None:
        spec: ToolSpec = tool.spec
        described, title = spec.description, key[1]
        if not is_telling(name, title) and title not in described:
            described = f"{title}: {described}"
        described = described[:DESCRIPTION_LIMIT]
        self._names[key] = name
        self._entries[name] = _Entry(tool, ToolSpec(name, described, spec.parameters, title), key)
        self._index = None

    @property
    def specs(self) -> list[ToolSpec]:
        """The descriptions of the tools for the model."""
        return [entry.spec for entry in self._entries.values()]

    def resolve(self, name: str) -> str:
        """Return the name of the tool that a model means; if it is uncertain, ``name``."""
        if name in self._entries:
            return name
        found = self._meant(name)
        return found.pop() if len(found) == 1 else name

    def parameters(self, name: str) -> Mapping[str, Any] | None:
        """Return the schemas of a tool's parameters by name; None: there is no such tool."""
        entry = self._entries.get(self.resolve(name))
        if entry is None:
            return None
        properties = entry.spec.parameters.get("properties")
        return properties if isinstance(properties, Mapping) else {}

    def identity(self, name: str) -> ToolIdentity | None:
        """Return the identity of a tool; None: there is no such tool."""
        entry = self._entries.get(name)
        return None if entry is None else ToolIdentity(entry.key[0], entry.spec)

    def limit(self, name: str, default: float) -> float:
        """Return the timeout of a call in seconds."""
        tool = self._tool(name)
        own = None if tool is None else tool.limit
        return default if own is None else float(own)

    def lane(self, name: str) -> str:
        """See :class:`~xiaozhi.interfaces.ITool`; empty for an unknown tool."""
        tool = self._tool(name)
        return "" if tool is None else str(tool.lane)

    def interruptible(self, name: str) -> bool:
        """See :class:`~xiaozhi.interfaces.ITool`."""
        tool = self._tool(name)
        return tool is None or bool(tool.interruptible)

    async def call(self, name: str, arguments: str) -> ToolResult:
        """Run a tool for a model's call.

        :param name: result of :meth:`resolve`.
        :param arguments: a JSON object as text; see :func:`read_arguments`.
        :raises ToolError: unknown tool, bad arguments, or the tool's own.
        """
        tool, values = self._read(name, arguments)
        result: str | ToolResult = await tool.call(values)
        return result if isinstance(result, ToolResult) else ToolResult(result)

    def check(self, name: str, arguments: str) -> None:
        """Check a call without running it; see :meth:`call`.

        :raises ToolError: unknown tool or bad arguments.
        """
        self._read(name, arguments)

    def _read(self, name: str, arguments: str) -> tuple[ITool, dict[str, Any]]:
        tool = self._tool(name)
        if tool is None:
            alike = ", ".join(sorted(self._meant(name))[:_ALIKE])
            hint = f"; there are {alike}" if alike else ""
            raise ToolError("unknown_tool", f"there is no tool {name}{hint}")
        try:
            return tool, read_arguments(arguments, tool.spec.parameters)
        except ValueError as error:
            raise ToolError("bad_arguments", f"{name}: {error}") from None

    def _tool(self, name: str) -> ITool | None:
        entry = self._entries.get(name)
        return None if entry is None else entry.tool

    def _meant(self, name: str) -> set[str]:
        if self._index is None:
            entries = self._entries.items()
            self._index = NameIndex((name, entry.spec.title) for name, entry in entries)
        return set(self._index.find(name))
