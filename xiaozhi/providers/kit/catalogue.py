"""Providers that the configuration can name: makers, their settings, their capabilities.

Nothing is instantiated here: a reference such as ``openai/backup`` leads to a maker and to settings
that have been checked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from traceback import format_tb
from typing import Any

import msgspec
from twisted.logger import Logger
from twisted.plugin import getPlugins

from xiaozhi import plugins
from xiaozhi.base.capabilities import Capabilities, Needs
from xiaozhi.base.errors import ConfigError
from xiaozhi.interfaces import ICapable, IProvider, IProviderMaker, ProviderRuntime
from xiaozhi.providers.kit.maker import KINDS

#: Reads a section: ``(value, type, key path) -> value of the type``, ConfigError if not.
ReadSection = Callable[[Any, type[Any], str], Any]

#: References of a kind: one, or several in the order of preference.
Selected = str | Sequence[str]

#: Fields of an agent's voice that are set: of ``id``, ``rate``, ``pitch``, ``volume``.
Voice = Mapping[str, str | float]

# Voice activity is detected every 20 ms: no time to ask a second detector.
LISTED = frozenset(("asr", "llm", "tts", "vlllm"))

_log = Logger()
_LABEL = re.compile(r"[A-Za-z0-9_-]+")
_NO_VOICE: Voice = {}


def names(selected: Mapping[str, Selected]) -> dict[str, tuple[str, ...]]:
    """References by kind, the preferred one first."""
    return {
        kind: (chosen,) if isinstance(chosen, str) else tuple(chosen)
        for kind, chosen in selected.items()
    }


@dataclass(frozen=True, slots=True)
class Entry:
    """A provider that can be made.

    :ivar reference: ``openai`` or ``openai/label``.
    :ivar settings: of the maker's type, checked.
    :ivar digest: of the settings, which may hold keys and go nowhere else.
    :ivar section: digest of its section as it is written; files of earlier versions are
        named by it.
    """

    maker: IProviderMaker
    reference: str
    settings: Any
    digest: str
    section: str

    @property
    def kind(self) -> str:
        """Its kind: ``asr``, ``llm``, ``tts``, ``vlllm`` or ``vad``."""
        kind: str = self.maker.kind
        return kind

    @property
    def identity(self) -> tuple[str, str, str]:
        """Kind, reference and digest: providers with the same identity are one instance."""
        return self.kind, self.reference, self.digest

    @property
    def capabilities(self) -> Capabilities:
        """Return the declared capabilities; the defaults without a declaration."""
        if not ICapable.providedBy(self.maker):
            return Capabilities()
        declared: Capabilities = self.maker.capabilities(self.settings)
        return declared

    def make(self, runtime: ProviderRuntime) -> IProvider:
        """Build the provider.

        :raises ConfigError: it cannot be made, for any reason; names the key of its section.
        """
        path = f"providers.{self.kind}.{self.reference}"
        try:
            return self.maker.make(self.settings, runtime)
        except ConfigError as error:
            if error.message.startswith(path):
                raise
            raise ConfigError(f"{path}: {error.message}") from error
        except Exception as error:
            # Its text may quote a key: neither the log nor the message has it.
            where = "".join(format_tb(error.__traceback__))
            _log.error("{path}: making the provider failed\n{where}", path=path, where=where)
            raise ConfigError(
                f"{path}: the provider cannot be made: {type(error).__name__}; the log has more"
            ) from None


class ProviderCatalogue:
    """Makers and settings by kind and reference.

    Every section is checked at once, including those that nothing refers to.

    :raises ConfigError: names the key: ``providers.tts.espeak.rate``.
    """

    def __init__(
        self,
        sections: Mapping[str, Mapping[str, Any]],
        read_section: ReadSection,
        makers: Iterable[IProviderMaker] | None = None,
    ) -> None:
        """
        :param sections: settings by kind and reference: ``{"tts": {"espeak": {…}}}``.
        :param read_section: ``xiaozhi.runtime.config.read_section``.
        :param makers: those installed, if not given.
        """
        if makers is None:
            makers = getPlugins(IProviderMaker, plugins)
        self._makers: dict[str, dict[str, IProviderMaker]] = {kind: {} for kind in KINDS}
        for maker in makers:
            self._makers[maker.kind][maker.name] = maker
        self._read_section = read_section
        self._sections: dict[tuple[str, str], Any] = {}
        self._settings: dict[tuple[str, str], Any] = {}
        for kind, by_name in sections.items():
            self._read(kind, by_name)

    def _read(self, kind: str, by_name: Mapping[str, Any]) -> None:
        key = f"providers.{kind}"
        _known(kind, KINDS, f"{key}: no such kind of provider")
        if not isinstance(by_name, Mapping):
            raise ConfigError(f"{key}: expected a mapping of providers to their settings")
        for name, section in by_name.items():
            path = f"{key}.{name}"
            maker = self._maker(kind, str(name), path)
            value = {} if section is None else section
            self._sections[kind, name] = section
            self._settings[kind, name] = self._read_section(value, maker.settings(), path)

    def lists(
        self, selected: Mapping[str, Selected], key: str = "selected"
    ) -> dict[str, tuple[str, ...]]:
        """Check that every kind has references, and return them by kind.

        :param key: of the configuration, for errors.
        """
        for kind in selected:
            _known(kind, KINDS, f"{key}.{kind}: no such kind of provider")
        by_kind = names(selected)
        for kind in KINDS:
            if kind not in by_kind:
                raise ConfigError(f"{key}.{kind}: is missing; {_are(self._makers[kind])}")
            self._check_list(kind, by_kind[kind], f"{key}.{kind}")
        return by_kind

    def _check_list(self, kind: str, chosen: tuple[str, ...], key: str) -> None:
        if not chosen:
            raise ConfigError(f"{key}: names no provider")
        if len(set(chosen)) < len(chosen):
            raise ConfigError(f"{key}: names a provider twice; NAME/LABEL is another one")
        if len(chosen) > 1 and kind not in LISTED:
            raise ConfigError(f"{key}: takes one name, not a list")

    def entry(self, kind: str, reference: str, key: str = "selected") -> Entry:
        """Find a provider.

        :param key: of the configuration, for errors.
        :raises ConfigError: there is no such provider, or a setting without a default is
            missing.
        """
        maker = self._maker(kind, reference, f"{key}.{kind}")
        own = self._settings.get((kind, reference))
        if own is None:
            path = f"providers.{kind}.{reference}"
            own = self._read_section({}, maker.settings(), path)
        section = _digest(self._sections.get((kind, reference)))
        return Entry(maker, reference, own, _digest(own), section)

    def voiced(self, reference: str, voice: Voice, key: str) -> Entry:
        """Find a synthesiser and set an agent's voice.

        :param key: of the agent's voice, for errors: ``agents.kitchen.voice``.
        :raises ConfigError: the provider has no such voice, or does not support a setting.
        """
        entry = self.entry("tts", reference, key.rpartition(".")[0] + ".providers")
        if not voice:
            return entry
        declared = entry.capabilities
        changes: dict[str, str | float] = {}
        for field, value in voice.items():
            if (setting := declared.voice_setting(field)) is None:
                can = ", ".join(each.field for each in declared.voice_settings) or "nothing"
                raise ConfigError(
                    f"{key}.{field}: tts provider {reference} cannot set it; it can set {can}"
                )
            changes[setting.name] = setting.value(value)
        known = [each.id for each in declared.voices]
        if known and voice.get("id", known[0]) not in known:
            raise ConfigError(f"{key}.id: {reference} has no voice {voice['id']!r}; {_are(known)}")
        own = {**(self._sections.get(("tts", reference)) or {}), **changes}
        try:
            settings = self._read_section(own, entry.maker.settings(), key)
        except ConfigError as error:
            raise ConfigError(f"{key}: {error.message.removeprefix(key).lstrip('.: ')}") from error
        if settings == entry.settings:
            return entry
        return Entry(entry.maker, reference, settings, _digest(settings), _digest(own))

    def entries(
        self,
        selected: Mapping[str, Selected],
        key: str = "selected",
        voice: Voice = _NO_VOICE,
        voice_key: str = "voice",
    ) -> dict[str, tuple[Entry, ...]]:
        """Find the providers of an agent by kind; nothing is made.

        :param voice: for the preferred synthesiser.
        :raises ConfigError: one cannot be used.
        """
        found = {
            kind: tuple(self.entry(kind, reference, key) for reference in chosen)
            for kind, chosen in self.lists(selected, key).items()
        }
        if voice:
            first, *others = found["tts"]
            found["tts"] = (self.voiced(first.reference, voice, voice_key), *others)
        return found

    def _maker(self, kind: str, reference: str, path: str) -> IProviderMaker:
        base, slash, label = reference.partition("/")
        message = f"{path}: there is no {kind} provider {reference!r}"
        if slash and not _LABEL.fullmatch(label):
            raise ConfigError(f"{message}; a label is of letters, digits, - and _")
        makers = self._makers[kind]
        _known(base, makers, message)
        return makers[base]


def unmet(needs: Needs, entries: Mapping[str, Sequence[Entry]]) -> list[str]:
    """Describe the needs of an agent that none of its providers meets; empty: all are met."""
    return [
        f"{reason} needs {ability}, which {kind} {' and '.join(e.reference for e in several)}"
        f" {'does' if len(several) == 1 else 'do'} not offer"
        for kind, ability, reason in needs.wanted()
        if (several := entries[kind])
        and not any(getattr(each.capabilities, ability) for each in several)
    ]


def _digest(settings: Any) -> str:
    encoded = msgspec.json.encode(settings, order="sorted", enc_hook=repr)
    return sha256(encoded).hexdigest()[:16]


def _known(name: str, known: Iterable[str], message: str) -> None:
    if name not in known:
        raise ConfigError(f"{message}; {_are(known)}")


def _are(known: Iterable[str]) -> str:
    return "there are " + ", ".join(sorted(known)) if known else "there is none"
