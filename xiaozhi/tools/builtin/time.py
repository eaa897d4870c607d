"""Time, date and the end of the conversation."""

from __future__ import annotations

import json
from datetime import datetime, tzinfo
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Meta

from xiaozhi.base.errors import ToolError
from xiaozhi.tools.functions import FunctionModule, NoSettings, ToolContext

functions: FunctionModule[NoSettings] = FunctionModule(
    "time", "The time, the date and the end of the conversation.", standard=True
)

Context = ToolContext[NoSettings]

Zone = Annotated[str, Meta(description="IANA name such as Asia/Shanghai; empty: the server's")]


def _now(context: Context, timezone: str) -> datetime:
    zone: tzinfo | None = None
    if timezone:
        try:
            zone = ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ToolError("bad_arguments", f"there is no time zone {timezone}") from None
    return datetime.fromtimestamp(context.seconds(), zone).astimezone(zone)


@functions.function
async def get_time(context: Context, timezone: Zone = "") -> str:
    """Get the time of day."""
    now = _now(context, timezone)
    return json.dumps({"time": f"{now:%H:%M}", "timezone": now.tzname() or ""})


@functions.function
async def get_date(context: Context, timezone: Zone = "") -> str:
    """Get today's date and the day of the week."""
    now = _now(context, timezone)
    return json.dumps({"date": f"{now:%Y-%m-%d}", "weekday": f"{now:%A}"})


@functions.function
async def end_conversation(context: Context) -> str:
    """End the conversation. Call it when the person says goodbye, then say goodbye."""
    context.end()
    return json.dumps({"ended": True})
