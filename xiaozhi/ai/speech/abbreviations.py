"""Abbreviations: decide whether a full stop ends a sentence."""

from __future__ import annotations

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Abbreviations that never end a sentence.
LEADING = _words(
    "mr mrs ms dr prof st nr vs gen col lt sgt capt rev hon mt ft sr jr messrs e.g i.e cf al "
    "approx u.s u.k u.n e.u bzw ca z.b d.h u.a s.o s.u o.ä hr fr str dipl ing med phil jur rer "
    "nat geb inkl exkl zzgl evtl ggf sog vgl bspw mio mrd tel abs art aufl tp ths th.s gs pgs "
    "ts bs q p kcn tx"
)
# Abbreviations that do not end one before a number.
_NUMBERED = _words("no nos vol ch sec fig est")
# Abbreviations that end one if the following text begins like a sentence.
_TRAILING = _words(
    "etc usw u.s.w a.m p.m inc ltd co corp dept d.c b.c a.d v.chr n.chr ph.d m.d b.sc m.sc jan "
    "feb mar apr jun jul aug sep sept oct nov dec okt dez mon tue wed thu fri sat sun v.v min "
    "max std ff jh in"
)
# The following text decides.
UNDECIDED = _TRAILING | _NUMBERED
_INITIALS = re.compile(r"(?:\w\.)*\w")
_ORDINAL = re.compile(r"\d{1,2}|[ivx]{1,4}", re.I)


def ends(word: str, first: str) -> bool:
    """Return whether a single full stop before a space ends a sentence.

    :param word: the word before it.
    :param first: the first character after it that is not a space.
    """
    folded = word.casefold()
    if folded in LEADING:
        return False
    if folded in _NUMBERED:
        return not first.isdigit()
    if folded in _TRAILING:
        return not first.islower() and not first.isdigit()
    # "J. Smith", "3. Oktober", "IV. Kapitel"; "I" alone may well end a sentence.
    if word == "I":
        return True
    initials = (len(word) == 1 or "." in word) and _INITIALS.fullmatch(word)
    return not initials and not _ORDINAL.fullmatch(word)
