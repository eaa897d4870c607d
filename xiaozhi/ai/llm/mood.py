"""The mood of a person's voice, in words for the model."""

from __future__ import annotations

from typing import Final

from xiaozhi.languages.texts import text

#: Emotions that the model receives, in the order of the catalogues' ``moods``. It receives
#: neither ``neutral`` nor a recogniser's other emotions.
MOODS: Final = (
    *("happy", "sad", "angry", "shocked", "surprised", "confused", "laughing", "crying"),
)


def mood_of(emotion: str) -> str:
    """Return the emotion of a transcript if it is one of :data:`MOODS`, else an empty string."""
    return emotion if emotion in MOODS else ""


def mood_line(mood: str, language: str) -> str:
    """Return a sentence about the mood for the system prompt; empty without a mood.

    :param mood: from :func:`mood_of`.
    :param language: BCP 47, of the conversation.
    """
    if not mood:
        return ""
    word = text("moods", language).split("|")[MOODS.index(mood)]
    return text("mood", language).format(mood=word)
