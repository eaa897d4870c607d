"""What the server says by itself, in every language it has a catalogue for."""

from __future__ import annotations

from typing import Final

CATALOGUES: Final[dict[str, dict[str, str]]] = {
    "en": {
        "apology": "Sorry, something went wrong. Please try again.",
        "apology_title": "Error",
        "checking": "One moment, let me look.",
        "farewell": "Goodbye for now.",
        "deaf": "I did not hear anything. Please say it again.",
        "deaf_title": "Not heard",
        "no_answer": "I have no answer to that.",
        "photo_question": "What is in the picture?",
        "too_many_tools": "I could not finish that.",
    },
    "zh": {
        "apology": "抱歉，出了点问题，请再试一次。",
        "apology_title": "出错了",
        "checking": "稍等，我看看。",
        "farewell": "我先休息了，再见。",
        "deaf": "我什么都没有听到，请再说一次。",
        "deaf_title": "没听见",
        "no_answer": "这个我答不上来。",
        "photo_question": "图片里有什么？",
        "too_many_tools": "这件事我没能完成。",
    },
}

# Keys of what is said again and again, those first that are needed most.
SPOKEN: Final = ("apology", "checking", "farewell", "no_answer", "too_many_tools")


def catalogue_of(language: str) -> str:
    """The language of the catalogue that serves a language.

    :param language: BCP 47.
    """
    own = language.split("-")[0].lower()
    return own if own in CATALOGUES else "en"


def text(key: str, language: str) -> str:
    """:param language: BCP 47; English where there is no catalogue."""
    return CATALOGUES[catalogue_of(language)][key]
