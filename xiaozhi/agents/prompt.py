"""The system prompt: a template that is filled in for every question.

``{name}`` is a placeholder, ``{{`` and ``}}`` are literal braces. Text in brackets that
contains a placeholder, as in ``[ in {location}]``, is omitted if the value is empty.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from xiaozhi.base.errors import ConfigError
from xiaozhi.languages.texts import catalogue_of, text
from xiaozhi.wire.messages import Device

PLACEHOLDERS: Final = (
    *("date", "time", "weekday", "language", "device", "location", "user", "role"),
)

# Maximum characters of an untrusted value.
_LENGTH = 100
_PARTS = re.compile(r"(\{\{|\}\}|\{[^{}]*\}|\[[^\[\]]*\])")
_PIECE = re.compile(r"\{\{|\}\}|\{(?P<name>[^{}]*)\}|[{}]|[^{}]+")


@dataclass(frozen=True, slots=True)
class _Field:
    name: str


@dataclass(frozen=True, slots=True)
class _Part:
    """:ivar optional: whether it is omitted if one of its fields is empty."""

    pieces: tuple[str | _Field, ...]
    optional: bool

    def filled(self, values: Mapping[str, str]) -> str:
        found = [
            values[piece.name] if isinstance(piece, _Field) else piece for piece in self.pieces
        ]
        return "" if self.optional and not all(found) else "".join(found)


class Prompt:
    """One template.

    :param key: its setting, for errors.
    :param names: the known placeholders.
    :raises ConfigError: an unknown placeholder or an unpaired brace.
    """

    def __init__(self, template: str, key: str, names: tuple[str, ...] = PLACEHOLDERS) -> None:
        self._parts = [
            part
            for piece in _PARTS.split(template)
            for part in _read(piece, key, names)
            if part.pieces
        ]

    @property
    def names(self) -> set[str]:
        """The placeholders that the template contains."""
        pieces = (piece for part in self._parts for piece in part.pieces)
        return {piece.name for piece in pieces if isinstance(piece, _Field)}

    def filled(self, values: Mapping[str, str]) -> str:
        """Return the text with the values inserted literally."""
        return "".join(part.filled(values) for part in self._parts)


def _read(piece: str, key: str, names: tuple[str, ...]) -> Iterator[_Part]:
    if piece.startswith("[") and piece.endswith("]"):
        inner = tuple(_pieces(piece[1:-1], key, names))
        if any(isinstance(each, _Field) for each in inner):
            yield _Part(inner, optional=True)
            return
    yield _Part(tuple(_pieces(piece, key, names)), optional=False)


def _pieces(template: str, key: str, names: tuple[str, ...]) -> Iterator[str | _Field]:
    for match in _PIECE.finditer(template):
        found, name = match[0], match["name"]
        if name in names:
            yield _Field(name)
        elif name is not None or found in ("{", "}"):
            wrong = f"there is no placeholder {found}" if name is not None else f"a single {found}"
            there = ", ".join(f"{{{each}}}" for each in names)
            raise ConfigError(f"{key}: {wrong}; there are {there}; a brace is written twice")
        else:
            yield {"{{": "{", "}}": "}"}.get(found, found)


def facts(now: datetime, language: str, device: Device, location: str) -> dict[str, str]:
    """Return the values of all placeholders except the role.

    :param now: in the time zone of the prompt.
    :param language: BCP 47, for the names of days and months if there is a catalogue.
    """
    catalogue = catalogue_of(language)
    months = text("months", catalogue).split()
    return {
        "date": text("date", catalogue).format(
            year=now.year, month=months[now.month - 1], day=now.day
        ),
        "time": f"{now:%H:%M}",
        "weekday": text("weekdays", catalogue).split()[now.weekday()],
        "language": _named(language),
        "device": plain(device.device_id),
        "location": plain(location),
        "user": plain(device.user_id),
    }


def _named(language: str) -> str:
    """Return a language's own name if there is a catalogue, otherwise its tag."""
    base = language.split("-")[0].lower()
    known = base == catalogue_of(language).split("-")[0]
    return text("language", language) if known else plain(language)


def plain(value: str) -> str:
    """Return an untrusted value as a few words on one line, without invisible characters, so
    that it cannot pass for a part of the prompt."""
    words = "".join(" " if unicodedata.category(char)[0] in "CZ" else char for char in value)
    return " ".join(words.split())[:_LENGTH]
