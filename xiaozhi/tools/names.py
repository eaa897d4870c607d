"""Names of tools: for language models, in models' spellings, and for speech.

Vendors accept ``[A-Za-z0-9_-]{1,64}``. Devices name tools in any script, with dots, at any
length. Each tool receives a unique name that is the same in every session.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container, Iterable
from hashlib import sha256

NAME_LIMIT = 64
# Maximum characters of a spoken name.
_SPOKEN_LIMIT = 60

_BREAKERS = re.compile(r"[^A-Za-z0-9_-]")
_LOSSLESS = re.compile(r"[A-Za-z0-9_.-]+")
_RUNS = re.compile(r"_{2,}")
_HUMPS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
# Text that models and servers add to a name.
_AROUND = re.compile(r"[<(\[{].*", re.S)
_SPACES = ("functions", "function", "tools", "tool", "namespace", "defaultapi", "mcp", "call")
# Minimum length of the end of a name that identifies it.
_ENDING = 4


def safe_name(name: str) -> str:
    """Return a name that language models accept: dots become underscores (§5.2).

    Different names may become equal; see :func:`distinct_name`.
    """
    return _BREAKERS.sub("_", name)[:NAME_LIMIT]


def distinct_name(title: str, source: str, taken: Container[str]) -> str:
    """Return a unique name for a tool.

    :param title: its name at its source.
    :param source: name of the source; the same title at another source is another tool.
    :param taken: names of other tools.
    """
    lossless = _LOSSLESS.fullmatch(title) is not None and len(title) <= NAME_LIMIT
    name = safe_name(title) if lossless else _RUNS.sub("_", safe_name(title)).strip("_-")
    if not re.match(r"[A-Za-z_]", name):
        name = f"tool_{name}".rstrip("_")
    if lossless and len(name) <= NAME_LIMIT and name not in taken:
        return name
    digest = sha256(f"{source}:{title}".encode("utf-8", "replace")).hexdigest()
    for size in range(6, len(digest)):
        tail = "_" + digest[:size]
        distinct = name[: NAME_LIMIT - len(tail)] + tail
        if distinct not in taken:
            return distinct
    raise ValueError("no unique name can be made")


def is_telling(name: str, title: str) -> bool:
    """Return whether the name is as informative to a model as the title."""
    whole = len(title) <= NAME_LIMIT and _LOSSLESS.fullmatch(title) is not None
    return whole and safe_name(title) in name


def spoken_name(title: str) -> str:
    """Return the name of a tool in plain words that can be spoken in a sentence.

    Devices and servers choose titles freely, so only a limited number of letters, digits and
    single spaces remain: ``self.audio_speaker.setVolume`` → ``audio speaker set volume``.
    """
    folded = unicodedata.normalize("NFKC", title[: _SPOKEN_LIMIT * 2])
    plain = "".join(char if _is_spoken(char) else " " for char in folded)
    words = _HUMPS.sub(" ", plain).casefold().split()
    if len(words) > 1 and words[0] == "self":
        words = words[1:]
    spoken = ""
    for word in words:
        longer = f"{spoken} {word}".lstrip()
        if len(longer) > _SPOKEN_LIMIT:
            break
        spoken = longer
    return spoken or "".join(words[:1])[:_SPOKEN_LIMIT]


def _is_spoken(char: str) -> bool:
    """Return whether a character is a letter, a mark or a digit."""
    return char.isalnum() or unicodedata.category(char) in ("Mn", "Mc")


class NameIndex:
    """Finds the tool that a model means.

    :param names: pairs of a tool's name and its title.
    """

    def __init__(self, names: Iterable[tuple[str, str]]) -> None:
        self._known: dict[str, set[str]] = {}
        for name, title in names:
            for spelling in (name, title):
                self._known.setdefault(_plain(spelling), set()).add(name)

    def find(self, spelled: str) -> set[str]:
        """Return the names that a spelling may mean.

        :return: several if it is ambiguous, none if it is unknown.
        """
        plain = _plain(_AROUND.sub("", spelled.strip().strip("\"'`")))
        found = self._known.get(plain) or self._known.get(_without_space(spelled))
        if found:
            return found
        if len(plain) < _ENDING:
            return set()
        within = [
            names
            for known, names in self._known.items()
            if known.endswith(plain) or (len(known) >= _ENDING and plain.endswith(known))
        ]
        return set().union(*within)


def _without_space(spelled: str) -> str:
    """``functions.x`` → ``x``."""
    first, dot, rest = _AROUND.sub("", spelled).partition(".")
    return _plain(rest) if dot and _plain(first) in _SPACES else ""


def _plain(name: str) -> str:
    """Return a name without case, width and separators."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return "".join(character for character in folded if character.isalnum())
