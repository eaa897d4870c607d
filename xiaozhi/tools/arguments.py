"""Conversion of a tool call's arguments from a model's text to the tool's types."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

_NOTHING = ("", "null", "none", "undefined", "nil", "{}")
_WRAPPERS = ("arguments", "parameters", "args", "params", "input", "kwargs", "properties")
_FENCE = re.compile(r"^```\w*\s*(.*?)\s*```$", re.S)
_WHOLE = re.compile(r"[+-]?\d{1,15}(?:\.0*)?")
_DECIMAL = re.compile(r"[+-]?\d{1,15}(?:\.\d*)?(?:[eE][+-]?\d{1,2})?")
_YES, _NO = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
# Maximum levels of JSON text within JSON text; models write one.
_LEVELS = 3


def read_arguments(text: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Parse the arguments of a call, tolerantly where their meaning is certain.

    Models write ``null`` for no arguments, members that are null or unknown to the tool, numbers
    as text, and the object within a text, a list or another object.

    :param schema: schema of the tool's parameters.
    :raises ValueError: the arguments are not JSON, or not an object.
    """
    properties = schema.get("properties")
    properties = properties if isinstance(properties, Mapping) else {}
    values = _unwrapped(_object(text), properties)
    if not properties:
        return values
    others = bool(schema.get("additionalProperties"))
    by_spelling: dict[str, list[str]] = {}
    for name in properties:
        by_spelling.setdefault(_plain(name), []).append(name)
    fitting: dict[str, Any] = {}
    for given, value in values.items():
        same = [given] if given in properties else by_spelling.get(_plain(given), [])
        if len(same) != 1:
            if others:
                fitting[given] = value
            continue
        (name,) = same
        if value is None or (name != given and name in values):
            # Null means that the argument is omitted.
            continue
        fitting[name] = _converted(value, properties[name])
    return fitting


def _object(text: str) -> dict[str, Any]:
    value: Any = text
    for _ in range(_LEVELS):
        if not isinstance(value, str):
            break
        value = value.strip()
        if fenced := _FENCE.match(value):
            value = fenced[1]
        if value.lower() in _NOTHING:
            return {}
        try:
            # A strict parser: devices reject some JSON that Python's accepts.
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            raise ValueError("the arguments are not JSON") from None
    if isinstance(value, list) and len(value) < 2:
        # PHP writes an empty object as a list; some models put the object into a list.
        value = value[0] if value else {}
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError("the arguments are not an object")
    return value


def _unwrapped(values: dict[str, Any], properties: Mapping[str, Any]) -> dict[str, Any]:
    if len(values) != 1 or not properties:
        return values
    ((name, inner),) = values.items()
    if name not in _WRAPPERS or name in properties:
        return values
    if isinstance(inner, str):
        try:
            inner = _object(inner)
        except ValueError:
            return values
    return inner if isinstance(inner, dict) else values


def _converted(value: Any, schema: Any) -> Any:
    """Convert a value to its schema's type if no other meaning is possible."""
    schema = schema if isinstance(schema, Mapping) else {}
    kind = schema.get("type")
    if isinstance(value, str):
        return _from_text(value, kind, schema.get("enum"))
    if kind == "integer" and isinstance(value, float) and value.is_integer():
        return int(value)
    if kind == "boolean" and isinstance(value, int) and value in (0, 1):
        return bool(value)
    if kind == "string" and isinstance(value, int | float):
        return str(value).lower() if isinstance(value, bool) else str(value)
    if kind == "array" and not isinstance(value, list):
        return [value]
    return value


def _from_text(text: str, kind: Any, enum: Any) -> Any:
    plain = text.strip()
    if kind == "integer" and _WHOLE.fullmatch(plain):
        return int(plain.partition(".")[0])
    if kind == "number" and _DECIMAL.fullmatch(plain):
        return float(plain)
    if kind == "boolean" and plain.lower() in (*_YES, *_NO):
        return plain.lower() in _YES
    if kind in ("object", "array") and plain[:1] in ("{", "["):
        try:
            return msgspec.json.decode(plain)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return text
    if kind == "array":
        return [text]
    if isinstance(enum, list) and text not in enum:
        same = [each for each in enum if isinstance(each, str) and _plain(each) == _plain(text)]
        return same[0] if len(same) == 1 else text
    return text


def _plain(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())
