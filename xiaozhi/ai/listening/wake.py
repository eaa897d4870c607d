"""Wake words, which arrive like typed text (§4.1, §9.26)."""

from __future__ import annotations

from collections.abc import Iterable


def _bare(text: str) -> str:
    return "".join(char for char in text.casefold() if char.isalnum())


def is_wake_word(text: str, words: Iterable[str]) -> bool:
    """Return whether a ``detect`` text is a wake word, ignoring case, space, punctuation."""
    bare = _bare(text)
    return bool(bare) and any(bare == _bare(word) for word in words)
