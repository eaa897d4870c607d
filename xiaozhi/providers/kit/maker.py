"""Providers as plugins: a name for the configuration, an import path for later."""

from __future__ import annotations

from importlib import import_module
from typing import Any, cast

from twisted.plugin import IPlugin
from zope.interface import implementer

from xiaozhi.base.errors import ConfigError
from xiaozhi.interfaces import IProvider, IProviderMaker, ProviderRuntime

#: What can be chosen in the configuration.
KINDS = ("asr", "llm", "tts", "vlllm", "vad")


@implementer(IPlugin, IProviderMaker)
class ProviderMaker:
    """Makes the class a path names; imports it only when asked.

    The class has ``Settings``, a ``msgspec.Struct``, and a class method
    ``make(settings, runtime)``.
    """

    def __init__(self, kind: str, name: str, description: str, target: str) -> None:
        """:param target: ``package.module:Class``."""
        if kind not in KINDS:
            raise ValueError(f"{kind} is no kind of provider")
        self.kind = kind
        self.name = name
        self.description = description
        self.target = target

    def settings(self) -> type[Any]:
        """See :class:`IProviderMaker`."""
        return cast("type[Any]", self._provider().Settings)

    def make(self, settings: Any, runtime: ProviderRuntime) -> IProvider:
        """See :class:`IProviderMaker`."""
        return cast("IProvider", self._provider().make(settings, runtime))

    def _provider(self) -> Any:
        module, _, name = self.target.partition(":")
        try:
            return getattr(import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"{self.kind} {self.name} cannot be loaded: {error}") from error

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name}: {self.target}>"
