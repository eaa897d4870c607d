"""Standard streams and arguments on machines whose locale is not UTF-8.

Containers, cron and systemd often run programs with ``LC_ALL=C`` or an ASCII standard
output, but texts may be in any language.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Any


def tolerant(*streams: Any) -> None:
    """Make text streams escape characters that their encoding lacks, instead of failing.

    :param streams: one without ``reconfigure``, such as ``StringIO``, is unchanged.
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
    """Decode an argument as UTF-8, as terminals send it, whatever the locale.

    Invalid UTF-8 keeps the surrogates by which Python represents its bytes.
    """
    try:
        return text.encode("ascii", "surrogateescape").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text  # already UTF-8, or another encoding that fits


def arguments(given: Sequence[str]) -> list[str]:
    """Apply :func:`argument` to each."""
    return [argument(text) for text in given]
