"""Texts by language and key, and the choice of a language."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

#: The default language.
FALLBACK = "en"

# Variants of Chinese that use traditional characters.
_TRADITIONAL = frozenset(("hant", "tw", "hk", "mo"))


def choose(language: str, available: Iterable[str]) -> str:
    """Choose a catalogue.

    :param language: BCP 47, ``_`` allowed as separator; may be anything that a peer sent.
    :param available: names of catalogues: primary subtags, and ``zh-hant``.
    :return: the catalogue of the language, or ``en``.
    """
    first, *rest = language.strip().replace("_", "-").lower().split("-")
    known = set(available)
    if first == "zh" and "zh-hant" in known and not _TRADITIONAL.isdisjoint(rest):
        return "zh-hant"
    return first if first in known else FALLBACK


class Catalogue:
    """Texts that a program shows or speaks, with the same keys in every language.

    :param texts: by language, then by key.
    :ivar keys: of all texts.
    :raises ValueError: the keys of a language differ from those of the others.
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
        """Names of the available catalogues."""
        return tuple(self._texts)

    def language(self, language: str) -> str:
        """Return the name of the catalogue for a language, see :func:`choose`."""
        return choose(language, self._texts)

    def text(self, key: str, language: str) -> str:
        """Return a text.

        :param language: as in :func:`choose`.
        """
        return self._texts[self.language(language)][key]
