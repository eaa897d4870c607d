"""Server-sent events as chat vendors send them. Pure: bytes in, texts out."""

from __future__ import annotations

# One event of a chat stream is a few hundred bytes; whole tool calls may take more.
EVENT_LIMIT = 1 << 20


class EventStream:
    """Cuts a byte stream, in whatever pieces it comes, into the data of its events.

    Lines end with LF, CRLF or CR. Comments (keep-alives) and fields other than
    ``data`` are skipped; several ``data`` lines of one event are joined by LF.

    :param limit: bytes one event may take.
    """

    def __init__(self, limit: int = EVENT_LIMIT) -> None:
        self._limit = limit
        self._line = bytearray()
        self._data: list[bytes] = []
        self._held = 0
        self._first = True
        self._after_cr = False

    def feed(self, chunk: bytes) -> list[str]:
        """:return: the events this chunk completes.

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
        """The stream ended: an event that lacks its blank line counts too."""
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
            if self._data:
                events.append(b"\n".join(self._data).decode("utf-8", "replace"))
            self._data.clear()
            self._held = 0
            return
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(bytes(value.removeprefix(b" ")))
            self._held += len(line)
