"""The notation of phrases in the books, parsed once and used twice: to match and to recognise.

``set [the] volume to <number>``: brackets enclose an optional part, ``(a|b)`` is a choice,
``<number>`` a whole number, with or without "percent". ``<words>`` are a few words of any kind;
they can be matched, but not recognised.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

from xiaozhi.base.errors import ConfigError
from xiaozhi.providers.offline.intents import numerals

Language = Literal["en", "zh"]

_TOKEN = re.compile(r"\s*([\[\]()|]|<\w+>|[^\s\[\]()|<>]+)")
_CHINESE = re.compile(r"[\u3400-\u9fff]")
_CONTRACTIONS = (
    (re.compile(r"\b(what|how|who|where|it|that)'s\b"), r"\1 is"),
    (re.compile(r"\b(you|we|they)'re\b"), r"\1 are"),
    (re.compile(r"\bcan't\b"), "cannot"),
    (re.compile(r"\bi'm\b"), "i am"),
)
_NUMBERS = {"en": numerals.english_number, "zh": numerals.chinese_number}


@dataclass(frozen=True, slots=True)
class Word:
    text: str


@dataclass(frozen=True, slots=True)
class Number:
    """The slot ``number``."""


@dataclass(frozen=True, slots=True)
class Words:
    """The slot ``words``."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several sequences; an optional part includes the empty sequence."""

    alternatives: tuple[tuple[Part, ...], ...]


Part = Word | Number | Words | Choice


def parse(phrase: str) -> tuple[Part, ...]:
    """Parse one phrase.

    :raises ConfigError: names the phrase and its error.
    """
    tokens: list[str] = []
    position = 0
    text = phrase.strip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ConfigError(f"phrase {phrase!r}: unexpected {text[position:]!r}")
        tokens.append(match[1])
        position = match.end()
    tokens.reverse()
    alternatives = _alternatives(tokens, phrase)
    if tokens:
        raise ConfigError(f"phrase {phrase!r}: {tokens[-1]!r} closes nothing")
    return alternatives[0] if len(alternatives) == 1 else (Choice(alternatives),)


def _alternatives(tokens: list[str], phrase: str) -> tuple[tuple[Part, ...], ...]:
    """Parse up to a closing bracket or the end. ``tokens`` is a stack, the next token on top."""
    found: list[tuple[Part, ...]] = []
    parts: list[Part] = []
    while tokens and tokens[-1] not in "])":
        token = tokens.pop()
        if token == "|":
            found.append(tuple(parts))
            parts = []
        elif token in "[(":
            inner = _alternatives(tokens, phrase)
            closing = "]" if token == "[" else ")"
            if not tokens or tokens.pop() != closing:
                raise ConfigError(f"phrase {phrase!r}: {token!r} is not closed")
            parts.append(Choice(inner if token == "(" else (*inner, ())))
        elif token == "<number>":
            parts.append(Number())
        elif token == "<words>":
            parts.append(Words())
        elif token.startswith("<"):
            raise ConfigError(f"phrase {phrase!r}: there is no slot {token}")
        else:
            parts.append(Word(token))
    return (*found, tuple(parts))


def pattern(parts: tuple[Part, ...], language: Language) -> str:
    """A regular expression over :func:`normalise`\\ d text; group ``number`` is the slot."""
    return "".join(_pattern(part, language) for part in parts)


def _pattern(part: Part, language: Language) -> str:
    if isinstance(part, Word):
        return re.escape(part.text) + (" " if language == "en" else "")
    if isinstance(part, Number):
        if language == "en":
            return rf"(?P<number>{numerals.ENGLISH_PATTERN})(?:percent )?"
        return rf"(?:百分之)?(?P<number>{numerals.CHINESE_PATTERN})(?:%|个百分点)?"
    if isinstance(part, Words):
        return r"(?:\S+ ){1,4}" if language == "en" else ".{1,12}"
    return f"(?:{'|'.join(pattern(inner, language) for inner in part.alternatives)})"


def jsgf_body(parts: tuple[Part, ...]) -> str:
    """Return the right side of a JSGF rule.

    :raises ConfigError: it contains ``<words>``, which a grammar cannot have.
    """
    return " ".join(_jsgf(part) for part in parts)


def _jsgf(part: Part) -> str:
    if isinstance(part, Word):
        return part.text
    if isinstance(part, Number):
        return "<number> [percent]"
    if isinstance(part, Words):
        raise ConfigError(
            "a phrase with <words> cannot be recognised from speech: move it to the typed phrases"
        )
    filled = [jsgf_body(inner) for inner in part.alternatives if inner]
    brackets = "()" if len(filled) == len(part.alternatives) else "[]"
    return f"{brackets[0]} {' | '.join(filled)} {brackets[1]}"


def language_of(text: str) -> Language:
    """Return Chinese if the text has at least one Chinese character."""
    return "zh" if _CHINESE.search(text) else "en"


def normalise(text: str, language: Language) -> str:
    """Reduce a text to plain words, without width, case, punctuation and emoji.

    English: every word ends with one space, and "what's" becomes "what is". Chinese: no spaces at
    all.
    """
    text = unicodedata.normalize("NFKC", text).lower().replace("\u2019", "'")
    if language == "zh":
        return "".join(c for c in text if c.isalnum() or c == "%")
    text = text.replace("%", " percent ")
    for contraction, full in _CONTRACTIONS:
        text = contraction.sub(full, text)
    text = re.sub(r"(?<!\w)'|'(?!\w)", " ", text)
    words = "".join(c if c.isalnum() or c == "'" else " " for c in text).split()
    return "".join(f"{word} " for word in words)


def read_number(text: str, language: Language) -> int | None:
    """Return the value of the slot ``number``."""
    return _NUMBERS[language](text.strip())
