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
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

import msgspec
from zope.interface import implementer

from xiaozhi.errors import ToolError
from xiaozhi.interfaces import ITool
from xiaozhi.values import ToolSpec
from xiaozhi.wire.messages import Device

_NAME_BREAKERS = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What a server function may know and do.

    :ivar seconds: the clock: seconds since the epoch.
    :ivar end: ends the session after the answer has been played.
    """

    device: Device
    seconds: Callable[[], float]
    end: Callable[[], None]


Function = Callable[..., Awaitable[str]]


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
    return msgspec.defstruct(call.__name__, fields, kw_only=True, forbid_unknown_fields=True)


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

    async def call(self, arguments: dict[str, Any]) -> str:
        try:
            checked = msgspec.convert(arguments, self._function.arguments, strict=False)
        except msgspec.ValidationError as error:
            raise ToolError("bad_arguments", f"{self.spec.name}: {error}") from None
        return await self._function.call(self._context, **msgspec.structs.asdict(checked))


def safe_name(name: str) -> str:
    """A name language models accept: dots of device tools become underscores (§5.2)."""
    return _NAME_BREAKERS.sub("_", name)[:64]


class Toolbox:
    """The tools of one session by name; later ones do not replace earlier ones."""

    def __init__(self, tools: Iterable[ITool] = ()) -> None:
        self._tools: dict[str, ITool] = {}
        for tool in tools:
            self.add(tool)

    def add(self, tool: ITool) -> None:
        self._tools.setdefault(tool.spec.name, tool)

    @property
    def specs(self) -> list[ToolSpec]:
        return [tool.spec for tool in self._tools.values()]

    def parameters(self, name: str) -> Mapping[str, Any] | None:
        """The schemas of a tool's parameters by name; None: there is no such tool."""
        tool = self._tools.get(name)
        properties = None if tool is None else tool.spec.parameters.get("properties")
        if tool is None:
            return None
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

    async def call(self, name: str, arguments: str) -> str:
        """Run a tool as a model asked for it.

        :param arguments: a JSON object as text; empty counts as ``{}``.
        :raises ToolError: unknown tool, bad arguments, or the tool's own.
        """
        tool = self._tools.get(name)
        if tool is None:
            raise ToolError("unknown_tool", f"there is no tool {name}")
        try:
            # Strictly: what is no JSON to a device must not be sent to one.
            values = msgspec.json.decode(arguments or "{}")
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            raise ToolError("bad_arguments", f"{name}: the arguments are not JSON") from None
        if not isinstance(values, dict):
            raise ToolError("bad_arguments", f"{name}: the arguments are not an object")
        return await tool.call(values)
