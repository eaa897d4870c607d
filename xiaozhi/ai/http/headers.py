"""Reading a request's headers, whatever bytes they hold."""

from __future__ import annotations

from twisted.web.server import Request


def header(request: Request, name: str) -> str:
    """The first value of a header, without spaces around it; empty if absent."""
    values = request.requestHeaders.getRawHeaders(name.encode())
    return values[0].decode("latin-1").strip() if values else ""


def header_or_query(request: Request, name: str) -> str:
    """A header, else the query argument of the same name in lower case:
    browsers cannot set every header (§1.4)."""
    given = (request.args or {}).get(name.lower().encode(), [b""])[0]
    return header(request, name) or str(given, "latin-1").strip()
