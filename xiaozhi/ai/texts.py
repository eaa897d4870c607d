"""What the server says and writes by itself, in every language it has a catalogue for."""

from __future__ import annotations

from typing import Final

CATALOGUES: Final[dict[str, dict[str, str]]] = {
    "en": {
        "apology": "Sorry, something went wrong. Please try again.",
        "apology_title": "Error",
        "checking": "One moment, let me look.",
        "date": "{day} {month} {year}",
        "farewell": "Goodbye for now.",
        "deaf": "I did not hear anything. Please say it again.",
        "deaf_title": "Not heard",
        "interrupted": "[interrupted]",
        "language": "English",
        "months": "January February March April May June July August September October"
        " November December",
        "no_answer": "I have no answer to that.",
        "photo_question": "What is in the picture?",
        "summary": "What was said earlier, in short: {summary}",
        "summary_task": "You keep notes of a talk between a person and their voice assistant."
        " Write anew, in at most {words} words, what the assistant should remember of the"
        " notes and the talk below: who the person is, what they like and want, what was done"
        " and promised. Write the notes alone, in the language of the talk.",
        "too_many_tools": "I could not finish that.",
        "unheard": "[interrupted before anything was heard]",
        "weekdays": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    },
    "zh": {
        "apology": "抱歉，出了点问题，请再试一次。",
        "apology_title": "出错了",
        "checking": "稍等，我看看。",
        "date": "{year}年{month}{day}日",
        "farewell": "我先休息了，再见。",
        "deaf": "我什么都没有听到，请再说一次。",
        "deaf_title": "没听见",
        "interrupted": "[被打断]",
        "language": "中文",
        "months": "1月 2月 3月 4月 5月 6月 7月 8月 9月 10月 11月 12月",
        "no_answer": "这个我答不上来。",
        "photo_question": "图片里有什么？",
        "summary": "之前谈话的摘要：{summary}",
        "summary_task": "你负责记录一个人和语音助手的谈话。请根据下面已有的记录和谈话，"
        "用不超过{words}个字重新写下助手应该记住的内容：这个人是谁，喜欢什么、想要什么，"
        "做了什么、答应了什么。只写记录本身，用谈话的语言。",
        "too_many_tools": "这件事我没能完成。",
        "unheard": "[还没说出口就被打断]",
        "weekdays": "星期一 星期二 星期三 星期四 星期五 星期六 星期日",
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
