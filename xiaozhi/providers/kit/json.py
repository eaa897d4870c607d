"""JSON from vendors, which may be anything."""

from __future__ import annotations

from typing import Any

import msgspec


class TooDeep(ValueError):
    """JSON is nested too deeply."""


def decode_json(data: bytes | bytearray | str) -> Any:
    """Decode what a vendor or a model calls JSON.

    :raises ValueError: it is not JSON, not UTF-8, or nested too deeply. Its words name the
        place and never repeat the data.
    """
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeError, OverflowError) as error:
        raise ValueError(str(error) if isinstance(error, msgspec.DecodeError) else "") from error
    except RecursionError:
        # Without its cause: a thousand frames of traceback help nobody.
        raise TooDeep("nested too deeply") from None
