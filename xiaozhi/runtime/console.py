"""Standard streams and arguments on machines whose locale is not UTF-8.

Containers, cron and systemd often run programs with ``LC_ALL=C`` or an ASCII standard
output, while people and devices speak any language.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Any


def tolerant(*streams: Any) -> None:
    """Make text streams write as escapes what their encoding lacks, instead of failing.

    :param streams: what has no ``reconfigure``, such as ``StringIO``, is left as it is.
    """
    for stream in streams:
        if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
            reconfigure(errors="backslashreplace")


def is_unicode(stream: Any) -> bool:
    """Whether a text stream can write every character."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        return codecs.lookup(encoding).name.startswith("utf")
    except LookupError:
        return False


def argument(text: str) -> str:
    """Read an argument as the UTF-8 that a terminal sends, whatever the locale says.

    What is not UTF-8 keeps the surrogates by which Python holds its bytes.
    """
    try:
        return text.encode("ascii", "surrogateescape").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text  # it was read as UTF-8, or another encoding knew better


def arguments(given: Sequence[str]) -> list[str]:
    """:func:`argument` of each."""
    return [argument(text) for text in given]
