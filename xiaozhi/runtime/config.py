"""YAML files, read into frozen ``msgspec`` structs, with actionable errors.

Every error is a :class:`~xiaozhi.base.errors.ConfigError` of one line that names the
file, the key with its full path, and what was expected. Values are read by the
YAML 1.2 core schema: ``yes`` and ``12:30`` are strings, ``1e-3`` is a number.
"""

from __future__ import annotations

import difflib
import os
import re
import types
import typing
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import msgspec
import yaml
from msgspec import inspect

from xiaozhi.base.errors import ConfigError

T = TypeVar("T")

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_PRIVATE = re.compile(r"secret|token|password|key|dsn|url", re.IGNORECASE)


def load(
    path: str | os.PathLike[str],
    type_: type[T],
    overrides: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> T:
    """Read a configuration file.

    ``${NAME}`` and ``${NAME:-default}`` in string values are replaced from the environment.

    :param type_: a ``msgspec.Struct``; unknown keys are refused.
    :param overrides: ``a.b.c=value``, the value in YAML; they override the file.
    :param environment: default: the process's own.
    :raises ConfigError:
    """
    source = _Source.open(path, overrides, environment)
    return typing.cast(T, source.convert(source.content, type_, ""))


def load_mapping(
    path: str | os.PathLike[str],
    overrides: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Read a configuration file without a type, for a program that needs only a few keys.

    :raises ConfigError:
    """
    return _Source.open(path, overrides, environment).content


def read_section(
    value: Any, type_: type[T], key: str, path: str | os.PathLike[str] = "configuration"
) -> T:
    """Convert a section of a loaded configuration whose type was not known before.

    :param key: its full path, for errors: ``providers.openai``.
    :param path: the file, for errors.
    :raises ConfigError:
    """
    return typing.cast(T, _Source(os.fspath(path), {}, {}).convert(value, type_, key))


# --- the text ------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """Safe YAML of the 1.2 core schema; refuses duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} is given twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


# The rules below replace those of YAML 1.1 (yes, no, 12:30, 010).
_Loader.yaml_implicit_resolvers = {}


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    return int(node.value, 0 if node.value[:2] in ("0x", "0o") else 10)


def _resolve(tag: str, pattern: str, first: str) -> None:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), list(first))


_resolve("null", r"^(?:~|null|Null|NULL|)$", "~nN")
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^$"), [""])
_resolve("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF")
_resolve("int", r"^(?:[-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+)$", "-+0123456789")
_resolve(
    "float",
    r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
    "-+0123456789.",
)
_resolve("merge", r"^(?:<<)$", "<")
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)


def _parse(text: str, name: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise ConfigError(f"{name}{where}: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"{name}: not valid YAML: {first}") from None


class _Given(str):
    """A string with parts from the environment: never shown in errors, and read as a number
    or a boolean where one is expected.
    """

    __slots__ = ()


# --- the values ----------------------------------------------------------------------


class _Source:
    """A configuration's content and the origin of its parts."""

    def __init__(self, name: str, content: dict[str, Any], overridden: dict[str, str]) -> None:
        self._name = name
        self._overridden = overridden
        self.content = content

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        overrides: Sequence[str],
        environment: Mapping[str, str] | None,
    ) -> _Source:
        name = os.fspath(path)
        try:
            text = Path(path).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ConfigError(f"{name}: there is no such file") from None
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise ConfigError(f"{name}: cannot be read: {reason}") from None
        content = _parse(text, name)
        if content is None:
            content = {}
        if not isinstance(content, dict):
            raise ConfigError(f"{name}: expected a mapping, not {_shown(content)}")
        source = cls(name, content, {})
        for override in overrides:
            source._override(override)
        variables = os.environ if environment is None else environment
        try:
            source.content = source._expand(source.content, "", variables)
        except RecursionError:
            raise ConfigError(f"{name}: nested too deeply, or inside itself") from None
        return source

    def _override(self, text: str) -> None:
        key, equals, value = text.partition("=")
        key = key.strip()
        parts = key.split(".")
        if not equals or not all(parts):
            raise ConfigError(f"--set {text}: expected KEY=VALUE, e.g. --set listen.port=8000")
        at = self.content
        for depth, part in enumerate(parts[:-1], 1):
            inner = at.get(part)
            if inner is None:
                inner = at[part] = {}
            elif not isinstance(inner, dict):
                outer = ".".join(parts[:depth])
                raise ConfigError(f"--set {key}: {outer} is not a mapping; set it as a whole")
            at = inner
        at[parts[-1]] = _parse(value, f"--set {key}")
        self._overridden[key] = f"--set {key}"

    def _expand(self, value: Any, key: str, variables: Mapping[str, str]) -> Any:
        """Replace references to the environment in every string."""
        if isinstance(value, dict):
            return {k: self._expand(v, _join(key, k), variables) for k, v in value.items()}
        if isinstance(value, list):
            return [self._expand(v, f"{key}[{i}]", variables) for i, v in enumerate(value)]
        if not isinstance(value, str) or "${" not in value:
            return value

        def replace(match: re.Match[str]) -> str:
            name, default = match.groups()
            found = variables.get(name, default)
            if found is None:
                raise self.error(key, f"the environment variable {name} is not set")
            return found

        return _Given(_REFERENCE.sub(replace, value))

    def error(self, key: str, problem: str) -> ConfigError:
        """Return an error about one key."""
        name = self._name
        for overridden, source in self._overridden.items():
            if key == overridden or key.startswith((overridden + ".", overridden + "[")):
                name = source
        where = "" if not key or name == f"--set {key}" else f"{key}: "
        return ConfigError(f"{name}: {where}{problem}")

    def convert(self, value: Any, type_: Any, key: str) -> Any:
        """Convert a plain value to a type."""
        bare = get_args(type_)[0] if get_origin(type_) is Annotated else type_
        origin, arguments = get_origin(bare), get_args(bare)
        if origin in (Union, types.UnionType):
            return self._one_of(value, type_, arguments, key)
        if isinstance(bare, type) and issubclass(bare, msgspec.Struct):
            return self._struct(value, bare, key)
        if isinstance(value, dict) and origin in (dict, Mapping):
            value = {
                self._leaf(k, arguments[0], _join(key, k)): self.convert(
                    v, arguments[1], _join(key, k)
                )
                for k, v in value.items()
            }
            return self._checked(value, type_, bare, key)
        if isinstance(value, list) and origin in (list, tuple, Sequence, frozenset, set):
            items = [
                self.convert(v, t, f"{key}[{i}]")
                for i, (v, t) in enumerate(zip(value, _item_types(arguments), strict=False))
            ]
            return self._checked(items, type_, bare, key)
        return self._leaf(value, type_, key)

    def _one_of(self, value: Any, type_: Any, arms: tuple[Any, ...], key: str) -> Any:
        others = [arm for arm in arms if arm is not type(None)]
        if value is None and len(others) < len(arms):
            return None
        if len(others) == 1:
            return self.convert(value, others[0], key)
        return self._leaf(value, type_, key)

    def _struct(self, value: Any, type_: type[msgspec.Struct], key: str) -> Any:
        if not isinstance(value, dict):
            raise self.error(key, f"expected a mapping, not {_described(value, key)}")
        fields = {field.encode_name: field for field in msgspec.structs.fields(type_)}
        for name in value:
            if name not in fields:
                raise self.error(_join(key, name), "unknown key" + _nearest(str(name), fields))
        given = {}
        for name, field in fields.items():
            if name in value:
                given[field.name] = self.convert(value[name], field.type, _join(key, name))
            elif field.required:
                expected = describe(field.type)
                raise self.error(_join(key, name), f"is missing; expected {expected}")
        try:
            return type_(**given)
        except (ValueError, TypeError) as error:
            # A check of the whole struct may name the field at fault.
            name, colon, problem = str(error).partition(": ")
            if colon and name in fields:
                raise self.error(_join(key, name), problem) from None
            raise self.error(key, str(error)) from None

    def _checked(self, value: Any, type_: Any, bare: Any, key: str) -> Any:
        """Apply a container's own limits to converted items."""
        try:
            return msgspec.convert(value, type_)
        except msgspec.ValidationError:
            raise self.error(key, f"expected {describe(type_)}") from None

    def _leaf(self, value: Any, type_: Any, key: str) -> Any:
        if type_ is Any:
            return value
        given = isinstance(value, _Given)
        try:
            return msgspec.convert(str(value) if given else value, type_, strict=not given)
        except msgspec.ValidationError:
            refused = _described(value, key)
            raise self.error(key, f"expected {describe(type_)}, not {refused}") from None


def _item_types(arguments: tuple[Any, ...]) -> Iterator[Any]:
    """Return the type of each item of a list or tuple; infinite for open ones."""
    if (len(arguments) == 2 and arguments[1] is Ellipsis) or len(arguments) == 1:
        while True:
            yield arguments[0]
    yield from arguments


def _join(key: str, part: object) -> str:
    name = str(part)
    if not name.isprintable():
        name = repr(name)
    return f"{key}.{name}" if key else name


def _nearest(name: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(name, known, 1, 0.5)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known are {', '.join(known)}" if known else ""


def _described(value: Any, key: str) -> str:
    """Describe a refused value, without possible secrets."""
    if isinstance(value, _Given):
        return "the value from the environment"
    if _PRIVATE.search(key) and isinstance(value, str):
        return "this string"
    return _shown(value)


def _shown(value: Any) -> str:
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


# --- types in words --------------------------------------------------------------------


def describe(type_: Any) -> str:
    """Describe the values of a type in words: ``an integer >= 0``."""
    return _words(inspect.type_info(type_))


def _words(info: inspect.Type) -> str:
    match info:
        case inspect.Metadata(extra_json_schema={"description": str(described)}):
            return described
        case inspect.Metadata(type=inner):
            return _words(inner)
        case inspect.IntType():
            return "an integer" + _bounds(info)
        case inspect.FloatType():
            return "a number" + _bounds(info)
        case inspect.BoolType():
            return "true or false"
        case inspect.NoneType():
            return "nothing"
        case inspect.StrType():
            return "a string" + _lengths(info, "characters")
        case inspect.LiteralType(values=values):
            return "one of " + ", ".join(map(str, values))
        case inspect.EnumType(cls=cls):
            return "one of " + ", ".join(str(member.value) for member in cls)
        case inspect.UnionType(types=arms):
            return " or ".join(_words(arm) for arm in arms)
        case inspect.DictType() | inspect.StructType():
            return "a mapping"
        case inspect.ListType(item_type=item) | inspect.VarTupleType(item_type=item):
            return "a list" + _lengths(info, "entries") + f", each {_words(item)}"
        case inspect.TupleType(item_types=items):
            return f"a list of {len(items)}: " + ", ".join(map(_words, items))
    return type(info).__name__.removesuffix("Type").lower()


def _bounds(info: inspect.IntType | inspect.FloatType) -> str:
    low = (f">= {info.ge}" if info.ge is not None else "") or (
        f"> {info.gt}" if info.gt is not None else ""
    )
    high = (f"<= {info.le}" if info.le is not None else "") or (
        f"< {info.lt}" if info.lt is not None else ""
    )
    both = " and ".join(part for part in (low, high) if part)
    return f" {both}" if both else ""


def _lengths(info: Any, unit: str) -> str:
    parts = []
    if info.min_length is not None:
        parts.append(f"at least {info.min_length} {unit}")
    if info.max_length is not None:
        parts.append(f"at most {info.max_length} {unit}")
    if getattr(info, "pattern", None) is not None:
        parts.append(f"matching {info.pattern}")
    return (" of " + ", ".join(parts)) if parts else ""
