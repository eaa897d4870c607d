"""Parse tool calls that a model has written into its text.

Supported notations: JSON (one object, a list, several in a row), the XML of Qwen, Anthropic,
MiniMax and GLM, a name followed by JSON, and Python calls.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from xiaozhi.base.modeltext.answerfilter import WrittenCall

# Returns the named tool's parameters, name → schema, in order; None: there is no such tool.
Parameters = Callable[[str], Mapping[str, Any] | None]

_NAMES = ("name", "tool_name", "function_name", "recipient_name", "tool", "function", "action")
_ARGUMENTS = (
    *("arguments", "parameters", "args", "input", "params", "kwargs", "tool_arguments"),
    *("action_input", "tool_input", "tool_parameters"),
)
_LISTS = ("tool_calls", "tool_uses", "calls", "function_call", "tool_call")
_CALLS_LIMIT = 16
_PYTHON_LIMIT = 4_000

_TOKENS = re.compile(r"<[|｜](?!\")[^<>|｜\n]{1,60}[|｜]?>|</?(?:tool_?calls?|function_?calls?)>")
_QUOTE = '<|"|>'
_FENCE = re.compile(r"```[\w-]*")
_DSML = re.compile(r"(</?)(?:[|｜]\w{1,12}[|｜]|[A-Za-z]\w*:)")
# "<function=name{…}", "<function(name)>"
_FUNCTION = re.compile(r"<function[=(/][\"']?([\w.\-]{1,64})[\"']?\)?\s?>?(?:\[\])?")
_XML = re.compile(
    r"<(?:function|invoke|tool|tool_call)(?:\s*=\s*|\s+(?:name|function)\s*=\s*)"
    r"[\"']?([^\"'<>\s]+)[\"']?[^<>]*>(.*?)(?=</(?:function|invoke|tool|tool_call)\s*>|\Z"
    r"|<(?:function|invoke)\b)",
    re.S,
)
_ELEMENTS = re.compile(
    r"<(?:name|tool_name|function_name)>\s*([^<>\s]+)\s*</\w+>\s*"
    r"<(?:arguments|parameters|args|params|input)>(.*?)(?:</(?:arguments|parameters|args|params"
    r"|input)>|\Z)",
    re.S,
)
_PARAMETER = re.compile(
    r"<(?:parameter|param|arg)(?:\s*=\s*|\s+name\s*=\s*)[\"']?([^\"'<>\s]+)[\"']?([^<>]*)>"
    r"(.*?)(?=</(?:parameter|param|arg)\s*>|<(?:parameter|param|arg)\b|\Z)",
    re.S,
)
_PAIR = re.compile(
    r"<arg_key>([^<>]{0,128})</arg_key>\s*<arg_value>(.*?)(?=</arg_value>|<arg_key>|\Z)", re.S
)
_ELEMENT = re.compile(r"<([\w.-]{1,64})>([^<>]*)</\1>")
_NAMED = re.compile(
    r"[\s,;]*(?:(?:function|call|name)\s*[:\s]\s*)?([\w.\-/]{1,128})(?::\d+)?\s*"
    r"(?:\[CALL_ID\]\w*\s*)?(?:\[ARGS\]|[:：])?\s*(?=\{)"
)
_FLOWER = re.compile(r"\s*([\w.\-]{1,128})\s*✿ARGS✿\s*[:：]?\s*", re.I)
_GLM = re.compile(r"\s*([\w.\-]{1,128})\s*(?=<arg_key>|\Z)")
_VALUE = re.compile(r"[\s,;]*[{\[]")
_BALANCE = re.compile(r"\"(?:[^\"\\]|\\.)*\"|[{}\[\]]", re.S)
_BARE_KEY = re.compile(r"([{,]\s*)([A-Za-z_]\w*)\s*:")


@dataclass(frozen=True, slots=True)
class Reading:
    """The parsed text.

    :ivar calls: name and JSON arguments of each call.
    :ivar rest: text after the calls, if their end was not marked.
    :ivar refused: whether it is a call, but only of unknown tools.
    """

    calls: tuple[tuple[str, str], ...] = ()
    rest: str = ""
    refused: bool = False


def read(call: WrittenCall, parameters: Parameters) -> Reading:
    """Parse the calls in a model's text.

    :param parameters: returns the parameters of a tool.
    :return: without calls if the text cannot be parsed or names no known tool.
    """
    try:
        return _Reader(parameters).read(call)
    except RecursionError:
        return Reading()


class _Reader:
    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self._found: list[tuple[str, str]] = []
        self._refused = False

    def read(self, call: WrittenCall) -> Reading:
        body = _FUNCTION.sub(r"<function=\1>", _DSML.sub(r"\1", call.body))
        body = _TOKENS.sub(" ", _FENCE.sub(" ", body.replace(_QUOTE, '"'))).strip()
        rest = ""
        if call.tool:
            values, _ = _values(body or "{}")
            self._add(call.tool, values[0] if values else None)
        elif body[:1] in ("{", "["):
            values, end = _values(body)
            for value in values:
                self._value(value)
            rest = body[end:] if values else ""
            if not values:
                self._python(body)
        else:
            rest = self._spelled(body)
        rest = "" if call.closed else rest.strip()
        return Reading(tuple(self._found), rest, self._refused and not self._found)

    def _spelled(self, body: str) -> str:
        """Parse notations that begin with a name or a tag.

        :return: the text after them.
        """
        for tag in _XML.finditer(body):
            self._add(tag[1], self._members(tag[1], tag[2]))
        elements = None if self._found else _ELEMENTS.search(body)
        if elements is not None:
            self._add(elements[1], self._members(elements[1], elements[2]))
        if self._found or body.startswith("<"):
            return ""
        at = 0
        while named := _FLOWER.match(body, at) or _NAMED.match(body, at):
            values, end = _values(body[named.end() :], one=True)
            if not values:
                break
            self._add(named[1], values[0])
            at = named.end() + end
        if at:
            return body[at:]
        if alone := _GLM.match(body):
            self._add(alone[1], self._members(alone[1], body[alone.end() :]))
        else:
            self._python(body)
        return ""

    def _value(self, value: Any) -> None:
        """Read one call or several from a JSON value."""
        if isinstance(value, list):
            for entry in value[:_CALLS_LIMIT]:
                self._value(entry)
            return
        if not isinstance(value, dict):
            return
        for key in _LISTS:
            if isinstance(value.get(key), list | dict):
                self._value(value[key])
                return
        name = next((value[key] for key in _NAMES if value.get(key)), None)
        if isinstance(name, dict):
            self._value(name)
            return
        if isinstance(name, str):
            arguments = next((value[key] for key in _ARGUMENTS if key in value), None)
            self._add(name, arguments)
            return
        if len(value) == 1:
            # {"get_time": {}}
            ((name, arguments),) = value.items()
            if isinstance(arguments, dict):
                self._add(name, arguments)

    def _add(self, name: str, arguments: Any) -> None:
        name = name.strip()
        if isinstance(arguments, str):
            values, _ = _values(arguments, one=True)
            arguments = values[0] if values else None
        if self._parameters(name) is None:
            self._refused = self._refused or isinstance(arguments, dict)
            return
        if len(self._found) >= _CALLS_LIMIT:
            return
        arguments = arguments if isinstance(arguments, dict) else {}
        self._found.append((name, json.dumps(arguments, ensure_ascii=False)))

    def _members(self, name: str, body: str) -> dict[str, Any]:
        """Parse arguments, in tags or as JSON."""
        if body.strip()[:1] in ("{", "["):
            values, _ = _values(body.strip(), one=True)
            value = values[0] if values else None
            value = value[0] if isinstance(value, list) and value else value
            return value if isinstance(value, dict) else {}
        schema = self._parameters(name) or {}
        pairs = [(key, text, 'string="true"' in rest) for key, rest, text in _tagged(body)]
        return {key: _typed(text, schema.get(key), words) for key, text, words in pairs}

    def _python(self, body: str) -> None:
        """Parse ``name(key="value")``, a list of these, ``print(name())`` and ``name.call(…)``."""
        if len(body) > _PYTHON_LIMIT or "(" not in body:
            return
        try:
            tree = ast.parse(body)
            for statement in tree.body:
                value = getattr(statement, "value", None)
                for call in value.elts if isinstance(value, ast.List | ast.Tuple) else [value]:
                    self._python_call(call)
        except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
            return

    def _python_call(self, call: Any) -> None:
        if not isinstance(call, ast.Call):
            return
        name = ast.unparse(call.func)
        if name == "print" and call.args:
            self._python_call(call.args[0])
            return
        name = name.removesuffix(".call")
        arguments = {word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg}
        given = [ast.literal_eval(value) for value in call.args]
        if len(given) == 1 and isinstance(given[0], dict):
            arguments |= given[0]
        else:
            arguments |= dict(zip(self._parameters(name) or (), given, strict=False))
        self._add(name, arguments)


def _tagged(body: str) -> Iterator[tuple[str, str, str]]:
    """Return the name, attributes and text of each parameter."""
    found = [(m[1], m[2], m[3]) for m in _PARAMETER.finditer(body)]
    found = found or [(m[1], "", m[2]) for m in _PAIR.finditer(body)]
    found = found or [(m[1], "", m[2]) for m in _ELEMENT.finditer(body)]
    return ((name.strip(), rest, text.strip()) for name, rest, text in found[:64])


def _typed(text: str, schema: Any, words: bool) -> Any:
    """Convert a parameter's text to the type in its schema."""
    if words or (isinstance(schema, Mapping) and schema.get("type") == "string"):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return {"True": True, "False": False, "None": None}.get(text, text)


def _values(text: str, *, one: bool = False) -> tuple[list[Any], int]:
    """Return consecutive JSON values, and the index after them."""
    values: list[Any] = []
    at = 0
    while len(values) < _CALLS_LIMIT:
        found = _VALUE.match(text, at)
        if found is None:
            break
        begin = found.end() - 1
        value, end = _value_at(text, begin)
        if end == begin:
            break
        values.append(value)
        at = end
        if one:
            break
    return values, at


def _value_at(text: str, begin: int) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, begin)
    except ValueError:
        pass
    end = _balanced(text, begin)
    part = text[begin:end]
    if part.startswith("{{") and part.endswith("}}"):
        # Doubled braces, as in a template.
        part = part[1:-1]
    for mended in (part, _BARE_KEY.sub(r'\1"\2":', part)):
        try:
            return _DECODER.decode(mended), end
        except ValueError:
            pass
        try:
            # A Python dict: single quotes, True, None.
            if len(mended) <= _PYTHON_LIMIT:
                return ast.literal_eval(mended), end
        except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
            pass
    return None, begin


def _balanced(text: str, begin: int) -> int:
    depth = 0
    for found in _BALANCE.finditer(text, begin):
        if found[0] in "{[":
            depth += 1
        elif found[0] in "}]":
            depth -= 1
            if depth == 0:
                return found.end()
    return len(text)


# Models write raw line breaks in JSON strings.
_DECODER = json.JSONDecoder(strict=False)
