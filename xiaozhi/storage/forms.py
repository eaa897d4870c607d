"""Conversion of values to forms that every database accepts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

_UNSTORABLE = re.compile("[\\0\\ud800-\\udfff]")


def aware(at: datetime) -> datetime:
    """Check that a time has a time zone.

    :raises ValueError: it has none.
    """
    if at.tzinfo is None:
        raise ValueError("a time without a time zone")
    return at


def text(value: str) -> str:
    """Replace NUL and lone surrogates, which PostgreSQL refuses and devices may send."""
    return _UNSTORABLE.sub("\ufffd", value)


def to_json(value: Any) -> str:
    """Render a value as JSON.

    :raises ValueError: NaN or an infinity.
    :raises TypeError: not a JSON value.
    """
    return json.dumps(_storable(value), ensure_ascii=False, allow_nan=False)


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, Mapping):
        return {text(str(key)): _storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(item) for item in value]
    return value
