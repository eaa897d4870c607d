"""Functions of the server as tools: one module is one tool source.

A tool is a coroutine with annotations in a module that ``twisted.plugin`` finds::

    class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        api_key: str

    weather = FunctionModule("weather", "The weather.", Settings)

    @weather.function
    async def get_weather(context: ToolContext[Settings], city: str) -> str:
        '''Get the weather of a city.'''
        reply = await context.runtime.http.request("GET", …)

Its JSON schema comes from the annotations, its description from the docstring, and its
arguments are checked against them before it runs.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, get_type_hints

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.plugin import IPlugin
from zope.interface import implementer

from xiaozhi.base.errors import StoreError, ToolError, XiaozhiError
from xiaozhi.base.toolresult import ToolResult
from xiaozhi.base.values import ToolSpec
from xiaozhi.interfaces import ITool, IToolSource, IToolSourceMaker, ToolRuntime
from xiaozhi.interfaces.toolsource import SourceState, SourceStatus, ToolSession
from xiaozhi.tools.source import SourceBase
from xiaozhi.wire.messages import Device

S = TypeVar("S", bound=msgspec.Struct)


class NoSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """No settings."""


@dataclass(frozen=True, slots=True)
class ToolContext(Generic[S]):
    """The first argument of every function: its session, its module's settings, and the
    facilities of the process."""

    session: ToolSession
    runtime: ToolRuntime
    settings: S

    @property
    def device(self) -> Device:
        """The session's device."""
        return self.session.device

    @property
    def owner(self) -> str:
        """The device id, as the owner of the device's values in ``runtime.values``.

        :raises ToolError: ``guest_device``: the client has not proved that the id is its own,
            so it must not see the values of the id.
        """
        if self.device.guest:
            raise ToolError("guest_device", "no values are kept for a device that is not approved")
        return self.device.device_id

    def seconds(self) -> float:
        """Return the wall clock: seconds since the epoch."""
        return self.runtime.seconds()

    def end(self) -> None:
        """End the session after the answer has been played."""
        self.session.end()


#: Result of a function; the model receives an object as JSON.
Returned = str | ToolResult | Mapping[str, Any]
Function = Callable[..., Awaitable[Returned]]
F = TypeVar("F", bound=Function)
Hook = Callable[[Any, ToolRuntime], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class RegisteredFunction:
    """A server function with its description for the model.

    :ivar interruptible: and ``limit``, ``lane``: see :class:`~xiaozhi.interfaces.ITool`.
    """

    spec: ToolSpec
    arguments: type[msgspec.Struct]
    call: Function
    interruptible: bool = True
    limit: float | None = None
    lane: str = ""


@implementer(IPlugin, IToolSourceMaker)
class FunctionModule(Generic[S]):
    """The functions of one module, with settings in the section ``tools.NAME``.

    :param settings: a ``msgspec.Struct``; None: no settings.
    :param standard: whether the functions are offered even if ``tools`` does not name them.
    """

    def __init__(
        self,
        name: str,
        description: str,
        settings: type[S] | None = None,
        *,
        standard: bool = False,
    ) -> None:
        self.name = name
        self.description = description
        self.standard = standard
        self.start: Hook | None = None
        self.stop: Hook | None = None
        self._settings: type[Any] = settings or NoSettings
        self._functions: dict[str, RegisteredFunction] = {}

    def function(self, call: F) -> F:
        """Decorator: register a function under its name.

        :raises ValueError: no docstring, no annotation, or the name is taken.
        """
        return self.tool()(call)

    def lasting(self, call: F) -> F:
        """As :meth:`function`, for a function that must not be cancelled while it runs."""
        return self.tool(interruptible=False)(call)

    def tool(
        self, *, interruptible: bool = True, limit: float | None = None, lane: str = ""
    ) -> Callable[[F], F]:
        """Decorator with options, see :class:`~xiaozhi.interfaces.ITool`."""

        def register(call: F) -> F:
            name = call.__name__
            if name in self._functions:
                raise ValueError(f"function {name} is registered already")
            description = inspect.getdoc(call)
            if not description:
                raise ValueError(f"function {name} has no docstring to describe it")
            arguments = _arguments_of(call)
            spec = ToolSpec(name, description, _schema_of(arguments))
            self._functions[name] = RegisteredFunction(
                spec, arguments, call, interruptible, limit, lane
            )
            return call

        return register

    def on_start(self, hook: Hook) -> Hook:
        """Decorator: await this with settings and runtime before the functions are offered.

        If it raises, they are not offered, and the status has the error.
        """
        self.start = hook
        return hook

    def on_stop(self, hook: Hook) -> Hook:
        """Decorator: await this with settings and runtime when the source stops."""
        self.stop = hook
        return hook

    @property
    def functions(self) -> tuple[RegisteredFunction, ...]:
        """The registered functions, in order."""
        return tuple(self._functions.values())

    def settings(self) -> type[Any]:
        """See :class:`IToolSourceMaker`."""
        return self._settings

    def make(self, settings: Any, runtime: ToolRuntime) -> IToolSource:
        """See :class:`IToolSourceMaker`."""
        source: IToolSource = FunctionSource(self, settings, runtime)
        return source


@implementer(IToolSource)
class FunctionSource(SourceBase):
    """The functions of a module with their settings and runtime."""

    _log = Logger()

    def __init__(self, module: FunctionModule[Any], settings: Any, runtime: ToolRuntime) -> None:
        super().__init__(module.name)
        self._module = module
        self._settings = settings
        self._runtime = runtime
        if module.start is None:
            self.status = SourceStatus(SourceState.READY)

    def start(self) -> Deferred[None]:
        """See :class:`IToolSource`."""
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        try:
            if self._module.start is not None:
                await self._module.start(self._settings, self._runtime)
        except XiaozhiError as error:
            self.changed(SourceState.FAILED, error.message)
        except Exception as error:
            self._log.failure("tools: the start of {source} raised an exception", source=self.name)
            self.changed(SourceState.FAILED, type(error).__name__)
        else:
            self.changed(SourceState.READY)

    def stop(self) -> Deferred[None]:
        """See :class:`IToolSource`."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self.status.state is SourceState.STOPPED:
            return
        self.changed(SourceState.STOPPED)
        try:
            if self._module.stop is not None:
                await self._module.stop(self._settings, self._runtime)
        except Exception:
            self._log.failure("tools: the stop of {source} raised an exception", source=self.name)

    def tools(self, session: ToolSession) -> list[ITool]:
        """See :class:`IToolSource`."""
        if self.status.state is not SourceState.READY:
            return []
        context = ToolContext(session, self._runtime, self._settings)
        return [FunctionTool(function, context) for function in self._module.functions]


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

    _log = Logger()

    def __init__(self, function: RegisteredFunction, context: ToolContext[Any]) -> None:
        self.spec = function.spec
        self.interruptible = function.interruptible
        self.limit = function.limit
        self.lane = function.lane
        self._function = function
        self._context = context

    async def call(self, arguments: dict[str, Any]) -> str | ToolResult:
        """See :class:`~xiaozhi.interfaces.ITool`."""
        try:
            checked = msgspec.convert(arguments, self._function.arguments, strict=False)
        except msgspec.ValidationError as error:
            raise ToolError("bad_arguments", f"{self.spec.name}: {error}") from None
        try:
            returned = await self._function.call(self._context, **msgspec.structs.asdict(checked))
        except StoreError as error:
            self._log.warn("tools: {tool}: {error}", tool=self.spec.name, error=error)
            raise ToolError(error.code, "the tool's stored values are unavailable now") from error
        if isinstance(returned, (str, ToolResult)):
            return returned
        return json.dumps(returned, ensure_ascii=False)
