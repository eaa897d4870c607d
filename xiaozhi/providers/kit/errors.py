"""Errors of vendors: text, meaning, and whether a retry may help.

Vendors report errors by status, or with status 200 in one of many JSON shapes. Each is mapped to
one of the codes of :class:`~xiaozhi.base.errors.ProviderError`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from xiaozhi.providers.kit.json import decode_json

# Whether a retry may help, by the code of the error.
RETRYABLE = {
    "timeout": True,
    "rate_limited": True,
    "vendor_error": True,
    "unauthorized": False,
    "unpaid": False,
    "not_found": False,
    "refused": False,
    "bad_request": False,
}
_BY_STATUS = {
    401: "unauthorized",
    402: "unpaid",
    403: "unauthorized",
    404: "not_found",
    408: "timeout",
    429: "rate_limited",
}
# Ambiguous statuses; the vendor's text may be more precise.
_VAGUE = (400, 403, 422, 429)

# Vendors' error numbers, by the JSON shape of the error. Numbers of different vendors collide.
_MINIMAX = {
    1000: "vendor_error", 1001: "timeout", 1002: "rate_limited", 1004: "unauthorized",
    1008: "unpaid", 1013: "vendor_error", 1024: "vendor_error", 1026: "refused",
    1027: "refused", 1033: "vendor_error", 1039: "rate_limited", 1041: "rate_limited",
    1042: "bad_request", 2013: "bad_request", 2049: "unauthorized", 2056: "unpaid",
}  # fmt: skip
_BAIDU = {
    1: "vendor_error", 2: "vendor_error", 4: "rate_limited", 6: "unauthorized", 13: "unauthorized",
    14: "unauthorized", 15: "unauthorized", 17: "unpaid", 18: "rate_limited", 19: "unpaid",
    100: "unauthorized", 110: "unauthorized", 111: "unauthorized", 336000: "vendor_error",
    336001: "bad_request", 336002: "bad_request", 336003: "bad_request", 336100: "vendor_error",
    336501: "rate_limited", 336502: "rate_limited",
}  # fmt: skip
_XFYUN = {
    10005: "unauthorized", 10006: "bad_request", 10007: "rate_limited", 10010: "rate_limited",
    10013: "refused", 10014: "refused", 10019: "refused", 10163: "bad_request",
    10313: "unauthorized", 10317: "bad_request", 10404: "not_found", 10907: "bad_request",
    11200: "unauthorized", 11201: "unpaid", 11202: "rate_limited", 11203: "rate_limited",
}  # fmt: skip
_OTHERS = {
    # GLM
    1113: "unpaid", 1210: "bad_request", 1211: "not_found", 1213: "bad_request",
    1214: "bad_request", 1261: "bad_request", 1301: "refused", 1302: "rate_limited",
    1303: "rate_limited", 1304: "unpaid", 1305: "rate_limited", 1308: "unpaid",
    # Coze
    4000: "bad_request", 4011: "unpaid", 4013: "rate_limited", 4028: "unpaid",
    4100: "unauthorized", 4101: "unauthorized", 4200: "not_found",
    # SiliconFlow
    20012: "not_found", 20015: "bad_request", 30001: "unpaid", 50505: "vendor_error",
}  # fmt: skip

# Meanings of a vendor's text, the most certain first.
_MEANINGS = [
    (code, re.compile(pattern, re.I))
    for code, pattern in (
        (
            "refused",
            (
                r"content.?(filter|policy|moderat)|data.?inspection|moderation|(?<!case.)sensitive"
                r"|inappropriate|safety|prohibited_content|敏感|违规|不合规|审核"
            ),
        ),
        (
            "unpaid",
            (
                r"insufficient.?(quota|balance|fund|credit)|\bbalance\b|arrear|overdue|\bbilling\b"
                r"|payment|(daily|total|free).{0,20}(limit|quota)|exceeded your current quota"
                r"|\bcredits?\b|余额|欠费|额度|充值|套餐"
            ),
        ),
        (
            "rate_limited",
            (
                r"rate.?limit|too many (requests|concurrent)|throttl|concurren|\b[qtr]p[smd]\b"
                r"|resource.?exhausted|try again later|request limit|限流|限速|频率|频繁|并发"
            ),
        ),
        (
            "unauthorized",
            (
                r"api.?key|unauthori[sz]ed|authenticat|not authori[sz]ed|authorization"
                r"|permission|access.?(denied|token)|(?<!extra.)\bforbidden\b|invalid.{0,10}(token|signature)"
                r"|no.?auth|auth.?fail|signature|\bapp.?id\b|secret.?(id|key)"
                r"|login fail|credential|token.{0,20}expired|鉴权|认证|令牌|无权|未授权|密钥|签名"
            ),
        ),
        (
            "not_found",
            (
                r"model.{0,80}(not.?found|not exist|does not exist|not open)|no such model"
                r"|model_not_found|not_found|模型不存在|不存在的模型"
            ),
        ),
        ("timeout", r"time.?d?.?out|超时"),
        (
            "vendor_error",
            (
                r"overload|internal|server.?error|unavailable|busy|bad gateway|temporar|繁忙|过载"
                r"|内部错误|稍后"
            ),
        ),
        (
            "bad_request",
            (
                r"invalid|unsupported|not.?support|bad.?request|malformed|missing|required"
                r"|parameter|too long|context.?length|参数|不支持|无效|非法"
            ),
        ),
    )
]

_SOUND = ("", "0", "200", "20000", "20000000", "ok", "success", "succeeded", "null", "none")
_CODE_KEYS = (
    *("code", "status_code", "error_code", "err_code", "errcode", "errno", "err_no"),
    *("errorcode", "ret", "retcode", "type", "status"),
)
_WORD_KEYS = (
    *("message", "msg", "error_msg", "error_message", "errormsg", "errormessage", "errmsg"),
    *("err_msg", "status_msg", "status_message", "error_description", "detail", "details"),
    *("reason", "description", "desc", "title"),
)
# Members of an answer that may contain an error, lower case.
_HOLDERS = ("base_resp", "baseresp", "header", "response", "responsemetadata", "result", "data")
_FAILED = ("error", "fail", "failed", "failure")
# Ordinary answers have these members too; a number or a word in them is not a fault.
_KINDS = ("type", "status")
# Characters of a vendor's text that are searched, because the patterns are slow.
_WORDS_LIMIT = 2048
_TAGS = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^>]*>", re.I | re.S)


@dataclass(frozen=True, slots=True)
class Fault:
    """An error within an answer of status 200.

    :ivar code: as of :class:`~xiaozhi.base.errors.ProviderError`.
    :ivar words: the vendor's text with its own code; must be redacted before it is logged.
    """

    code: str
    retryable: bool
    words: str


def meaning(words: str, default: str) -> str:
    """Return the code for a vendor's text."""
    words = words[:_WORDS_LIMIT]
    return next((code for code, pattern in _MEANINGS if pattern.search(words)), default)


def meaning_of_status(status: int, words: str) -> str:
    """Return the code of an answer that is not 200."""
    code = _BY_STATUS.get(status, "vendor_error" if status >= 500 else "bad_request")
    if status in _VAGUE:
        known = meaning(words, code)
        # With any other meaning of its text, a 4xx is a bad request.
        if known in ("refused", "unpaid", "unauthorized", "rate_limited"):
            return known
    return code


def fault_in(value: Any) -> Fault | None:
    """Return the error that a decoded answer, or one event of it, reports; None: no error."""
    if isinstance(value, list):
        return next(filter(None, map(fault_in, value[:1])), None)
    if not isinstance(value, dict):
        return None
    fields = _lower(value)
    for key in ("error", "errors"):
        if error := fields.get(key):
            return _fault_of_error(error, fields)
    if fields.get("choices"):
        return None
    for key in _HOLDERS:
        inner = fields.get(key)
        if isinstance(inner, dict):
            inner = _lower(inner)
            if error := inner.get("error"):
                return _fault_of_error(error, inner)
            if key not in ("result", "data") and (fault := _fault(inner, _table(key, fields))):
                return fault
    return _fault(fields, _table("", fields), sure="choices" not in fields)


def _fault_of_error(error: Any, around: dict[str, Any]) -> Fault | None:
    if isinstance(error, list):
        error = error[0]
    if isinstance(error, dict):
        inner = _lower(error)
        if isinstance(inner.get("error"), dict):
            inner = _lower(inner["error"])
        code, words = _code(inner), _words(inner)
        if not words and _is_sound(code):
            return None
        return _made(code, words or _words(around), str(inner.get("type") or ""), _OTHERS)
    if error is True:
        return _made(_code(around), _words(around), "", _OTHERS)
    if isinstance(error, int | float):
        return _made(str(error), _words(around), "", _OTHERS)
    said, more = _words({"message": error}) or str(error), _words(around)
    said = f"{said}: {more}" if more and more != said else said
    return _made(_code(around), said, "", _OTHERS)


def _fault(fields: dict[str, Any], table: dict[int, str], sure: bool = False) -> Fault | None:
    code, words = _code(fields), _words(fields)
    kind = str(fields.get("type") or fields.get("status") or "").lower()
    # A status or type that is a plain word is not a fault unless it names an error.
    numbered = not _is_sound(code) and (
        any(key in fields for key in _CODE_KEYS if key not in _KINDS) or code.isdecimal()
    )
    failed = kind in _FAILED or fields.get("success") is False
    alone = sure and bool(words) and not ({"object", "usage", "id", "model"} & fields.keys())
    if not (failed or (numbered and (words or sure)) or (alone and not _named_sound(fields))):
        return None
    return _made("" if code.lower() in _FAILED else code, words, "", table)


def _named_sound(fields: dict[str, Any]) -> bool:
    """Return whether a code reports success."""
    return any(key in fields and _is_sound(str(fields[key])) for key in _CODE_KEYS)


def _made(code: str, words: str, kind: str, table: dict[int, str]) -> Fault:
    number = int(code) if code.isascii() and code.lstrip("-").isdecimal() and len(code) < 12 else 0
    if 400 <= number < 600:
        meant = meaning_of_status(number, f"{kind} {words}")
    else:
        spoken = f"{kind} {'' if number else _spaced(code)} {words}"
        meant = table.get(number) or meaning(spoken, "vendor_error")
    said = words if not code or code in words else f"{code}: {words}" if words else code
    return Fault(meant, RETRYABLE[meant], said)


def _table(holder: str, fields: dict[str, Any]) -> dict[int, str]:
    if holder in ("base_resp", "baseresp"):
        return _MINIMAX
    if "error_code" in fields or "err_no" in fields:
        return _BAIDU
    if holder == "header" or "sid" in fields:
        return _XFYUN
    return _OTHERS


def _lower(value: dict[str, Any]) -> dict[str, Any]:
    return {str(key).lower(): item for key, item in value.items()}


def _code(fields: dict[str, Any]) -> str:
    """Return the first code that reports an error; without one, a code that reports success."""
    found = [fields[key] for key in _CODE_KEYS if isinstance(fields.get(key), str | int)]
    codes = [str(code).strip() for code in found if not isinstance(code, bool)]
    return next((code for code in codes if not _is_sound(code)), codes[0] if codes else "")


def _is_sound(code: str) -> bool:
    return code.lower() in _SOUND


def _words(fields: dict[str, Any], levels: int = 3) -> str:
    return next(filter(None, (_text(fields.get(key), levels) for key in _WORD_KEYS)), "")


def _text(value: Any, levels: int) -> str:
    if isinstance(value, list):
        value = value[0] if value else ""
    if isinstance(value, dict):
        return _words(_lower(value), levels - 1) if levels else ""
    return value[:_WORDS_LIMIT].strip() if isinstance(value, str) else ""


def _spaced(code: str) -> str:
    """Split a code into words: ``ModelNotFound`` → ``Model Not Found``."""
    code = code[:_WORDS_LIMIT]
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[._]", " ", code) + " " + code


def error_text(body: bytes) -> str:
    """Extract a vendor's error text from any known shape.

    The rest of the answer is omitted: it may contain the conversation.
    """
    return _error_words(body)[0]


def meaning_of_refusal(status: int, body: bytes) -> str:
    """Return the code of an answer that is not 200."""
    return meaning_of_status(status, " ".join(_error_words(body)))


def _error_words(body: bytes) -> tuple[str, str]:
    """Return a vendor's error text and its codes."""
    try:
        value = decode_json(body)
    except ValueError:
        text = body.decode("utf-8", "replace")
        text = text[:_WORDS_LIMIT]
        return (_TAGS.sub(" ", text) if text.lstrip().startswith("<") else text), ""
    place = ""
    codes: list[str] = []
    while isinstance(value, dict | list):
        if isinstance(value, list):
            value = value[0] if value else ""
            continue
        fields = _lower(value)
        if isinstance(fields.get("loc"), list):
            # FastAPI's shape, in which the message does not name the parameter.
            place = ".".join(map(str, fields["loc"])) + ": "
        named = [fields[key] for key in _CODE_KEYS if isinstance(fields.get(key), str)]
        codes += map(_spaced, named)
        holders = [fields.get(key) for key in _HOLDERS]
        parts = [fields.get(key) for key in ("error", "errors", *_WORD_KEYS)]
        parts += [part for part in holders if isinstance(part, dict)]
        parts += [fields.get(key) for key in _CODE_KEYS]
        value = next((part for part in parts if part and part is not True), "")
    return f"{place}{value}"[:_WORDS_LIMIT], " ".join(codes)[:_WORDS_LIMIT]
