"""JSON from vendors, which may be anything."""

from __future__ import annotations

from typing import Any

import msgspec


class TooDeep(ValueError):
    """JSON is nested too deeply."""


def decode_json(data: bytes | bytearray | str) -> Any:
    """Decode JSON of a vendor or a model.

    :raises ValueError: not JSON, not UTF-8, or nested too deeply. The message names the position
        and never quotes the data.
    """
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeError, OverflowError) as error:
        raise ValueError(str(error) if isinstance(error, msgspec.DecodeError) else "") from error
    except RecursionError:
        # Without its cause, whose traceback has a thousand frames.
        raise TooDeep("nested too deeply") from None
