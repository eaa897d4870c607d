"""Spoken forms of times and dates."""

from __future__ import annotations

from datetime import date, time

from xiaozhi.providers.offline.intents.phrases import Language

_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_ORDINALS = {1: "st", 2: "nd", 3: "rd", 21: "st", 22: "nd", 23: "rd", 31: "st"}
# The hour at which each part of the day begins.
_CHINESE_DAY = ((19, "晚上"), (13, "下午"), (12, "中午"), (6, "上午"), (0, "凌晨"))


def clock(text: str, language: Language) -> str:
    """Return the spoken form of a time.

    :param text: ``15:42``; seconds are ignored.
    :raises ValueError: not a time.
    """
    moment = time.fromisoformat(text)
    hour = moment.hour % 12 or 12
    if language == "zh":
        part = next(name for begin, name in _CHINESE_DAY if moment.hour >= begin)
        hour = hour if moment.hour else 0
        return f"{part}{hour}点{f'{moment.minute}分' if moment.minute else '整'}"
    half = "AM" if moment.hour < 12 else "PM"
    return f"{hour}:{moment.minute:02} {half}" if moment.minute else f"{hour} {half}"


def day(text: str, language: Language) -> str:
    """Return the spoken form of a date.

    :param text: ``2026-11-22``.
    :raises ValueError: not a date.
    """
    moment = date.fromisoformat(text)
    if language == "zh":
        return f"{moment.month}月{moment.day}日"
    return f"{_MONTHS[moment.month - 1]} {moment.day}{_ORDINALS.get(moment.day, 'th')}"


SPOKEN = {"clock": clock, "day": day}
