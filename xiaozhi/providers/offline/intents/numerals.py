"""Whole numbers as people say and write them, 0 to 999, in English and Chinese."""

from __future__ import annotations

_UNITS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEENS = (
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")

_VALUES = (
    {"zero": 0}
    | {word: value for value, word in enumerate(_UNITS, 1)}
    | {word: value for value, word in enumerate(_TEENS, 10)}
    | {word: 10 * value for value, word in enumerate(_TENS, 2)}
)

# For normalised text, in which every word ends with a space.
ENGLISH_PATTERN = (
    r"(?:\d{1,3} |half |(?:a |one )hundred |hundred |zero "
    rf"|(?:{'|'.join(_TENS)}) (?:(?:{'|'.join(_UNITS)}) )?"
    rf"|(?:{'|'.join(_TEENS)}) |(?:{'|'.join(_UNITS)}) )"
)
CHINESE_PATTERN = r"(?:\d{1,3}|一半|[零〇一二两三四五六七八九十百]{1,6})"

# The same numbers, 0 to 100, as JSGF rule bodies.
JSGF_RULES = {
    "unit": " | ".join(_UNITS),
    "number": (
        f"zero | half | [a | one] hundred | {' | '.join(_TEENS)} | <unit>"
        f" | ( {' | '.join(_TENS)} ) [<unit>]"
    ),
}

_CHINESE_DIGITS = {"零": 0, "〇": 0, "两": 2} | {
    d: v for v, d in enumerate("一二三四五六七八九", 1)
}


# Digits; no sensible number has more, and Python refuses to parse thousands.
_MOST_DIGITS = 9


def english_number(text: str) -> int | None:
    """Return the number; None if it is not one. ``half`` is 50 (of a hundred)."""
    words = text.split()
    if len(words) == 1:
        if words[0].isdecimal():
            return _read_digits(words[0])
        if words[0] in ("hundred", "half"):
            return 100 if words[0] == "hundred" else 50
        return _VALUES.get(words[0])
    if len(words) != 2:
        return None
    first, second = words
    if second == "hundred":
        return 100 if first in ("a", "one") else None
    if first in _TENS and second in _UNITS:
        return _VALUES[first] + _VALUES[second]
    return None


def chinese_number(text: str) -> int | None:
    """Return the number; None if it is not one. ``一半`` is 50 (of a hundred)."""
    if text.isdecimal():
        return _read_digits(text)
    if text == "一半":
        return 50
    total, rest, unit = 0, text, 1
    for mark, size in (("百", 100), ("十", 10)):
        head, found, tail = rest.partition(mark)
        if not found:
            continue
        digit = _chinese_digit(head.lstrip("零〇") if size < 100 else head)
        if digit is None and not (size == 10 and not head.strip("零〇")):
            return None
        total += (1 if digit is None else digit) * size
        rest, unit = tail, size
    if not rest:
        return total if unit > 1 else None
    if unit == 1 and len(rest) > 1:
        return _digit_by_digit(rest)
    last = _chinese_digit(rest.lstrip("零〇") or rest)
    if last is None:
        return None
    # 一百五 means 150, 一百零五 means 105.
    return total + last * (10 if unit == 100 and rest[0] not in "零〇" else 1)


def _read_digits(text: str) -> int | None:
    return int(text) if len(text) <= _MOST_DIGITS else None


def _chinese_digit(text: str) -> int | None:
    return _CHINESE_DIGITS.get(text)


def _digit_by_digit(text: str) -> int | None:
    digits = [_CHINESE_DIGITS.get(character) for character in text]
    if len(digits) > 3 or any(digit is None for digit in digits):
        return None
    return int("".join(str(digit) for digit in digits))
