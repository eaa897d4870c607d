"""Routes: map a method and a path to a function.

A path has literal segments and parameters: ``/api/devices/{device_id}/messages``,
``/api/agents/{number:int}``, ``/console/{file:path}`` (the rest of the path, including
slashes). A handler is a plain function or a coroutine function. Its parameters may be:

* each path parameter, by its name, annotated ``str`` or ``int``;
* the request, annotated :class:`~xiaozhi.web.request.WebRequest`;
* ``body``, annotated ``bytes`` or a ``msgspec.Struct``, which the JSON body must fit.

It returns a reply or raises an error. A route that does not fit its handler fails when it is
added, not at its first request.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict, Unpack
from urllib.parse import unquote_to_bytes

import msgspec

from xiaozhi.web.replies import HttpError, Reply, StreamReply
from xiaozhi.web.request import WebRequest

AnyReply = Reply | StreamReply
Handler = Callable[..., AnyReply | Awaitable[AnyReply]]
Guard = Callable[[WebRequest], None]
"""Checks a request's head; raises AuthError or HttpError to refuse it before its body."""

_PARAMETER = re.compile(r"\{([a-z_]+)(?::(str|int|path))?\}")
_INTEGER = re.compile(r"[0-9]{1,18}")
_JSON_TYPE = re.compile(r"application/([a-z0-9.+-]+\+)?json", re.IGNORECASE)
_MSGSPEC_PATH = re.compile(r"^(.*) - at `\$\.?(.*)`$", re.DOTALL)

_Value = str | int
_Source = Callable[[WebRequest, Mapping[str, _Value]], object]


class RouteOptions(TypedDict, total=False):
    """Settings of a route; the site's settings are the defaults.

    :ivar guard: absent: anybody may use the route.
    :ivar max_body: maximum bytes of a request's body.
    :ivar page: the route's name in metrics and the access log; absent: its path.
    """

    guard: Guard
    max_body: int
    page: str


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path.

    :ivar path: the path, as it was added.
    :ivar names: names of the path's parameters, in order.
    :ivar takes_json: whether the body must be JSON.
    """

    method: str
    path: str
    names: tuple[str, ...]
    handler: Handler
    options: RouteOptions
    takes_json: bool
    _sources: Mapping[str, _Source] = field(repr=False)

    @property
    def page(self) -> str:
        """The route's name in metrics and the access log."""
        return self.options.get("page", self.path)

    def call(self, request: WebRequest, values: Sequence[_Value]) -> AnyReply | Awaitable[AnyReply]:
        """Run the handler.

        :param values: values of the path's parameters, in order.
        :raises HttpError: 400, the body is invalid.
        """
        named = dict(zip(self.names, values, strict=True))
        return self.handler(**{name: give(request, named) for name, give in self._sources.items()})

    def check_type(self, request: WebRequest) -> None:
        """Check ``Content-Type`` if the body must be JSON; without the header, it is JSON.

        :raises HttpError: 415.
        """
        given = request.header("content-type").partition(";")[0].strip()
        if self.takes_json and given and not _JSON_TYPE.fullmatch(given):
            raise HttpError(415, "unsupported_media_type", "the body must be application/json")


@dataclass(slots=True)
class _Node:
    """A node in the tree of segments."""

    literals: dict[str, _Node] = field(default_factory=dict)
    kinds: dict[str, _Node] = field(default_factory=dict)
    methods: dict[str, Route] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PathMatch:
    """The routes of a path, by method, and the values of its parameters."""

    methods: Mapping[str, Route]
    values: tuple[_Value, ...]

    def route(self, method: str) -> Route | None:
        """Return the route of a method; ``GET`` also serves ``HEAD``."""
        return self.methods.get("GET" if method == "HEAD" else method)

    @property
    def allowed(self) -> list[str]:
        """The supported methods, in order."""
        found = set(self.methods)
        return sorted(found | {"HEAD"} if "GET" in found else found)


class Routes:
    """A table of routes. Trailing slashes of a path are ignored."""

    def __init__(self) -> None:
        self._root = _Node()

    def get(self, path: str, handler: Handler, **options: Unpack[RouteOptions]) -> None:
        """Add a route for ``GET`` and ``HEAD``. See :meth:`add`."""
        self.add("GET", path, handler, **options)

    def post(self, path: str, handler: Handler, **options: Unpack[RouteOptions]) -> None:
        """Add a route for ``POST``. See :meth:`add`."""
        self.add("POST", path, handler, **options)

    def put(self, path: str, handler: Handler, **options: Unpack[RouteOptions]) -> None:
        """Add a route for ``PUT``. See :meth:`add`."""
        self.add("PUT", path, handler, **options)

    def delete(self, path: str, handler: Handler, **options: Unpack[RouteOptions]) -> None:
        """Add a route for ``DELETE``. See :meth:`add`."""
        self.add("DELETE", path, handler, **options)

    def add(
        self, method: str, path: str, handler: Handler, **options: Unpack[RouteOptions]
    ) -> None:
        """Add a route.

        :param options: see :class:`RouteOptions`.
        :raises ValueError: the path is malformed or taken, or the handler does not fit it.
        """
        if not path.startswith("/"):
            raise ValueError(f"{path}: a path begins with a slash")
        node, kinds = self._root, {}
        segments = _segments(path)
        for number, segment in enumerate(segments, 1):
            found = _PARAMETER.fullmatch(segment)
            if found is None:
                if "{" in segment:
                    raise ValueError(f"{path}: {segment!r} is not {{name}} or {{name:kind}}")
                node = node.literals.setdefault(segment, _Node())
                continue
            name, kind = found[1], found[2] or "str"
            if name in kinds or (kind == "path" and number < len(segments)):
                raise ValueError(f"{path}: {segment!r} is out of place")
            kinds[name] = kind
            node = node.kinds.setdefault(kind, _Node())
        if method in node.methods:
            raise ValueError(f"{method} {path}: this route already exists")
        sources, takes_json = _sources(path, handler, kinds)
        node.methods[method] = Route(
            method, path, tuple(kinds), handler, options, takes_json, sources
        )

    def find(self, path: str) -> PathMatch | None:
        """Return the routes of a path; literal segments take precedence over parameters.

        :param path: percent-encoded, as sent.
        """
        if not path.startswith("/"):
            return None
        try:
            segments = [unquote_to_bytes(each).decode() for each in _segments(path)]
        except UnicodeDecodeError:
            return None
        return _find(self._root, segments, ())


def _segments(path: str) -> list[str]:
    stripped = path.rstrip("/")[1:]
    return stripped.split("/") if stripped else []


def _find(node: _Node, segments: list[str], values: tuple[_Value, ...]) -> PathMatch | None:
    if not segments:
        return PathMatch(node.methods, values) if node.methods else None
    first, rest = segments[0], segments[1:]
    found = None
    if first in node.literals:
        found = _find(node.literals[first], rest, values)
    if found is None and "int" in node.kinds and _INTEGER.fullmatch(first):
        found = _find(node.kinds["int"], rest, (*values, int(first)))
    if found is None and "str" in node.kinds and first:
        found = _find(node.kinds["str"], rest, (*values, first))
    if found is None and "path" in node.kinds:
        found = _find(node.kinds["path"], [], (*values, "/".join(segments)))
    return found


def _sources(
    path: str, handler: Handler, kinds: Mapping[str, str]
) -> tuple[dict[str, _Source], bool]:
    """Return the source of each argument of a handler, and whether one is the JSON body.

    :raises ValueError: the handler does not fit the path.
    """
    found: dict[str, _Source] = {}
    takes_json = False
    for name, parameter in inspect.signature(handler, eval_str=True).parameters.items():
        wanted = parameter.annotation
        if name in kinds:
            if wanted is not (int if kinds[name] == "int" else str):
                raise ValueError(f"{path}: the parameter {name} must be {kinds[name]}")
            found[name] = _value(name)
        elif wanted is WebRequest:
            found[name] = _request
        elif name == "body" and wanted is bytes:
            found[name] = _bytes
        elif name == "body" and isinstance(wanted, type) and issubclass(wanted, msgspec.Struct):
            found[name] = _decoded(wanted)
            takes_json = True
        else:
            raise ValueError(f"{path}: no part of a request fits the parameter {name}")
    missing = sorted(set(kinds) - set(found))
    if missing:
        raise ValueError(f"{path}: the handler does not take {', '.join(missing)}")
    return found, takes_json


def _value(name: str) -> _Source:
    return lambda request, values: values[name]


def _request(request: WebRequest, values: Mapping[str, _Value]) -> object:
    return request


def _bytes(request: WebRequest, values: Mapping[str, _Value]) -> object:
    return request.body


def _decoded(wanted: type[msgspec.Struct]) -> _Source:
    decode = msgspec.json.Decoder(wanted).decode

    def source(request: WebRequest, values: Mapping[str, _Value]) -> object:
        try:
            return decode(request.body)
        except msgspec.ValidationError as error:
            raise HttpError(400, "bad_field", _with_key(str(error))) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise HttpError(400, "bad_json", "the body is not JSON") from None

    return source


def _with_key(problem: str) -> str:
    """``Expected `int` - at `$.a.b``` → ``a.b: Expected `int```."""
    found = _MSGSPEC_PATH.match(problem)
    if found is None:
        return problem
    return f"{found[2]}: {found[1]}" if found[2] else found[1]
