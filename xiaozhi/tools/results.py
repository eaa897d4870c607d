"""A tool's result as text for the model, without the bytes of pictures and sounds.

Browsers and some boards put a whole picture into the text of a result. It would displace the
words, cost tens of thousands of tokens, and stay in the dialogue.
"""

from __future__ import annotations

import re

from xiaozhi.base.toolresult import ToolResult

#: Maximum pictures of one result that are described; the text has the number of the others.
PICTURES_LIMIT = 4

# Maximum characters of a sound's title.
_TITLE_LIMIT = 200
# In JSON, line breaks are escaped, and slashes may be.
_DATA = r"(?:[A-Za-z0-9+/=_%\-]|\\[/nrt]|\\u[0-9a-fA-F]{4})"
_URI = re.compile(
    rf"data:([\w.+-]{{1,64}})\\?/[\w.+-]{{1,64}}(?:;[\w.=+-]{{1,64}}){{0,4}},"
    rf"(?:{_DATA}+(?:\s+(?={_DATA}{{16}}))?|[^\s\"'<>)\]}}\\]*)*"
)
# Long runs of base64 or hexadecimal digits, in one line or several.
_CHUNK = r"(?:[A-Za-z0-9+/_\-]|\\/)"
_BASE64 = re.compile(
    rf"(?<![A-Za-z0-9+/_=\-])(?:{_CHUNK}{{40,}}(?:\s{{1,4}}|(?:\\[nr]){{1,4}})?){{2,}}"
    rf"{_CHUNK}{{0,400}}={{0,2}}"
)
_DIGIT = re.compile(r"\d")
_SHORTEST = 200
_BYTES = re.compile(r"\[\s*(?:-?\d{1,3}\s*,\s*){64,}-?\d{1,3}\s*\]")
_HAS_MEDIA = re.compile(r"data:[\w.+-]+\\?/|[A-Za-z0-9+/_\-\\]{40}|(?:\d{1,3}\s*,\s*){16}")


def without_media(text: str) -> str:
    """Replace ``data:`` URIs, base64 and lists of bytes by a word for their kind.

    :param text: any text, also truncated JSON.
    """
    if not _HAS_MEDIA.search(text):
        return text
    text = _URI.sub(lambda found: f"[{found[1]}]", text)
    text = _BASE64.sub(_data, text)
    return _BYTES.sub('"[data]"', text)


def _data(found: re.Match[str]) -> str:
    data = found[0]
    if len(data) < _SHORTEST or not _DIGIT.search(data):
        return data
    return "[data]" + data[len(data.rstrip()) :]


def for_model(text: str, limit: int) -> str:
    """Clean and cut a text for the model and the dialogue.

    :param limit: maximum characters.
    """
    text = without_media(text)
    return text if len(text) <= limit else text[:limit] + " … (cut)"


def text_for_model(result: ToolResult, limit: int) -> str:
    """Return a result as text for the model.

    The text also has the words and sounds that were output without the model, so that it does
    not repeat them and can refer to them later.

    :param limit: maximum characters of the tool's own text.
    """
    parts = [for_model(result.text, limit)] if result.text else []
    if result.say:
        parts.append(f"[said to the person: {for_model(result.say, limit)}]")
    titles = [sound.title[:_TITLE_LIMIT] for sound in result.sounds]
    parts += [f"[played a sound{': ' if title else ''}{title}]" for title in titles]
    if result.silent and not parts:
        parts.append("[done; nothing to say]")
    return "\n".join(parts)
