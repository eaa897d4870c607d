"""The body of a chat answer, regardless of its media type. Pure: bytes in, decoded events out.

Vendors label an event stream ``application/json`` or ``text/plain`` and a whole JSON answer
``text/event-stream``, so the beginning of the body decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any

from xiaozhi.providers.kit.errors import error_text
from xiaozhi.providers.kit.json import TooDeep, decode_json
from xiaozhi.providers.kit.sse import EVENT_LIMIT, EventStream

_BOM = b"\xef\xbb\xbf"
_BLANK = b" \t\r\n\0"


class Done(Enum):
    """The end mark of a stream: ``[DONE]``."""

    DONE = "[DONE]"


DONE = Done.DONE


class BadBody(ValueError):
    """Not a chat answer."""


class CutBody(BadBody):
    """The body ends within a value."""


class ChatBody:
    """Events of a chat answer: server-sent events, lines of JSON, or one JSON value.

    :param limit: the most bytes of one event, or of an answer without events.
    """

    def __init__(self, limit: int = EVENT_LIMIT) -> None:
        self._limit = limit
        self._begin = b""
        self._events: EventStream | None = None
        # JSON or a page of text, until it is complete.
        self._held: bytearray | None = None
        self._by_line: bool | None = None
        self._empty = True

    def feed(self, chunk: bytes) -> Iterator[Any]:
        """Read a piece.

        :return: the decoded values and :data:`DONE` that it completes.
        :raises BadBody: something is not JSON, or too long.
        """
        if self._events is None and self._held is None:
            chunk = (self._begin + chunk).removeprefix(_BOM).lstrip(_BLANK)
            self._begin = chunk
            if not chunk or _BOM.startswith(chunk):
                return
            self._choose(chunk[:1])
        if self._events is None:
            yield from self._feed_json(chunk)
            return
        try:
            events = self._events.feed(chunk)
        except ValueError as error:
            raise BadBody(str(error)) from error
        yield from self._decoded(events)

    def finish(self) -> Iterator[Any]:
        """End the body.

        :return: the values that its end completes.
        :raises CutBody: it ends within a JSON value.
        :raises BadBody: not a chat answer.
        """
        if self._events is not None:
            try:
                yield from self._decoded(self._events.finish())
            except BadBody as error:
                raise CutBody(str(error)) from error
            if self._empty and self._events.strange:
                raise BadBody(f"no events: {self._events.strange}")
        elif self._held and self._held.strip():
            if self._held[:1] == b"<":
                raise BadBody(f"a page of HTML: {error_text(bytes(self._held))}")
            try:
                value = decode_json(self._held)
            except TooDeep as error:
                raise BadBody(f"JSON that is {error}") from error
            except ValueError as error:
                raise CutBody(f"not JSON: {error}") from error
            yield value

    def _choose(self, first: bytes) -> None:
        if first in (b"{", b"["):
            self._held = bytearray()
        elif first == b"<":
            self._held, self._by_line = bytearray(), False
        else:
            self._events = EventStream(self._limit)

    def _feed_json(self, chunk: bytes) -> Iterator[Any]:
        assert self._held is not None
        self._held += chunk
        while self._by_line is not False and b"\n" in chunk:
            line, separator, rest = self._held.partition(b"\n")
            if not separator:
                break
            line = line.strip().removeprefix(b"data:").strip()
            try:
                values = [*self._decoded([line.decode("utf-8", "replace")] if line else [])]
            except BadBody:
                if self._by_line:
                    raise
                # One value on several lines.
                self._by_line = False
                break
            self._by_line = True
            self._held = rest
            yield from values
        if len(self._held) > self._limit:
            raise BadBody(f"the answer is longer than {self._limit} bytes")

    def _decoded(self, events: list[str]) -> Iterator[Any]:
        for event in events:
            self._empty = False
            text = event.strip()
            if text.strip('"').upper() in ("[DONE]", "DONE"):
                yield DONE
                continue
            try:
                value = decode_json(text)
            except ValueError as error:
                # JSON may contain the conversation; other text is the vendor's error text.
                words = error if text[:1] in ("{", "[", '"') else text
                raise BadBody(f"not JSON: {words}") from error
            yield value
