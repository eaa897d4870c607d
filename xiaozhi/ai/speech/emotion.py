"""Emoji in an answer: the face a device shows, and never read aloud."""

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
# Nothing that is read: arrows, technical signs, boxes, shapes, dingbats, pictographs, flags,
# selectors of their looks, joiners, marks of direction and the signs of private fonts.
_SILENT = (
    "\u00a9\u00ad\u00ae\u00b6\u2020\u2021\u2022\u2023\u2042\u2043\u203b\u2122\u2139"
    "\u200b\u200d\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\u20dd-\u20e4"
    "\u2190-\u21ff\u2300-\u243f\u2500-\u2775\u2794-\u27bf\u27f0-\u297f\u2b00-\u2bff"
    "\u3004\u3012\u3013\u3020\u3030\u303d\u3297\u3299\ue000-\uf8ff\ufe00-\ufe0f\ufff9-\uffff"
    "\U0001d100-\U0001d1ff\U0001f000-\U0001fbff\U000e0000-\U000e01ef\U000f0000-\U0010ffff"
)
# But 二○二四 is a year.
_SOME = f"(?:(?![○](?<=[一二三四五六七八九十○〇].)|[○](?=[一二三四五六七八九]))[{_SILENT}])+"
# "Great 🎉!" is "Great!", without the space.
_EMOJI = re.compile(rf"\s*{_SOME}(?=[.,!?;:…，。！？；：、）])|{_SOME}")

assert set(_EMOTION_OF.values()) == EMOTIONS


def emoji_of(emotion: str) -> str:
    """The emoji clients show for an emotion, empty for an unknown one."""
    return _FACES.get(emotion, "")[:1]


def take_emotion(text: str) -> tuple[str, str]:
    """:return: the text without emoji, and the emotion of the first that has one."""
    emotion = ""
    for char in text:
        if char in _EMOTION_OF:
            emotion = _EMOTION_OF[char]
            break
    return _EMOJI.sub(_gap, text), emotion


def _gap(found: re.Match[str]) -> str:
    """Nothing, or a space where two words would be glued."""
    text = found.string
    before, behind = text[: found.start()][-1:], text[found.end() : found.end() + 1]
    wide = before >= "\u2e80" and behind >= "\u2e80"
    # "1\ufe0f\u20e3" is one sign; "e\u00ad" hyphenates.
    joins = found[0] in ("\u00ad", "\u200b", "\u200d", "\u2060", "\ufeff")
    return " " if before.isalnum() and behind.isalnum() and not (wide or joins) else ""
