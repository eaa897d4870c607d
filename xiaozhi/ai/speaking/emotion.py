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
_SOME = "[\u2600-\u27bf\u2b00-\u2bff\ufe0f\u200d\u20e3\U0001f000-\U0001faff\U000e0020-\U000e007f]+"
# "Great 🎉!" is "Great!", without the space.
_EMOJI = re.compile(rf"\s*{_SOME}(?=[.,!?;:…])|{_SOME}")

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
    return _EMOJI.sub("", text), emotion
