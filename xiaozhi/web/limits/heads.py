"""Bytes that no request head may hold.

A control character in a header is never a mistake of a client that works: it forges lines
of logs, splits requests for a proxy, or ends a string in C. RFC 9110 (5.5) has NUL, CR and
LF refused; what else is below the space, and DEL, has no meaning either.
"""

from __future__ import annotations

import re

# Tab is white space in a header. A CR or LF that is not half of a line's end is bare.
_IN_HEAD = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)|(?<!\r)\n")
_IN_LINE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

CODE = "bad_head"
MESSAGE = "the request head holds control characters"


def is_clean_head(head: bytes) -> bool:
    """:param head: a whole one, lines and their ends; without the empty line."""
    return _IN_HEAD.search(head) is None


def is_clean_line(line: bytes) -> bool:
    """:param line: one of a head, without its end."""
    return _IN_LINE.search(line) is None
