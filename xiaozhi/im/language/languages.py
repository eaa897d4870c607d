"""The language each device's last talk was in."""

from __future__ import annotations

import re
from collections import OrderedDict

from xiaozhi.im.language.texts import TEXTS
from xiaozhi.languages.catalogue import choose

# Devices remembered; beyond, the least recent one is forgotten.
_MOST = 65_536
# Characters of a language tag; longer ones are no BCP 47 that anybody uses.
_LONGEST = 35
# Characters, and ranges, of an Accept-Language header that are looked at.
_HEADER, _RANGES = 1024, 32
_RANGE = re.compile(
    r"([a-z]{2,3}(?:[-_][a-z0-9]{1,8})*)(?:\s*;\s*q\s*=\s*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?))?",
    re.IGNORECASE,
)


def preferred(header: str) -> str:
    """Pick the language that an ``Accept-Language`` header (RFC 9110, 12.5.4) prefers among
    those that the edge has texts in; empty: none.

    :return: BCP 47.
    """
    best, weight = "", 0.0
    for each in header[:_HEADER].split(",")[:_RANGES]:
        found = _RANGE.fullmatch(each.strip())
        if found is None or len(found[1]) > _LONGEST:
            continue
        language, wanted = found[1].replace("_", "-"), float(found[2] or 1)
        primary = language.partition("-")[0].lower()
        # Anything is served by the fallback; only what is meant counts.
        if wanted > weight and choose(language, TEXTS.languages).partition("-")[0] == primary:
            best, weight = language, wanted
    return best


class Languages:
    """Remembers the languages that the AI service reports, across connections.

    :param default: BCP 47, for unknown devices.
    """

    def __init__(self, default: str) -> None:
        self._default = default
        self._known: OrderedDict[str, str] = OrderedDict()

    def of(self, device_id: str, offered: str = "") -> str:
        """The language of a device's last talk, or the one it prefers, or the default.

        :param offered: as of :func:`preferred`.
        """
        return self._known.get(device_id) or offered or self._default

    def learn(self, device_id: str, language: str) -> None:
        """Note the language of a device's talk."""
        self._known.pop(device_id, None)
        self._known[device_id] = language[:_LONGEST]
        if len(self._known) > _MOST:
            self._known.popitem(last=False)
