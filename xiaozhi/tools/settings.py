"""Settings of tools."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

Seconds = Annotated[float, Meta(ge=0, le=3600)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]


class McpSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The tools a device offers (§5).

    :ivar answer: time for ``initialize`` and each page of ``tools/list``.
    :ivar call: time for one tool call.
    :ivar camera: the same for tools that take a photo: the device uploads it
        and waits for words about it, up to 2 × 30 s (§5.2).
    :ivar tools: how many tools of a device are taken at most; the same for methods of
        things (§4.8).
    :ivar ready: how long a turn waits for a device that is still introducing itself.
    :ivar relist: least time from one list of tools to the next, when the device reports that
        they have changed.
    """

    answer: Seconds = 10.0
    call: Seconds = 30.0
    camera: Seconds = 70.0
    tools: Count = 64
    ready: Seconds = 2.0
    relist: Annotated[float, Meta(ge=0.1, le=3600)] = 5.0
