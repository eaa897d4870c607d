"""Words for a person in a tool's result of any form: JSON is never read aloud."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

# Names of members that hold the words, the most certain first; a message often repeats the
# question.
_WORDY = (
    ("response", "answer", "analysis", "description", "caption", "回答", "描述"),
    ("text", "content", "summary", "explanation", "objects", "labels"),
    ("result", "output", "reply", "speech", "spoken", "data", "value", "结果"),
    ("message", "msg", "info", "detail", "details", "note", "title", "消息"),
)
_RANK = {name: rank for rank, names in enumerate(_WORDY) for name in names}
_OTHER = len(_WORDY)
_ERRORS = ("error", "message", "msg", "reason", "detail", "error_message", "error_description",
           "errmsg", "error_msg", "fallback", "description", "text", "错误")  # fmt: skip
_FAILED = ("error", "fail", "failed", "failure", "timeout", "denied", "unavailable")
_NOT_WORDS = frozenset(
    (
        "ok",
        "okay",
        "success",
        "succeeded",
        "successful",
        "done",
        "true",
        "false",
        "null",
        "none",
        "error",
        "failed",
        "completed",
        "成功",
        "失败",
        "完成",
        "正常",
    )
)
# Not words: an address, a path, an identifier, a time, data, markup.
_TECHNICAL = re.compile(
    r"\w+:/\S+|[\w./\\-]*[/\\][\w./\\-]+|[\d\s.,:+TZ%-]+|\[\w+\]|[<{\[].*[>}\]]|\w*[_=]\w*"
    r"|[A-Za-z0-9+/_-]{40,}=*",
    re.S,
)
_LETTER = re.compile(r"[^\W\d_]")
_SENTENCE = re.compile(r"[^\W\d_]\s+[^\W\d_]|[\u2e80-\uffff]{2}")
# The members of truncated JSON.
_MEMBER = re.compile(r'"(\w{1,40})"\s*:\s*"((?:[^"\\]|\\.)*)("?)')
_JSON = re.compile(r"[{\[]\s*(?:[{\[]\s*)*[\"'][^\"']{0,60}[\"']\s*[:,\]]")
_MEDIA = re.compile(r"!?\[(?:[^\[\]]*\]\(\[)?(?:image|audio|video|data|application)\]\)?")
_JSON_BEGINS = re.compile(r"[{\[]\s*(?:[\[{\"\]}\d-]|null|true|false|NaN)")
_NOTATION = re.compile(r"[{\[]\s*[\"{]|\"\s*(?:[}\]]|:\s*[\"{\[\d])")
_DEPTH, _NODES = 12, 2_000
_LONGEST = 2_000


def read_result(text: str) -> Any:
    """Return a result's JSON, also if it is nested in a text of JSON; otherwise the text itself."""
    return _unwrapped(text, 3)


def _unwrapped(text: str, depth: int) -> Any:
    bare = text.strip()
    if bare.startswith("```"):
        bare = re.sub(r"^```\w*\s*|\s*```$", "", bare)
    try:
        value = json.loads(bare)
    except (ValueError, RecursionError):
        return bare if bare[:1] not in ("{", "[") else _remains(bare)
    if isinstance(value, str) and depth:
        return _unwrapped(value, depth - 1)
    return value


def _remains(text: str) -> Any:
    """Return the text members, on one level, of JSON that is truncated or invalid."""
    if not _JSON_BEGINS.match(text):
        # "[laughs] well" is not JSON.
        return text
    return {name: _plain(value) for name, value, _ in _MEMBER.findall(text)[:100]}


def _plain(value: str) -> str:
    try:
        return str(json.loads(f'"{value}"'))
    except ValueError:
        return value


def words_in(value: Any, echo: str = "") -> str:
    """Extract the words for a person from a result; may be empty.

    :param echo: the person's question; a result that repeats it has no information.
    """
    if isinstance(value, str):
        begin = _JSON.search(value)
        if begin is None:
            return _speakable(value, echo)
        inner = read_result(value[begin.start() :])
        within = "" if isinstance(inner, str) else words_in(inner, echo)
        return within or _speakable(value[: begin.start()], echo)
    found: list[tuple[int, int, str]] = []
    for name, depth, text in _texts(value):
        words = _speakable(text, echo)
        rank = _RANK.get(name, _OTHER)
        if words and (rank < _OTHER or _SENTENCE.search(words)):
            found.append((rank, depth, words))
    if not found:
        return ""
    best = min(found, key=lambda each: each[:2])[:2]
    several = list(dict.fromkeys(words for *place, words in found if tuple(place) == best))
    if best[0] == _OTHER:
        return max(several, key=len)
    joint = ", " if all(not _SENTENCE.search(words) for words in several) else " "
    return joint.join(several)[:_LONGEST]


def failed(value: Any) -> bool:
    """Return whether a result reports a failure in any form."""
    if isinstance(value, str):
        return value.lower().startswith(("error", "failed", "失败", "错误"))
    if value is False:
        return True
    outer = next(_objects(value), {})
    return _says_failed(outer) or any(map(_denies, _objects(value)))


def _denies(value: Mapping[str, Any]) -> bool:
    if value.get("isError") in (True, "true"):
        return True
    return any(value.get(key) in (False, "false", "False") for key in ("success", "ok"))


def _says_failed(value: Mapping[str, Any]) -> bool:
    """Check the top level only: a failure within a status is not that of the call."""
    if _denies(value):
        return True
    code = value.get("code", value.get("errcode", value.get("status")))
    if isinstance(code, int) and not isinstance(code, bool) and (code < 0 or code >= 400):
        return True
    for name in ("status", "state", "result"):
        if isinstance(value.get(name), str) and value[name].strip().lower() in _FAILED:
            return True
    error = value.get("error")
    return bool(error) and error not in ("none", "None", "ok", "0")


def reason_in(value: Any) -> str:
    """Return the reason of a failure, if it is fit for a person; otherwise empty."""
    if isinstance(value, str):
        bare = re.sub(r"^(?:error|failed|错误|失败)\s*[:：]\s*", "", value, flags=re.I).strip()
        inner = read_result(bare)
        return _speakable(bare) if isinstance(inner, str) else reason_in(inner)
    objects = list(_objects(value))
    failing = [each for each in objects if _says_failed(each)] or objects
    for each in sorted(failing, key=lambda one: one.get("success") is not False):
        for name in _ERRORS:
            text = each.get(name)
            if isinstance(text, Mapping | list):
                text = words_in(text) or reason_in(text)
            if isinstance(text, str) and (words := _speakable(text)):
                return words
        if words := words_in({key: value for key, value in each.items() if key not in _ERRORS}):
            return words
    return ""


def _texts(value: Any) -> Iterator[tuple[str, int, str]]:
    """Yield every text in a result, with the name of its container and its depth."""
    waiting: list[tuple[str, int, Any]] = [("", 0, value)]
    seen = 0
    while waiting and seen < _NODES:
        name, depth, each = waiting.pop(0)
        seen += 1
        if isinstance(each, str):
            inner = _unwrapped(each, 1) if each.strip()[:1] in ("{", "[", "`") else each
            if isinstance(inner, str):
                yield name, depth, inner
            else:
                each = inner
        if depth > _DEPTH:
            continue
        if isinstance(each, Mapping):
            waiting += [(_role(str(key), name), depth + 1, inner) for key, inner in each.items()]
        elif isinstance(each, list):
            waiting += [(name, depth, inner) for inner in each[:_NODES]]


def _role(key: str, holder: str) -> str:
    """Return the role of a text. A list's name describes its members: ``{"objects": [{"name":
    "cup"}]}``.
    """
    key = key.lower()
    return holder if key in ("name", "label", "class") and holder in _RANK else key


def _objects(value: Any) -> Iterator[Mapping[str, Any]]:
    waiting = [value]
    seen = 0
    while waiting and seen < _NODES:
        each = waiting.pop(0)
        seen += 1
        if isinstance(each, str) and each.strip()[:1] in ("{", "["):
            each = _unwrapped(each, 1)
        if isinstance(each, Mapping):
            yield each
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each[:_NODES]


def _speakable(text: str, echo: str = "") -> str:
    words = " ".join(_MEDIA.sub(" ", text).split()).removesuffix("… (cut)").strip()
    if not _LETTER.search(words) or _TECHNICAL.fullmatch(words):
        return ""
    if words.lower().strip(".!。！") in _NOT_WORDS or words.startswith(("Traceback", "<!", "{")):
        return ""
    if _NOTATION.search(words):
        return ""
    if echo and _folded(words) == _folded(echo):
        return ""
    return words


def _folded(text: str) -> str:
    return "".join(char for char in text.casefold() if char.isalnum())
