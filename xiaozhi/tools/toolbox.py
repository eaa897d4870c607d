"""What the assistant can do: the function registry and a session's toolbox.

A server function is a coroutine with annotations::

    @functions.function
    async def get_time(context: ToolContext, timezone: str = "") -> str:
        '''Tell the time.'''

Its JSON schema comes from the annotations, its description from the docstring,
and its arguments are checked against them before it runs.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

import msgspec
from zope.interface import implementer

from xiaozhi.base.errors import ToolError
from xiaozhi.base.toolresult import ToolResult
from xiaozhi.base.values import ToolSpec
from xiaozhi.interfaces import ITool
from xiaozhi.tools.arguments import read_arguments
from xiaozhi.tools.names import NameIndex, distinct_name, is_telling
from xiaozhi.wire.messages import Device

# Characters of a description; vendors refuse longer ones.
DESCRIPTION_LIMIT = 1024
# Names a model is told that has not found the right one.
_ALIKE = 5


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What a server function may know and do.

    :ivar seconds: the clock: seconds since the epoch.
    :ivar end: ends the session after the answer has been played.
    """

    device: Device
    seconds: Callable[[], float]
    end: Callable[[], None]


Function = Callable[..., Awaitable[str | ToolResult]]


@dataclass(frozen=True, slots=True)
class RegisteredFunction:
    """A server function with what the model is told about it.

    :ivar interruptible: see :class:`~xiaozhi.interfaces.ITool`.
    """

    spec: ToolSpec
    arguments: type[msgspec.Struct]
    call: Function
    interruptible: bool = True


class FunctionRegistry:
    """The server's own functions, the same for every session."""

    def __init__(self) -> None:
        self._functions: dict[str, RegisteredFunction] = {}

    def function(self, call: Function) -> Function:
        """Decorator: register a function under its name.

        :raises ValueError: no docstring, no annotation, or the name is taken.
        """
        return self._register(call, interruptible=True)

    def lasting(self, call: Function) -> Function:
        """As :meth:`function`, for one that must not be cut off half done."""
        return self._register(call, interruptible=False)

    def _register(self, call: Function, *, interruptible: bool) -> Function:
        name = call.__name__
        if name in self._functions:
            raise ValueError(f"function {name} is registered already")
        description = inspect.getdoc(call)
        if not description:
            raise ValueError(f"function {name} has no docstring to describe it")
        arguments = _arguments_of(call)
        spec = ToolSpec(name, description, _schema_of(arguments))
        self._functions[name] = RegisteredFunction(spec, arguments, call, interruptible)
        return call

    def tools(self, context: ToolContext) -> list[ITool]:
        """Every function, bound to a session."""
        return [FunctionTool(function, context) for function in self._functions.values()]


def _arguments_of(call: Function) -> type[msgspec.Struct]:
    hints = get_type_hints(call, include_extras=True)
    fields: list[Any] = []
    # The first parameter is the context.
    for parameter in list(inspect.signature(call).parameters.values())[1:]:
        if parameter.name not in hints:
            raise ValueError(f"{call.__name__}: {parameter.name} has no annotation")
        field = (parameter.name, hints[parameter.name])
        if parameter.default is not parameter.empty:
            field = (*field, parameter.default)  # type: ignore[assignment]
        fields.append(field)
    return msgspec.defstruct(call.__name__, fields, kw_only=True)


def _schema_of(arguments: type[msgspec.Struct]) -> dict[str, Any]:
    (_,), components = msgspec.json.schema_components((arguments,), ref_template="{name}")
    schema = components[arguments.__name__]
    return {
        "type": "object",
        "properties": schema["properties"],
        "required": schema["required"],
    }


@implementer(ITool)
class FunctionTool:
    """A server function in one session's toolbox."""

    limit: float | None = None
    lane = ""

    def __init__(self, function: RegisteredFunction, context: ToolContext) -> None:
        self.spec = function.spec
        self.interruptible = function.interruptible
        self._function = function
        self._context = context

    async def call(self, arguments: dict[str, Any]) -> str | ToolResult:
        try:
            checked = msgspec.convert(arguments, self._function.arguments, strict=False)
        except msgspec.ValidationError as error:
            raise ToolError("bad_arguments", f"{self.spec.name}: {error}") from None
        return await self._function.call(self._context, **msgspec.structs.asdict(checked))


class Toolbox:
    """The tools of one session by name; later ones do not replace earlier ones.

    Each has a name that vendors take and no other has, and is found by others that models
    make of it.
    """

    def __init__(self, tools: Iterable[ITool] = ()) -> None:
        self._tools: dict[str, ITool] = {}
        self._specs: dict[str, ToolSpec] = {}
        # Source and title of each: a device may tell of the same tool again.
        self._known: set[tuple[str, str]] = set()
        self._index: NameIndex | None = None
        for tool in tools:
            self.add(tool)

    def add(self, tool: ITool) -> None:
        """Offer one more; the same one again changes nothing."""
        spec: ToolSpec = tool.spec
        title = spec.title or spec.name
        source = type(tool).__name__
        if (source, title) in self._known:
            return
        name = distinct_name(title, source, self._tools)
        described = spec.description
        if not is_telling(name, title) and title not in described:
            described = f"{title}: {described}"
        self._known.add((source, title))
        self._tools[name] = tool
        described = described[:DESCRIPTION_LIMIT]
        self._specs[name] = ToolSpec(name, described, spec.parameters, title)
        self._index = None

    @property
    def specs(self) -> list[ToolSpec]:
        return list(self._specs.values())

    def resolve(self, name: str) -> str:
        """:return: the name of the tool a model means; as it is, if that is not certain."""
        if name in self._tools:
            return name
        found = self._meant(name)
        return found.pop() if len(found) == 1 else name

    def parameters(self, name: str) -> Mapping[str, Any] | None:
        """The schemas of a tool's parameters by name; None: there is no such tool."""
        spec = self._specs.get(self.resolve(name))
        if spec is None:
            return None
        properties = spec.parameters.get("properties")
        return properties if isinstance(properties, Mapping) else {}

    def limit(self, name: str, default: float) -> float:
        """Seconds a call of this tool may take."""
        tool = self._tools.get(name)
        own = None if tool is None else tool.limit
        return default if own is None else float(own)

    def lane(self, name: str) -> str:
        """See :class:`~xiaozhi.interfaces.ITool`; empty for a tool there is not."""
        tool = self._tools.get(name)
        return "" if tool is None else str(tool.lane)

    def interruptible(self, name: str) -> bool:
        """See :class:`~xiaozhi.interfaces.ITool`."""
        tool = self._tools.get(name)
        return tool is None or bool(tool.interruptible)

    async def call(self, name: str, arguments: str) -> ToolResult:
        """Run a tool as a model asked for it.

        :param name: as :meth:`resolve` has it.
        :param arguments: a JSON object as text; see :func:`read_arguments`.
        :raises ToolError: unknown tool, bad arguments, or the tool's own.
        """
        tool = self._tools.get(name)
        if tool is None:
            alike = ", ".join(sorted(self._meant(name))[:_ALIKE])
            hint = f"; there are {alike}" if alike else ""
            raise ToolError("unknown_tool", f"there is no tool {name}{hint}")
        try:
            values = read_arguments(arguments, tool.spec.parameters)
        except ValueError as error:
            raise ToolError("bad_arguments", f"{name}: {error}") from None
        result: str | ToolResult = await tool.call(values)
        return result if isinstance(result, ToolResult) else ToolResult(result)

    def _meant(self, name: str) -> set[str]:
        if self._index is None:
            self._index = NameIndex((name, spec.title) for name, spec in self._specs.items())
        return set(self._index.find(name))
