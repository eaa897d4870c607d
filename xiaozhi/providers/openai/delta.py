"""Assembly of the tool calls in a streamed chat answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from xiaozhi.base.errors import ProviderError
from xiaozhi.base.values import ToolCall

# A tool's arguments usually have a few hundred characters.
CALLS_LIMIT = 1 << 20
# The most calls in an answer, the most concatenated objects, and the characters in which these are
# detected before the answer is over.
_CALLS, _GLUED, _LOOKED_AT = 64, 16, 1 << 14


@dataclass(slots=True)
class _Call:
    index: int | None
    call_id: str
    name: str
    arguments: str

    def complete(self) -> bool:
        # Checked with each piece, so only while that is cheap.
        return len(self.arguments) <= _LOOKED_AT and bool(_objects(self.arguments))

    @property
    def cut(self) -> bool:
        """Whether the arguments are an incomplete object."""
        return self.arguments.lstrip().startswith("{") and not self.complete()


class CallAssembly:
    """Tool calls of one answer, from the different deltas of vendors.

    By the specification a call has an index, and its id and name are sent once. Some vendors send
    no index, the same one for all, whole calls, empty ids, or the name again with each piece; some
    concatenate the arguments of several calls.

    :param new_id: makes an id for a call without one.
    :param names: of the offered tools: such a name begins a call.
    :param limit: characters of all calls together.
    """

    def __init__(
        self,
        new_id: Callable[[], str],
        names: Collection[str] = (),
        limit: int = CALLS_LIMIT,
    ) -> None:
        self._new_id = new_id
        self._names = names
        self._left = limit
        self._calls: list[_Call] = []

    def feed(self, delta: dict[str, Any]) -> None:
        """Process one entry of ``tool_calls``.

        :raises ProviderError: the calls are longer than the limit.
        """
        function = delta.get("function")
        function = function if isinstance(function, dict) else {}
        index = delta.get("index")
        index = index if isinstance(index, int) else None
        call_id, name = str(delta.get("id") or ""), str(function.get("name") or "")
        arguments = function.get("arguments") or ""
        if not isinstance(arguments, str):
            try:
                arguments = json.dumps(arguments, ensure_ascii=False)
            except RecursionError:
                raise ProviderError(
                    "bad_answer",
                    "the arguments of a tool call are nested too deeply",
                    retryable=True,
                ) from None
        self._left -= len(call_id) + len(name) + len(arguments) + 1
        if self._left < 0:
            raise ProviderError("bad_answer", "the tool calls are too long", retryable=True)
        call = self._find(index, call_id, name)
        if call is None and len(self._calls) >= _CALLS:
            raise ProviderError("bad_answer", "the tool calls are too long", retryable=True)
        if call is None:
            self._calls.append(_Call(index, call_id, name, arguments))
            return
        call.call_id = call.call_id or call_id
        if name and name != call.name:
            call.name += name
        call.arguments += arguments

    def finish(self) -> list[ToolCall]:
        """Return all calls, in the order they began; those without a name are dropped."""
        calls, self._calls = self._calls, []
        return [each for call in calls if call.name for each in self._split(call)]

    @property
    def incomplete(self) -> bool:
        """Whether the arguments of a call are incomplete."""
        return any(call.cut for call in self._calls)

    def _split(self, call: _Call) -> Iterator[ToolCall]:
        arguments = call.arguments.strip() or "{}"
        call_id = call.call_id
        for each in _objects(arguments) or [arguments]:
            yield ToolCall(call_id or self._new_id(), call.name, each)
            call_id = ""

    def _find(self, index: int | None, call_id: str, name: str) -> _Call | None:
        """Return the call that a delta continues; None: it begins one."""
        same = [call for call in self._calls if index is None or call.index == index]
        if call_id:
            known = next((call for call in same if call.call_id == call_id), None)
            if known is not None or not same or same[-1].call_id:
                return known
        if not same:
            return None
        last = same[-1]
        begins = last.complete() or (
            name != last.name and name in self._names and last.name in self._names
        )
        return None if name and begins else last


def _objects(text: str) -> list[str]:
    """Return the JSON objects that a text consists of; empty if it is something else.

    Some vendors begin with an empty object, or send the same one twice; both count as one.
    """
    decoder = json.JSONDecoder()
    found: list[str] = []
    at, end = 0, len(text)
    while at < end and len(found) <= _GLUED:
        if text[at] in " \t\r\n,":
            at += 1
            continue
        if text[at] != "{":
            return []
        try:
            _, stop = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return []
        if text[at:stop] not in found:
            found.append(text[at:stop])
        at = stop
    if len(found) > _GLUED:
        return []
    full = [each for each in found if each.strip("{} \t\r\n")]
    return full or found[:1]
