"""``multipart/form-data`` bodies (RFC 7578), split without a second copy.

Other parsers read line by line and need a large part of a second for a photo of 5 MB; this
one only searches for the boundary.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from xiaozhi.base.errors import ProtocolError

_MOST_PARTS = 16
_LONGEST_HEADERS = 4096
_MOST_LOOKALIKES = 1000  # keeps the search short
_TYPE = re.compile(r"\s*multipart/form-data\s*;", re.IGNORECASE)
_BOUNDARY = re.compile(
    r';\s*boundary\s*=\s*(?:"([^"\r\n]{1,200})"|([^\s";,]{1,200}))', re.IGNORECASE
)
_DISPOSITION = re.compile(rb"^content-disposition\s*:\s*form-data\s*;(.*)$", re.I | re.M)
_NAME = re.compile(rb'(?:^|[;\s])name\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s";]+))', re.I)


@dataclass(frozen=True, slots=True)
class Part:
    """One field of a form."""

    name: str
    data: bytes


def boundary_of(content_type: str) -> bytes:
    """Return the boundary in a ``Content-Type``.

    :raises ProtocolError: ``bad_form``: not multipart, or no boundary.
    """
    found = _BOUNDARY.search(content_type) if _TYPE.match(content_type) else None
    if found is None:
        raise ProtocolError("bad_form", "the body must be multipart/form-data with a boundary")
    return (found[1] or found[2]).encode("utf-8", "surrogateescape")


def read_form(content_type: str, body: bytes) -> dict[str, bytes]:
    """Return the fields of a form; of two with one name, the first counts.

    :raises ProtocolError: ``bad_form``.
    """
    fields: dict[str, bytes] = {}
    for part in split_form(boundary_of(content_type), body):
        fields.setdefault(part.name, part.data)
    return fields


def split_form(boundary: bytes, body: bytes) -> list[Part]:
    """Return the named parts in order.

    :raises ProtocolError: ``bad_form``: no end, too many parts, long headers.
    """
    parts: list[Part] = []
    delimiter = b"\r\n--" + boundary
    # The first delimiter may have no line break before it.
    at = len(delimiter) - 2 if body.startswith(delimiter[2:]) else _after(delimiter, body, 0)
    for _ in range(_MOST_PARTS + 1):
        if body.startswith(b"--", at):
            return parts
        line_end = body.find(b"\r\n", at, at + 100)
        if line_end < 0 or body[at:line_end].strip(b" \t"):
            raise ProtocolError("bad_form", "a boundary is not followed by a line break")
        head_end = body.find(b"\r\n\r\n", line_end, line_end + _LONGEST_HEADERS)
        if head_end < 0:
            raise ProtocolError("bad_form", "a part has no end of headers or too long ones")
        name = _name_of(body[line_end + 2 : head_end + 2])
        next_part = _after(delimiter, body, head_end + 2)
        if name is not None:
            parts.append(
                Part(name, body[head_end + 4 : max(head_end + 4, next_part - len(delimiter))])
            )
        at = next_part
    raise ProtocolError("bad_form", f"the form has more than {_MOST_PARTS} parts")


def _after(delimiter: bytes, body: bytes, start: int) -> int:
    """Return the index after the next delimiter. A longer word that begins with it is data."""
    for _ in range(_MOST_LOOKALIKES):
        found = body.find(delimiter, start)
        if found < 0:
            raise ProtocolError("bad_form", "the form is incomplete")
        end = found + len(delimiter)
        if body[end : end + 1] in (b"-", b"\r", b" ", b"\t"):
            return end
        start = found + 1
    raise ProtocolError("bad_form", "the boundary occurs too often in the data")


def _name_of(head: bytes) -> str | None:
    disposition = _DISPOSITION.search(head)
    name = _NAME.search(disposition[1]) if disposition else None
    if name is None:
        return None
    quoted = name[1]
    raw = name[2] if quoted is None else re.sub(rb"\\(.)", rb"\1", quoted)
    return raw.decode("utf-8", "replace")
