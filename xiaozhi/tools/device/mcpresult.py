"""Results of MCP tools: text, pictures and sounds."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

from xiaozhi.base.toolresult import ToolResult, ToolSound
from xiaozhi.base.values import Encoding, SoundFormat

#: Maximum base64 characters of a picture or sound; larger ones are only named in the text.
MEDIA_LIMIT = 8 << 20
# Maximum pictures or sounds of one result.
_MEDIA_COUNT = 4
# By the media type; containers are also recognised by their bytes.
_ENCODINGS = {
    **dict.fromkeys(("wav", "x-wav", "wave", "vnd.wave"), Encoding.WAV),
    **dict.fromkeys(("mpeg", "mp3", "x-mp3", "aac", "mp4"), Encoding.MP3),
    **dict.fromkeys(("ogg", "opus"), Encoding.OGG_OPUS),
}

_MEDIA = {"image": "a picture", "audio": "a sound", "video": "a video"}
# Members of the envelope, which are not the tool's own values.
_ENVELOPE = ("isError", "_meta", "resultType")


def result_of(result: Any) -> ToolResult:
    """Read a result of ``tools/call``.

    A result that has only sounds is final: the device plays them, and the model is not asked
    again. Undecodable media and links to media are only named in the text.
    """
    content = result.get("content") if isinstance(result, dict) else None
    if not isinstance(content, list):
        return ToolResult(text_of(result))
    pictures: list[bytes] = []
    sounds: list[ToolSound] = []
    rest: list[Any] = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "image" and len(pictures) < _MEDIA_COUNT and (data := _decoded(part)):
            pictures.append(data)
        elif kind == "audio" and len(sounds) < _MEDIA_COUNT and (sound := _sound(part)):
            sounds.append(sound)
        else:
            rest.append(part)
    text = text_of({**result, "content": rest})
    return ToolResult(text, pictures=tuple(pictures), sounds=tuple(sounds))


def _decoded(part: dict[str, Any]) -> bytes:
    data = part.get("data")
    if not isinstance(data, str) or len(data) > MEDIA_LIMIT:
        return b""
    try:
        return b64decode(data, validate=True)
    except ValueError:
        return b""


def _sound(part: dict[str, Any]) -> ToolSound | None:
    media_type = str(part.get("mimeType") or "").partition(";")[0].strip().lower()
    kind, _, subtype = media_type.partition("/")
    encoding = _ENCODINGS.get(subtype) if kind == "audio" else None
    # Without a header, the sample rate is unknown.
    if encoding is None or not (data := _decoded(part)):
        return None
    return ToolSound.of(data, SoundFormat(encoding))


def text_of(result: Any) -> str:
    """Return the text of a result.

    By the specification it is an object with ``content``, a list of parts. Devices and servers
    also send one part, a text, ``structuredContent`` alone, or the tool's return value.
    """
    if not isinstance(result, dict):
        return _written(result)
    words = [text for text in _parts(result.get("content")) if text]
    if words:
        return "\n".join(words)
    for key in ("structuredContent", "toolResult"):
        if result.get(key) is not None:
            return _written(result[key])
    if "content" in result:
        return ""
    rest = {key: value for key, value in result.items() if key not in _ENVELOPE}
    return _written(rest) if rest else ""


def _parts(content: Any) -> Iterator[str]:
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, dict):
            yield _part(part)
        elif part is not None:
            yield _written(part)


def _part(part: dict[str, Any]) -> str:
    kind = part.get("type")
    if part.get("text") is not None:
        return _written(part["text"])
    if kind == "resource" or isinstance(part.get("resource"), dict):
        return _resource(part.get("resource"))
    if kind == "resource_link" or (kind is None and "uri" in part):
        return _named(part)
    if isinstance(kind, str) and kind in _MEDIA:
        return f"[{_MEDIA[kind]}: {part.get('mimeType') or 'of an unknown kind'}]"
    if kind == "json" or "json" in part:
        return _written(part.get("json"))
    # Not a part: the tool's own value.
    return "" if isinstance(kind, str) else _written(part)


def _resource(resource: Any) -> str:
    if not isinstance(resource, dict):
        return "" if resource is None else _written(resource)
    if isinstance(resource.get("text"), str):
        return str(resource["text"])
    return _named(resource)


def _named(resource: dict[str, Any]) -> str:
    told = [resource.get(key) for key in ("title", "name", "description", "uri")]
    words = [each for each in told if isinstance(each, str) and not each.startswith("data:")]
    kind = resource.get("mimeType")
    return f"[{', '.join(dict.fromkeys(words)) or kind or 'a resource'}]"


def _written(value: Any) -> str:
    """Return texts unchanged, other values as compact JSON."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except (ValueError, RecursionError):
        return ""
