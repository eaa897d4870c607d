"""From the configuration to providers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.logger import Logger
from twisted.plugin import getPlugins

from xiaozhi import plugins
from xiaozhi.errors import ConfigError
from xiaozhi.interfaces import (
    ILanguageModel,
    IPreparable,
    IProvider,
    IProviderMaker,
    IRecognizer,
    ISynthesizer,
    IVisionModel,
    IVoiceActivityDetector,
    ProviderRuntime,
)
from xiaozhi.providers.maker import KINDS

#: Reads a section: ``(value, type, key path) -> value of the type``, ConfigError if not.
ReadSection = Callable[[Any, type[Any], str], Any]

_log = Logger()


@dataclass(frozen=True, slots=True)
class Providers:
    """One of each kind."""

    asr: IRecognizer
    llm: ILanguageModel
    tts: ISynthesizer
    vlllm: IVisionModel
    vad: IVoiceActivityDetector

    def prepare(self) -> None:
        """The service has started; see :class:`IPreparable`."""
        for kind in KINDS:
            provider = getattr(self, kind)
            if IPreparable.providedBy(provider):
                provider.prepare()

    def close(self) -> Deferred[None]:
        """Close all of them, whatever one of them says to it."""
        return _close(getattr(self, kind) for kind in KINDS)


def choose(
    selected: Mapping[str, str],
    sections: Mapping[str, Mapping[str, Any]],
    runtime: ProviderRuntime,
    read_section: ReadSection,
    makers: Iterable[IProviderMaker] | None = None,
) -> Providers:
    """Make the selected providers.

    :param selected: name by kind; every kind is needed.
    :param sections: settings by kind and name: ``{"tts": {"espeak": {…}}}``. Those
        not selected are checked, too, but nothing is made of them.
    :param read_section: ``xiaozhi.config.read_section``.
    :param makers: those installed, if not given.
    :raises ConfigError: naming the key: ``providers.tts.espeak.rate``.
    """
    if makers is None:
        makers = getPlugins(IProviderMaker, plugins)
    table: dict[str, dict[str, IProviderMaker]] = {kind: {} for kind in KINDS}
    for maker in makers:
        table[maker.kind][maker.name] = maker
    for kind in selected:
        _known(kind, KINDS, f"selected.{kind}: no such kind of provider")
    settings = _read(sections, table, read_section)
    made: dict[str, Any] = {}
    try:
        for kind in KINDS:
            if kind not in selected:
                raise ConfigError(f"selected.{kind}: is missing; {_are(table[kind])}")
            name = selected[kind]
            key = f"selected.{kind}"
            _known(name, table[kind], f"{key}: there is no {kind} provider {name!r}")
            made[kind] = _make(table[kind][name], settings, runtime, read_section)
    except BaseException:
        _close(made.values())
        raise
    return Providers(**made)


def _read(
    sections: Mapping[str, Mapping[str, Any]],
    table: Mapping[str, Mapping[str, IProviderMaker]],
    read_section: ReadSection,
) -> dict[tuple[str, str], Any]:
    """The settings in every section, by kind and name."""
    settings = {}
    for kind, by_name in sections.items():
        key = f"providers.{kind}"
        _known(kind, KINDS, f"{key}: no such kind of provider")
        if not isinstance(by_name, Mapping):
            raise ConfigError(f"{key}: expected a mapping of providers to their settings")
        for name, section in by_name.items():
            path = f"{key}.{name}"
            _known(name, table[kind], f"{path}: there is no {kind} provider {name!r}")
            type_ = table[kind][name].settings()
            settings[kind, name] = read_section({} if section is None else section, type_, path)
    return settings


def _make(
    maker: IProviderMaker,
    settings: Mapping[tuple[str, str], Any],
    runtime: ProviderRuntime,
    read_section: ReadSection,
) -> IProvider:
    path = f"providers.{maker.kind}.{maker.name}"
    own = settings.get((maker.kind, maker.name))
    if own is None:
        own = read_section({}, maker.settings(), path)
    try:
        return maker.make(own, runtime)
    except ConfigError as error:
        if error.message.startswith(path):
            raise
        raise ConfigError(f"{path}: {error.message}") from error


def _known(name: str, known: Iterable[str], message: str) -> None:
    if name not in known:
        raise ConfigError(f"{message}; {_are(known)}")


def _are(known: Iterable[str]) -> str:
    return "there are " + ", ".join(sorted(known)) if known else "there is none"


def _close(providers: Iterable[IProvider]) -> Deferred[None]:
    def failed(failure: Any) -> None:
        _log.failure("closing a provider failed", failure)

    closing = [maybeDeferred(provider.close).addErrback(failed) for provider in providers]
    return DeferredList(closing).addCallback(lambda _: None)
