"""The language of each device's last conversation."""

from __future__ import annotations

import re
from collections import OrderedDict

from xiaozhi.im.language.texts import TEXTS
from xiaozhi.languages.catalogue import choose

# Devices remembered; beyond that, the least recent one is forgotten.
_MOST = 65_536
# Maximum characters of a language tag; longer ones are not in use.
_LONGEST = 35
# Maximum characters and ranges of an Accept-Language header that are read.
_HEADER, _RANGES = 1024, 32
_RANGE = re.compile(
    r"([a-z]{2,3}(?:[-_][a-z0-9]{1,8})*)(?:\s*;\s*q\s*=\s*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?))?",
    re.IGNORECASE,
)


def preferred(header: str) -> str:
    """Return the language that an ``Accept-Language`` header (RFC 9110, 12.5.4) prefers among
    those with texts of the edge.

    :return: BCP 47; empty: none.
    """
    best, weight = "", 0.0
    for each in header[:_HEADER].split(",")[:_RANGES]:
        found = _RANGE.fullmatch(each.strip())
        if found is None or len(found[1]) > _LONGEST:
            continue
        language, wanted = found[1].replace("_", "-"), float(found[2] or 1)
        primary = language.partition("-")[0].lower()
        # The catalogue falls back for any language; count only a real match.
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
        """Return the language of a device's last conversation, else the one it prefers, else
        the default.

        :param offered: result of :func:`preferred`.
        """
        return self._known.get(device_id) or offered or self._default

    def learn(self, device_id: str, language: str) -> None:
        """Remember the language of a device's conversation."""
        self._known.pop(device_id, None)
        self._known[device_id] = language[:_LONGEST]
        if len(self._known) > _MOST:
            self._known.popitem(last=False)
