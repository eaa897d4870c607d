"""Settings of tools."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

Seconds = Annotated[float, Meta(ge=0, le=3600)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]


class McpSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A device's tools (§5). Times in seconds.

    :ivar answer: timeout of ``initialize`` and of each page of ``tools/list``.
    :ivar call: timeout of a tool call.
    :ivar camera: timeout of tools that take a photo: the device uploads it and waits for the
        description, up to 2 × 30 s (§5.2).
    :ivar tools: maximum number of a device's tools, and of the methods of its things (§4.8).
    :ivar ready: how long a turn waits for a device that is still introducing itself.
    :ivar relist: minimum time from one listing of the tools to the next, if the device reports
        changes.
    """

    answer: Seconds = 10.0
    call: Seconds = 30.0
    camera: Seconds = 70.0
    tools: Count = 64
    ready: Seconds = 2.0
    relist: Annotated[float, Meta(ge=0.1, le=3600)] = 5.0
