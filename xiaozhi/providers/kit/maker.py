"""Provider plugins: a name for the configuration, and an import path that is used when needed."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, cast

from twisted.plugin import IPlugin
from zope.interface import implementer

from xiaozhi.base.capabilities import Capabilities
from xiaozhi.base.errors import ConfigError
from xiaozhi.interfaces import ICapable, IProvider, IProviderMaker, ProviderRuntime

#: Kinds of providers that the configuration selects.
KINDS = ("asr", "llm", "tts", "vlllm", "vad")

_DEFAULT = Capabilities()


@implementer(IPlugin, IProviderMaker, ICapable)
class ProviderMaker:
    """Makes the class at an import path; imports it only when needed.

    The class has ``Settings``, a ``msgspec.Struct``, and a class method ``make(settings,
    runtime)``. It may declare ``capabilities``, a value or a static method from settings to one,
    instead of the maker.
    """

    def __init__(
        self,
        kind: str,
        name: str,
        description: str,
        target: str,
        capabilities: Capabilities | Callable[[Any], Capabilities] = _DEFAULT,
    ) -> None:
        """
        :param target: ``package.module:Class``.
        :param capabilities: a value, or a function from settings to one, unless the class
            declares its own.
        """
        if kind not in KINDS:
            raise ValueError(f"{kind} is not a kind of provider")
        self.kind = kind
        self.name = name
        self.description = description
        self.target = target
        self._declared = capabilities

    def settings(self) -> type[Any]:
        """See :class:`IProviderMaker`."""
        return cast("type[Any]", self._provider().Settings)

    def make(self, settings: Any, runtime: ProviderRuntime) -> IProvider:
        """See :class:`IProviderMaker`."""
        return cast("IProvider", self._provider().make(settings, runtime))

    def capabilities(self, settings: Any) -> Capabilities:
        """See :class:`ICapable`."""
        declared = getattr(self._provider(), "capabilities", self._declared)
        return cast("Capabilities", declared(settings) if callable(declared) else declared)

    def _provider(self) -> Any:
        module, _, name = self.target.partition(":")
        try:
            return getattr(import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"{self.kind} {self.name} cannot be loaded: {error}") from error

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name}: {self.target}>"
