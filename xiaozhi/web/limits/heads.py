"""Bytes that a request head must not contain.

Working clients never send control characters in a header. They can forge log lines, split
requests at a proxy, or end a C string. RFC 9110 (5.5) forbids NUL, CR and LF; the other
control characters have no meaning either.
"""

from __future__ import annotations

import re

# A tab is white space in a header. A CR or LF that is not part of CRLF is invalid.
_IN_HEAD = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)|(?<!\r)\n")
_IN_LINE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

CODE = "bad_head"
MESSAGE = "the request head contains control characters"


def is_clean_head(head: bytes) -> bool:
    """Return whether a head has no forbidden bytes.

    :param head: the whole head with line ends, without the empty line.
    """
    return _IN_HEAD.search(head) is None


def is_clean_line(line: bytes) -> bool:
    """Return whether a line of a head has no forbidden bytes.

    :param line: without its line end.
    """
    return _IN_LINE.search(line) is None
