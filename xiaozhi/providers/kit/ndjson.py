"""Newline-delimited JSON, as Ollama and others stream it. Pure: bytes in, values out."""

from __future__ import annotations

from typing import Any

from xiaozhi.providers.kit.json import decode_json

# One line of a chat stream is a few hundred bytes; whole tool calls may take more.
LINE_LIMIT = 1 << 20


class JsonLines:
    """Splits a byte stream, in pieces of any size, into the JSON values of its lines.

    Lines end with LF or CRLF; blank lines and a byte order mark are skipped. Bytes that are not
    UTF-8 are replaced.

    :param limit: the most bytes of one line.
    """

    def __init__(self, limit: int = LINE_LIMIT) -> None:
        self._limit = limit
        self._rest = bytearray()
        self._first = True

    def feed(self, chunk: bytes) -> list[Any]:
        """Read a piece of the stream.

        :return: the values of the lines that it completes.
        :raises ValueError: a line is longer than the limit, or not JSON.
        """
        *whole, rest = chunk.split(b"\n")
        values: list[Any] = []
        for line in whole:
            self._bound(len(line))
            self._take(bytes(self._rest) + line, values)
            self._rest.clear()
        self._bound(len(rest))
        self._rest += rest
        return values

    def finish(self) -> list[Any]:
        """End the stream; a last line without a line end counts.

        :raises ValueError: the last line is incomplete.
        """
        values: list[Any] = []
        rest, self._rest = bytes(self._rest), bytearray()
        self._take(rest, values)
        return values

    def _bound(self, more: int) -> None:
        if len(self._rest) + more > self._limit:
            raise ValueError(f"a line is longer than {self._limit} bytes")

    def _take(self, line: bytes, values: list[Any]) -> None:
        if self._first:
            line = line.removeprefix(b"\xef\xbb\xbf")
        line = line.strip()
        if line:
            self._first = False
            values.append(decode_json(line.decode("utf-8", "replace")))
