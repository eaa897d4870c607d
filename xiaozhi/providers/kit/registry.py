"""From the configuration to providers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.plugin import getPlugins

from xiaozhi import plugins
from xiaozhi.base.errors import ConfigError
from xiaozhi.base.values import ProviderStatus
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
from xiaozhi.providers.kit.failover.asr import FailoverRecognizer
from xiaozhi.providers.kit.failover.group import FailoverGroup, close_all
from xiaozhi.providers.kit.failover.kinds import (
    Failover,
    FailoverModel,
    FailoverSynthesizer,
    FailoverVision,
)
from xiaozhi.providers.kit.failover.settings import FailoverSettings
from xiaozhi.providers.kit.maker import KINDS

#: Reads a section: ``(value, type, key path) -> value of the type``, ConfigError if not.
ReadSection = Callable[[Any, type[Any], str], Any]

#: What ``selected`` may say of a kind.
Selected = str | Sequence[str]


# What stands for the providers of a kind; voice activity is detected every 20 ms, and
# nobody can wait for another detector.
_FAILOVER: dict[str, type[Failover]] = {
    "asr": FailoverRecognizer,
    "llm": FailoverModel,
    "tts": FailoverSynthesizer,
    "vlllm": FailoverVision,
}
_LABEL = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Providers:
    """One of each kind.

    :ivar groups: what is behind those that stand for several.
    """

    asr: IRecognizer
    llm: ILanguageModel
    tts: ISynthesizer
    vlllm: IVisionModel
    vad: IVoiceActivityDetector
    groups: tuple[FailoverGroup, ...] = ()

    def prepare(self) -> None:
        """The service has started; see :class:`IPreparable`."""
        for kind in KINDS:
            provider = getattr(self, kind)
            if IPreparable.providedBy(provider):
                provider.prepare()

    def status(self) -> list[ProviderStatus]:
        """How those do that can be known to fail."""
        return [status for group in self.groups for status in group.status()]

    def health(self) -> dict[str, list[dict[str, Any]]]:
        """The same by kind, for people."""
        return {
            group.kind: [
                {
                    "name": each.name,
                    "model": each.model,
                    "state": each.state,
                    "failures": each.failures,
                    "retry_in": round(each.wait, 1),
                    "trouble": each.trouble,
                    "refused": list(each.refused),
                }
                for each in group.status()
            ]
            for group in self.groups
        }

    def trouble(self) -> str:
        """Who is left alone because it failed; empty: nobody."""
        return "; ".join(
            f"{each.kind} {each.name}: {each.trouble}"
            for each in self.status()
            if each.state == "open"
        )

    def close(self) -> Deferred[None]:
        """Close all of them, whatever one of them says to it."""
        return close_all([getattr(self, kind) for kind in KINDS])


def names(selected: Mapping[str, Selected]) -> dict[str, tuple[str, ...]]:
    """By kind, the preferred one first."""
    return {
        kind: (chosen,) if isinstance(chosen, str) else tuple(chosen)
        for kind, chosen in selected.items()
    }


def choose(
    selected: Mapping[str, Selected],
    sections: Mapping[str, Mapping[str, Any]],
    runtime: ProviderRuntime,
    read_section: ReadSection,
    makers: Iterable[IProviderMaker] | None = None,
    failover: FailoverSettings | None = None,
) -> Providers:
    """Make the selected providers.

    :param selected: a name by kind, or several in the order of preference; every kind
        is needed. ``openai/backup`` is another ``openai``, with settings of its own.
    :param sections: settings by kind and name: ``{"tts": {"espeak": {…}}}``. Those
        not selected are checked, too, but nothing is made of them.
    :param read_section: ``xiaozhi.runtime.config.read_section``.
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
    made: dict[str, list[tuple[str, Any]]] = {kind: [] for kind in KINDS}
    by_kind = names(selected)
    try:
        for kind in KINDS:
            if kind not in selected:
                raise ConfigError(f"selected.{kind}: is missing; {_are(table[kind])}")
            for name in _checked(kind, by_kind[kind]):
                key = f"selected.{kind}"
                maker = _maker(table[kind], name, f"{key}: there is no {kind} provider {name!r}")
                provider = _make(maker, name, settings, runtime, read_section)
                made[kind].append((name, provider))
        groups = {
            kind: FailoverGroup(kind, made[kind], failover or FailoverSettings(), runtime.reactor)
            for kind in _FAILOVER
        }
    except BaseException:
        close_all([provider for several in made.values() for _, provider in several])
        raise
    return Providers(
        vad=made["vad"][0][1],
        groups=tuple(groups.values()),
        **{kind: cast(Any, _FAILOVER[kind](group)) for kind, group in groups.items()},
    )


def _checked(kind: str, chosen: tuple[str, ...]) -> tuple[str, ...]:
    key = f"selected.{kind}"
    if not chosen:
        raise ConfigError(f"{key}: names no provider")
    if len(set(chosen)) < len(chosen):
        raise ConfigError(f"{key}: names a provider twice; NAME/LABEL is another one")
    if len(chosen) > 1 and kind not in _FAILOVER:
        raise ConfigError(f"{key}: one name only; of this kind there is no list")
    return chosen


def _maker(makers: Mapping[str, IProviderMaker], name: str, message: str) -> IProviderMaker:
    """:param name: ``openai`` or ``openai/label``."""
    base, slash, label = name.partition("/")
    if slash and not _LABEL.fullmatch(label):
        raise ConfigError(f"{message}; a label is of letters, digits, - and _")
    _known(base, makers, message)
    return makers[base]


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
            maker = _maker(table[kind], str(name), f"{path}: there is no {kind} provider {name!r}")
            type_ = maker.settings()
            settings[kind, name] = read_section({} if section is None else section, type_, path)
    return settings


def _make(
    maker: IProviderMaker,
    name: str,
    settings: Mapping[tuple[str, str], Any],
    runtime: ProviderRuntime,
    read_section: ReadSection,
) -> IProvider:
    path = f"providers.{maker.kind}.{name}"
    own = settings.get((maker.kind, name))
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
