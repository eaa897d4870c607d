"""Positions at which a text may be cut without splitting a user-perceived character.

A sufficient part of Unicode's rules for extended grapheme clusters (UAX 29): marks, joined and
coloured emoji, flags, Hangul syllables in pieces, CR LF.
"""

from __future__ import annotations

import unicodedata

_JOINER = "\u200d"


def is_boundary(text: str, at: int) -> bool:
    """Return whether the text may be cut before the character at this index."""
    if at <= 0 or at >= len(text):
        return True
    before, after = text[at - 1], text[at]
    if after.isascii():
        return not (before == "\r" and after == "\n")
    if extends(after) or before == _JOINER:
        return False
    if _is_flag_half(after):
        return _flag_halves_before(text, at) % 2 == 0
    return not (_is_jamo(before) and _is_vowel_or_final(after))


def extends(char: str) -> bool:
    """Return whether the character belongs to the one before it."""
    if char < "\u0300":
        return False
    return (
        char == _JOINER
        or unicodedata.category(char) in ("Mn", "Mc", "Me")
        or "\U0001f3fb" <= char <= "\U0001f3ff"
        or "\U000e0020" <= char <= "\U000e007f"
    )


def _is_flag_half(char: str) -> bool:
    return "\U0001f1e6" <= char <= "\U0001f1ff"


def _flag_halves_before(text: str, at: int) -> int:
    count = 0
    while at > count and _is_flag_half(text[at - 1 - count]):
        count += 1
    return count


def _is_jamo(char: str) -> bool:
    return "\u1100" <= char <= "\u11ff" or "\ua960" <= char <= "\ua97c" or char >= "\uac00"


def _is_vowel_or_final(char: str) -> bool:
    return "\u1160" <= char <= "\u11ff" or "\ud7b0" <= char <= "\ud7fb"
