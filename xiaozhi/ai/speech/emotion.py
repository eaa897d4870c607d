"""Emoji in an answer: shown as the device's face, never read aloud."""

from __future__ import annotations

import re

from xiaozhi.wire.messages import EMOTIONS

_FACES = {
    "happy": "🙂😊😀😃☺",
    "laughing": "😆😄😁",
    "funny": "😂🤣",
    "sad": "😔🙁☹😞",
    "angry": "😠😡",
    "crying": "😭😢",
    "loving": "😍🥰❤",
    "embarrassed": "😳",
    "surprised": "😯😮😲",
    "shocked": "😱",
    "thinking": "🤔",
    "winking": "😉",
    "cool": "😎",
    "relaxed": "😌",
    "delicious": "🤤😋",
    "kissy": "😘",
    "confident": "😏",
    "sleepy": "😴",
    "silly": "😜😛",
    "confused": "🙄😕",
    "neutral": "😶😐",
}
_EMOTION_OF = {face: name for name, faces in _FACES.items() for face in faces}
# Characters that are not read aloud: arrows, technical signs, boxes, shapes, dingbats,
# pictographs, flags, variation selectors, joiners, direction marks and private-use characters.
_SILENT = (
    "\u00a9\u00ad\u00ae\u00b6\u2020\u2021\u2022\u2023\u2042\u2043\u203b\u2122\u2139"
    "\u200b\u200d\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\u20dd-\u20e4"
    "\u2190-\u21ff\u2300-\u243f\u2500-\u2775\u2794-\u27bf\u27f0-\u297f\u2b00-\u2bff"
    "\u3004\u3012\u3013\u3020\u3030\u303d\u3297\u3299\ue000-\uf8ff\ufe00-\ufe0f\ufff9-\uffff"
    "\U0001d100-\U0001d1ff\U0001f000-\U0001fbff\U000e0000-\U000e01ef\U000f0000-\U0010ffff"
)
# ○ in 二○二四, a year, is a digit.
_SOME = f"(?:(?![○](?<=[一二三四五六七八九十○〇].)|[○](?=[一二三四五六七八九]))[{_SILENT}])+"
# "Great 🎉!" is "Great!", without the space.
_EMOJI = re.compile(rf"\s*{_SOME}(?=[.,!?;:…，。！？；：、）])|{_SOME}")

assert set(_EMOTION_OF.values()) == EMOTIONS


def emoji_of(emotion: str) -> str:
    """Return the emoji that clients show for an emotion; empty for an unknown one."""
    return _FACES.get(emotion, "")[:1]


def take_emotion(text: str) -> tuple[str, str]:
    """Remove emoji from a text.

    :return: the text, and the emotion of the first emoji that has one, else an empty string.
    """
    emotion = ""
    for char in text:
        if char in _EMOTION_OF:
            emotion = _EMOTION_OF[char]
            break
    return _EMOJI.sub(_gap, text), emotion


def _gap(found: re.Match[str]) -> str:
    """Return a space if removal would join two words, else nothing."""
    text = found.string
    before, behind = text[: found.start()][-1:], text[found.end() : found.end() + 1]
    wide = before >= "\u2e80" and behind >= "\u2e80"
    # "1\ufe0f\u20e3" is one character; "e\u00ad" contains a soft hyphen.
    joins = found[0] in ("\u00ad", "\u200b", "\u200d", "\u2060", "\ufeff")
    return " " if before.isalnum() and behind.isalnum() and not (wide or joins) else ""
