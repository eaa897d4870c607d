"""Values in the form that every database takes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

_UNSTORABLE = re.compile("[\\0\\ud800-\\udfff]")


def aware(at: datetime) -> datetime:
    """:raises ValueError: it does not say in which time zone it is."""
    if at.tzinfo is None:
        raise ValueError("a time without a time zone")
    return at


def text(value: str) -> str:
    """PostgreSQL takes neither NUL nor half of a surrogate pair; devices may send both."""
    return _UNSTORABLE.sub("\ufffd", value)


def to_json(value: Any) -> str:
    """:raises ValueError: NaN or an infinity.
    :raises TypeError: something that is no JSON."""
    return json.dumps(_storable(value), ensure_ascii=False, allow_nan=False)


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, Mapping):
        return {text(str(key)): _storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(item) for item in value]
    return value
