"""Texts by language and key, and the choice of a language."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

#: What serves where nothing better is known.
FALLBACK = "en"

# Chinese that is written in traditional characters.
_TRADITIONAL = frozenset(("hant", "tw", "hk", "mo"))


def choose(language: str, available: Iterable[str]) -> str:
    """Choose among catalogues.

    :param language: BCP 47, ``_`` allowed as separator; may be anything a peer sent.
    :param available: names of catalogues: primary subtags, and ``zh-hant``.
    :return: the catalogue of the language, or ``en``.
    """
    first, *rest = language.strip().replace("_", "-").lower().split("-")
    known = set(available)
    if first == "zh" and "zh-hant" in known and not _TRADITIONAL.isdisjoint(rest):
        return "zh-hant"
    return first if first in known else FALLBACK


class Catalogue:
    """Texts that a program shows or says, one set of keys in every language.

    :param texts: by language, then by key.
    :ivar keys: of all texts.
    :raises ValueError: a language lacks a key or has one of its own.
    """

    def __init__(self, texts: Mapping[str, Mapping[str, str]]) -> None:
        keys = texts[FALLBACK].keys()
        for language, own in texts.items():
            if own.keys() != keys:
                raise ValueError(f"{language}: {sorted(own.keys() ^ keys)} not in every language")
        self._texts = texts
        self.keys = tuple(keys)

    @property
    def languages(self) -> tuple[str, ...]:
        """Names of the catalogues there are."""
        return tuple(self._texts)

    def language(self, language: str) -> str:
        """Name of the catalogue that serves a language, see :func:`choose`."""
        return choose(language, self._texts)

    def text(self, key: str, language: str) -> str:
        """:param language: as in :func:`choose`."""
        return self._texts[self.language(language)][key]
