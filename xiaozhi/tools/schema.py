"""Repair of the JSON schemas of tools' parameters.

Because of one malformed schema, vendors refuse every request of a session. A device's schema
is repaired where its meaning can be guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Far above any real tool.
_DEPTH, _NODES = 8, 300
_TEXT_LIMIT = 1024

_TYPES = {
    **dict.fromkeys(("string", "str", "text", "char", "date", "datetime", "uri"), "string"),
    **dict.fromkeys(("integer", "int", "int32", "int64", "long", "short", "uint"), "integer"),
    **dict.fromkeys(("number", "float", "double", "decimal", "numeric"), "number"),
    **dict.fromkeys(("boolean", "bool"), "boolean"),
    **dict.fromkeys(("object", "dict", "map", "struct", "record"), "object"),
    **dict.fromkeys(("array", "list", "tuple", "set", "sequence"), "array"),
}
_ANY: dict[str, Any] = {"type": "string"}
_UNIONS = ("anyOf", "oneOf", "allOf")
_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_SIZES = ("minLength", "maxLength", "minItems", "maxItems")
_RANGES = (("minimum", "maximum"), ("minLength", "maxLength"), ("minItems", "maxItems"))
_TEXTS = ("description", "title", "pattern", "format")


class UnusableSchema(ValueError):
    """A schema is too large or too deeply nested."""


def repaired(schema: Any) -> tuple[dict[str, Any], bool]:
    """Repair a schema so that vendors accept it.

    :return: a schema of type object, and whether it was changed.
    :raises UnusableSchema: the schema cannot be repaired.
    """
    repair = _Repair(schema)
    try:
        whole = repair.top(schema)
    except RecursionError:
        raise UnusableSchema("nested too deeply") from None
    return whole, repair.changed


class _Repair:
    def __init__(self, root: Any) -> None:
        self._root = root
        self._nodes = 0
        self.changed = False

    def top(self, schema: Any) -> dict[str, Any]:
        """Repair the schema of all parameters."""
        if not isinstance(schema, dict):
            self.changed = self.changed or schema is not None
            schema = {}
        schema = self._followed(schema, 0)
        # Vendors reject alternatives at the top level.
        plain = {key: value for key, value in schema.items() if key not in (*_UNIONS, "enum")}
        if _type(plain.get("type", "object")) != "object":
            self.changed = True
            plain = {}
        whole = self._node({**plain, "type": "object"}, 0)
        return {"type": "object", "properties": {}, **whole}

    def _node(self, node: Any, depth: int) -> dict[str, Any]:
        self._nodes += 1
        if depth > _DEPTH or self._nodes > _NODES:
            raise UnusableSchema("too deeply nested or too large")
        if isinstance(node, str):
            node = {"type": node}
            self.changed = True
        if node is True or node == {}:
            return dict(_ANY)
        if not isinstance(node, dict):
            self.changed = True
            return dict(_ANY)
        node = self._followed(node, depth)
        sound = self._plain_members(node)
        for key in _UNIONS:
            if key in node and (options := self._options(node[key], depth)):
                sound[key] = options
        kind = self._kind(node, sound)
        if kind:
            sound["type"] = kind
        if kind == "array":
            sound["items"] = self._items(node, depth)
        elif kind == "object":
            self._members(node, sound, depth)
        return sound

    def _followed(self, node: dict[str, Any], depth: int) -> dict[str, Any]:
        """Replace a local reference by its target."""
        for _ in range(_DEPTH):
            reference = node.get("$ref")
            if reference is None:
                return node
            target: Any = self._root
            parts = str(reference).split("/")
            for part in parts[1:] if parts[0] == "#" else [""]:
                target = target.get(part) if isinstance(target, dict) else None
            if not isinstance(target, dict):
                break
            node = {**target, **{key: node[key] for key in node if key != "$ref"}}
        self.changed = True
        return {key: value for key, value in node.items() if key != "$ref"}

    def _options(self, value: Any, depth: int) -> list[dict[str, Any]]:
        if not isinstance(value, list) or not value:
            self.changed = True
            return []
        # A null means an optional value, which may be omitted instead.
        options = [each for each in value if not (isinstance(each, dict) and _is_null(each))]
        return [self._node(each, depth + 1) for each in options]

    def _kind(self, node: dict[str, Any], sound: dict[str, Any]) -> str:
        given = node.get("type")
        if isinstance(given, list):
            self.changed = True
            given = next((each for each in given if _type(each)), None)
        kind = _type(given)
        if kind and kind != given:
            self.changed = True
        if not kind:
            if any(key in sound for key in _UNIONS):
                return ""
            kind = _guess(node)
            self.changed = self.changed or "type" in node
        enum = sound.get("enum")
        if enum and kind != "string" and all(isinstance(each, str) for each in enum):
            self.changed = True
            return "string"
        return kind

    def _items(self, node: dict[str, Any], depth: int) -> dict[str, Any]:
        items = node.get("items", node.get("prefixItems"))
        if isinstance(items, list):
            items = items[0] if items else None
        self.changed = self.changed or not isinstance(node.get("items"), dict)
        return self._node(items, depth + 1)

    def _members(self, node: dict[str, Any], sound: dict[str, Any], depth: int) -> None:
        given = node.get("properties")
        if "properties" in node and not isinstance(given, dict):
            self.changed = True
        properties = given if isinstance(given, dict) else {}
        if len(properties) > _NODES:
            raise UnusableSchema("too large")
        required = node.get("required")
        names = required[: 2 * _NODES] if isinstance(required, list) else []
        needed = [name for name in names if isinstance(name, str) and name in properties]
        self.changed = self.changed or ("required" in node and needed != required)
        for name, member in properties.items():
            # An old version of JSON Schema marks the member itself as required.
            if isinstance(member, dict) and member.get("required") is True and name not in needed:
                needed.append(name)
        if given is not None or depth == 0:
            sound["properties"] = {
                name: self._node(member, depth + 1) for name, member in properties.items() if name
            }
        if needed:
            sound["required"] = list(dict.fromkeys(needed))
        others = node.get("additionalProperties")
        if isinstance(others, bool):
            sound["additionalProperties"] = others
        elif isinstance(others, dict):
            sound["additionalProperties"] = self._node(others, depth + 1)

    def _plain_members(self, node: dict[str, Any]) -> dict[str, Any]:
        """Return the valid members that do not depend on others."""
        sound: dict[str, Any] = {}
        for key in _TEXTS:
            if isinstance(node.get(key), str):
                sound[key] = node[key][:_TEXT_LIMIT]
        for key in _NUMBERS:
            if _is_number(node.get(key)) and not (key == "multipleOf" and node[key] <= 0):
                sound[key] = node[key]
        for key in _SIZES:
            if _is_number(node.get(key)) and int(node[key]) == node[key] >= 0:
                sound[key] = int(node[key])
        for low, high in _RANGES:
            if low in sound and high in sound and sound[low] > sound[high]:
                del sound[low], sound[high]
        for key in ("default", "const"):
            if isinstance(node.get(key), str | int | float):
                sound[key] = node[key]
        enum = node.get("enum")
        if isinstance(enum, list):
            scalars = [each for each in enum if isinstance(each, str | int | float)]
            if scalars:
                sound["enum"] = [*dict.fromkeys(scalars)]
        judged = (*_TEXTS, *_NUMBERS, *_SIZES, "enum")
        if any(key in node and key not in sound for key in judged) or (
            "enum" in sound and sound["enum"] != enum
        ):
            self.changed = True
        return sound


def _type(name: Any) -> str:
    return _TYPES.get(name.strip().lower(), "") if isinstance(name, str) else ""


def _is_null(node: Mapping[str, Any]) -> bool:
    return node.get("type") in ("null", ["null"])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _guess(node: Mapping[str, Any]) -> str:
    if isinstance(node.get("properties"), dict):
        return "object"
    if "items" in node or "prefixItems" in node:
        return "array"
    enum = node.get("enum")
    if isinstance(enum, list) and enum and all(_is_number(each) for each in enum):
        return "integer" if all(isinstance(each, int) for each in enum) else "number"
    return "integer" if "minimum" in node and "maximum" in node else "string"
