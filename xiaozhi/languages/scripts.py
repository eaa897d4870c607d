"""Properties of a text that its characters reveal: language, word boundaries, number of tokens."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from typing import Final

from xiaozhi.languages.graphemes import is_boundary


@dataclass(frozen=True, slots=True)
class Script:
    """A writing system.

    :ivar languages: written in it, BCP 47. The first is the default.
    :ivar blocks: first and last characters of its ranges.
    :ivar spaced: words are separated by spaces.
    :ivar weight: number of Latin letters that carry as much as one of its own.
    """

    languages: tuple[str, ...]
    blocks: tuple[str, ...]
    spaced: bool = True
    weight: int = 1


LATIN: Final = Script(
    # And every language that is not listed below.
    ("en",),
    ("AZ", "az", "\u00aa\u00aa", "\u00ba\u00ba", "\u00c0\u024f", "\u1e00\u1eff", "\uff21\uff5a"),
)
KANA: Final = Script(("ja",), ("\u3040\u30ff", "\u31f0\u31ff", "\uff66\uff9f"), False, 2)
HAN: Final = Script(
    ("zh", "yue", "ja", "cmn", "wuu"),
    ("\u3400\u4dbf", "\u4e00\u9fff", "\uf900\ufaff", "\U00020000\U000323af"),
    False,
    3,
)
# To add a script: a line here. To add texts in its language: a catalogue in texts.py.
SCRIPTS: Final[tuple[Script, ...]] = (
    LATIN,
    KANA,
    HAN,
    Script(("ko",), ("\u1100\u11ff", "\u3130\u318f", "\uac00\ud7a3"), weight=2),
    Script(("ru", "uk", "bg", "be", "sr", "mk", "kk", "ky", "mn"), ("\u0400\u052f",)),
    Script(("el",), ("\u0370\u03ff", "\u1f00\u1fff")),
    Script(("ar", "fa", "ur", "ps"), ("\u0600\u06ff", "\u0750\u077f", "\ufb50\ufdff")),
    Script(("he", "yi"), ("\u0590\u05ff",)),
    Script(("hi", "mr", "ne"), ("\u0900\u097f",)),
    Script(("bn", "as"), ("\u0980\u09ff",)),
    Script(("ta",), ("\u0b80\u0bff",)),
    Script(("te",), ("\u0c00\u0c7f",)),
    Script(("th",), ("\u0e00\u0e7f",), False),
    Script(("lo",), ("\u0e80\u0eff",), False),
    Script(("my",), ("\u1000\u109f",), False),
    Script(("ka",), ("\u10a0\u10ff",)),
    Script(("hy",), ("\u0530\u058f",)),
    Script(("km",), ("\u1780\u17ff",), False),
)

_BLOCKS: Final = sorted(
    (block[0], block[1], script) for script in SCRIPTS for block in script.blocks
)
_FIRSTS: Final = [first for first, _, _ in _BLOCKS]


def script_of(char: str) -> Script | None:
    """Return the script of a character; None for digits, punctuation and unknown scripts."""
    at = bisect_right(_FIRSTS, char) - 1
    return _BLOCKS[at][2] if at >= 0 and char <= _BLOCKS[at][1] else None


def language_of(words: str, default: str) -> str:
    """Detect the language of words, as far as their script determines it.

    :param default: BCP 47; returned if it is written in this script, or if there are no letters.
    """
    found: Counter[Script] = Counter()
    # Utterances are short; of longer texts the beginning suffices.
    for char in words[:400]:
        script = script_of(char)
        if script is not None:
            found[script] += script.weight
    if found[KANA]:
        found[KANA] += found.pop(HAN, 0)
    if not found.total():
        return default
    script = found.most_common(1)[0][0]
    base = default.split("-")[0].lower()
    if script is LATIN:
        others = (each.languages for each in SCRIPTS if each is not LATIN)
        written_so = bool(base) and not any(base in languages for languages in others)
    else:
        written_so = base in script.languages
    return default if written_so else script.languages[0]


def is_word_border(text: str, at: int) -> bool:
    """Return whether cutting the text before the character at this index splits neither a word nor
    a user-perceived character.
    """
    if at <= 0 or at >= len(text):
        return True
    return is_boundary(text, at) and not (_binds(text[at - 1]) and _binds(text[at]))


def _binds(char: str) -> bool:
    """Return whether the character belongs to a word that ends at a space."""
    script = script_of(char)
    if script is not None:
        return script.spaced
    return not char.isspace()


def tokens(text: str) -> int:
    """Estimate the tokens of a text for a language model, rather too many than too few.

    Counts a quarter for each ASCII character and a third for each other byte of UTF-8: an English
    word is slightly more than one token, a Chinese character one, a Cyrillic letter two thirds.
    Tokenisers differ among each other by more than the error of this estimate.
    """
    narrow = len(text.encode("ascii", "ignore"))
    return -(-narrow // 4) - (narrow - len(text.encode("utf-8", "surrogatepass"))) // 3
