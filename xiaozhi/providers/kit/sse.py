"""Server-sent events as chat vendors send them. Pure: bytes in, texts out."""

from __future__ import annotations

# One event of a chat stream is a few hundred bytes; whole tool calls may take more.
EVENT_LIMIT = 1 << 20
# Field names; the empty one is that of comments.
_FIELDS = (b"data", b"event", b"id", b"retry", b"")


class EventStream:
    """Splits a byte stream, in pieces of any size, into the data of its events.

    Lines end with LF, CRLF or CR. Comments (keep-alives) and fields other than ``data`` are
    skipped; several ``data`` lines of one event are joined by LF.

    Two deviations of vendors are accepted: events without a blank line between them, recognised by
    a line that ends with ``}`` before one that begins with ``{`` or ``[``, which no JSON text has;
    and a line that is a JSON object without ``data:``, as proxies report errors.

    :param limit: the most bytes of one event.
    :ivar strange: the beginning of the first line that is not a field.
    """

    def __init__(self, limit: int = EVENT_LIMIT) -> None:
        self._limit = limit
        self._line = bytearray()
        self._data: list[bytes] = []
        self._held = 0
        self._first = True
        self._after_cr = False
        self.strange = ""

    def feed(self, chunk: bytes) -> list[str]:
        """Read a piece of the stream.

        :return: the events that it completes.
        :raises ValueError: an event is longer than the limit.
        """
        if self._after_cr and chunk:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")
        self._after_cr = chunk.endswith(b"\r") or (self._after_cr and not chunk)
        lines = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        events: list[str] = []
        for line in lines[:-1]:
            self._take(self._line + line, events)
            self._line.clear()
        self._line += lines[-1]
        if self._held + len(self._line) > self._limit:
            raise ValueError(f"an event is longer than {self._limit} bytes")
        return events

    def finish(self) -> list[str]:
        """End the stream; an event without its blank line counts."""
        events: list[str] = []
        if self._line:
            self._take(self._line, events)
        self._take(b"", events)
        self._line = bytearray()
        return events

    def _take(self, line: bytes | bytearray, events: list[str]) -> None:
        if self._first:
            self._first = False
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line:
            self._dispatch(events)
            return
        name: bytes | bytearray
        value: bytes | bytearray
        if line.startswith(b"{"):
            name, value = b"data", line
        else:
            name, colon, value = bytes(line).partition(b":")
            if not (self.strange or (colon and name in _FIELDS)):
                self.strange = bytes(line[:200]).decode("utf-8", "replace")
        if name == b"data":
            value = value.removeprefix(b" ")
            begins = value.lstrip()[:1] in (b"{", b"[")
            if begins and self._data and self._data[-1].rstrip().endswith(b"}"):
                self._dispatch(events)
            self._data.append(bytes(value))
            self._held += len(line)

    def _dispatch(self, events: list[str]) -> None:
        if self._data:
            events.append(b"\n".join(self._data).decode("utf-8", "replace"))
        self._data.clear()
        self._held = 0
