"""Redaction of a vendor's text for logs and errors."""

from __future__ import annotations

import re
from collections.abc import Iterable

_MESSAGE_LIMIT = 200
# Characters of a vendor's text that are read.
_WORDS_LIMIT = 4096
# Length from which a secret is replaced anywhere in a text.
_SECRET = 8
_KEY_BEFORE = r"""((?:key|token|bearer)\b['"]?\s*(?:provided|is)?\s*[:=]?\s*['"(]?)"""
_KEY_LIKE = re.compile(r"\b(sk|key)-[\w*.\-]{4,}")


class Redaction:
    """Shortens texts to one line without secrets.

    :param secrets: keys and tokens that a vendor may quote.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = tuple(each for each in (one.strip() for one in secrets) if each)

    def shorten(self, text: str) -> str:
        """Make a text fit for a log: one short line without the secrets."""
        # Single blanks: the patterns are slow on many.
        text = " ".join(text[:_WORDS_LIMIT].split())
        for secret in self._secrets:
            if len(secret) >= _SECRET:
                text = text.replace(secret, "***")
            else:
                # A short key is a placeholder for a vendor that requires one; elsewhere the same
                # letters may be a word.
                pattern = rf"(?i:{_KEY_BEFORE})(?-i:{re.escape(secret)})(?!\w)"
                text = re.sub(pattern, r"\1***", text)
        text = _KEY_LIKE.sub("***", text)
        return text if len(text) <= _MESSAGE_LIMIT else text[: _MESSAGE_LIMIT - 1] + "…"
