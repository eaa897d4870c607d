"""Requests as frozen values for handlers, independent of a connection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, repr=False)
class WebRequest:
    """A complete request or (for guards) its head.

    Texts of the head are Latin-1, so any byte that a client sends has a character.

    :ivar id: identifies the request in this process's logs.
    :ivar method: as sent; a handler for ``GET`` also receives ``HEAD``.
    :ivar path: as sent, percent-encoded, without the query.
    :ivar query: values by name, decoded.
    :ivar headers: values by lower-case name.
    :ivar client: address of the connection's other end, which may be a proxy; empty: unknown.
    :ivar server: address at which the client reached this process; empty: not an IP address.
    :ivar server_port: the port of ``server``; 0: unknown.
    :ivar body: the whole body; empty for guards.
    """

    id: str
    method: str
    path: str
    query: Mapping[str, Sequence[str]]
    headers: Mapping[str, Sequence[str]]
    client: str = ""
    server: str = ""
    server_port: int = 0
    body: bytes = b""

    def __repr__(self) -> str:
        # Headers and query may contain tokens.
        return f"<WebRequest {self.id} {self.method} {self.path[:120]!r}>"

    def header(self, name: str) -> str:
        """Return the first value of a header, without surrounding spaces; empty if absent."""
        values = self.headers.get(name.lower())
        return values[0].strip() if values else ""

    def header_or_query(self, name: str) -> str:
        """Return a header, else the query argument with the same lower-case name.

        Browsers cannot set every header (protocol notes, §1.4).
        """
        given = self.query.get(name.lower()) or ("",)
        return self.header(name) or given[0].strip()

    @property
    def authorization(self) -> str | None:
        """Return the ``Authorization`` header; None if absent. Tokens are UTF-8."""
        values = self.headers.get("authorization")
        return values[0].encode("latin-1").decode("utf-8", "replace") if values else None
