"""Kinds of tools, recognised by name and description, since boards, browsers and servers name them
differently.

``self_camera_take_photo``, ``takePhoto``, ``camera_capture`` and ``拍照`` are one kind. The name is
the main evidence; without evidence in the name, the description counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal

import msgspec

from xiaozhi.base.values import ToolSpec

_PART = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[\u2e80-\uffff]+")
_SENTENCE_END = re.compile(r"[.。\n;；!！]")
_ABOUT = 200
_NUMBERS, _WORDS = ("integer", "number"), ("string",)
# Other names of the parameters that take these arguments.
_SYNONYMS = {
    "volume": ("value", "level", "percent", "percentage", "vol", "音量"),
    "brightness": ("value", "level", "percent", "percentage", "亮度"),
    "theme": ("mode", "name", "value", "theme_name", "主题"),
    "question": ("prompt", "query", "text", "instruction", "q", "问题"),
    "role": ("name", "character", "role_name", "角色"),
}


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An entry of ``toolkinds.yaml``; see its head."""

    names: tuple[str, ...] = ()
    name: tuple[str, ...] = ()
    about: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    takes: Literal["", "number", "text"] = ""


@dataclass(frozen=True, slots=True)
class ToolKind:
    """The features of a kind of tool: see the head of ``toolkinds.yaml``."""

    names: frozenset[str]
    name: re.Pattern[str]
    about: re.Pattern[str]
    never: re.Pattern[str]
    takes: tuple[str, ...] = ()

    def score(self, tool: ToolSpec) -> int:
        """Return how certainly a tool is of this kind; 0: it is not."""
        if tool.name in self.names:
            return 3
        # A name that vendors refuse, such as one in Chinese, has been replaced.
        words = {_words_of(name) for name in (tool.name, tool.title) if name}
        if any(map(self.never.search, words)) or not self._fits(tool):
            return 0
        if any(map(self.name.search, words)):
            return 2
        # The later sentences say when to call it, and when not to.
        about = _SENTENCE_END.split(tool.description[:_ABOUT], maxsplit=1)[0]
        return 0 if self.never.search(about) else int(bool(self.about.search(about)))

    def _fits(self, tool: ToolSpec) -> bool:
        properties = tool.parameters.get("properties")
        if not self.takes or not isinstance(properties, Mapping):
            return True
        return any(_type_of(schema) in self.takes for schema in properties.values())


def read_kinds(data: bytes) -> dict[str, ToolKind]:
    """Read a file of kinds.

    :raises msgspec.MsgspecError: it is faulty.
    """
    entries = msgspec.yaml.decode(data, type=dict[str, _Entry])
    return {kind: _kind(entry) for kind, entry in entries.items()}


def _kind(entry: _Entry) -> ToolKind:
    takes = {"number": _NUMBERS, "text": _WORDS}.get(entry.takes, ())
    name, about, never = map(_any_of, (entry.name, entry.about, entry.never))
    return ToolKind(frozenset(entry.names), name, about, never, takes)


def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{each})" for each in patterns) or r"(?!)", re.I)


_SHIPPED = files(__package__).joinpath("toolkinds.yaml").read_bytes()
TOOL_KINDS: Mapping[str, ToolKind] = read_kinds(_SHIPPED)


class OfferedTools:
    """The tools that a model may call, by kind."""

    def __init__(self, tools: Iterable[ToolSpec]) -> None:
        self._tools = {tool.name: tool for tool in tools}

    def find(self, kind: str) -> ToolSpec | None:
        """Return the tool that is most certainly of a kind, the first of equals; None: there is
        none.
        """
        known = TOOL_KINDS[kind]
        best = max(self._tools.values(), key=known.score, default=None)
        return best if best is not None and known.score(best) else None

    def is_of(self, name: str, kind: str) -> bool:
        """Return whether a called tool is of a kind, even if it is no longer offered."""
        tool = self._tools.get(name) or ToolSpec(name, "", {})
        return TOOL_KINDS[kind].score(tool) > 0


def arguments_for(tool: ToolSpec, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments under the tool's own parameter names, without those it lacks."""
    properties = tool.parameters.get("properties")
    if not isinstance(properties, Mapping):
        return dict(arguments)
    named: dict[str, Any] = {}
    for name, value in arguments.items():
        own = _own_name(name, value, properties)
        if own:
            named[own] = value
    return named


def _own_name(name: str, value: Any, properties: Mapping[str, Any]) -> str:
    for each in (name, *_SYNONYMS.get(name, ())):
        if each in properties:
            return each
    types = _WORDS if isinstance(value, str) else _NUMBERS
    fitting = [own for own, schema in properties.items() if _type_of(schema) in types]
    # "volume_level", or the only parameter.
    alike = [own for own in fitting if name in own.lower()]
    return (alike or (fitting if len(fitting) == 1 else [""]))[0]


def _type_of(schema: Any) -> str:
    kind = schema.get("type") if isinstance(schema, Mapping) else None
    if isinstance(kind, list):
        kind = next((each for each in kind if each != "null"), None)
    return {"int": "integer", "float": "number", "str": "string"}.get(str(kind), str(kind))


def _words_of(name: str) -> str:
    return " ".join(_PART.findall(name)).lower()
