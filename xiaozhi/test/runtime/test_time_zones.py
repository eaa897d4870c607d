"""Named time zones on a machine without zone data, as in slim containers."""

from __future__ import annotations

import zoneinfo

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.base.errors import ToolError
from xiaozhi.testing.parts import function_tools
from xiaozhi.tools.builtin.time import functions, get_date, get_time
from xiaozhi.tools.functions import Function

# 2026-09-21 14:13:20 UTC.
NOW = 1_790_000_000.0

# Zone, local time and date.
THERE = (
    ("Asia/Shanghai", "22:13", "2026-09-21"),
    ("Asia/Kolkata", "19:43", "2026-09-21"),
    ("Asia/Tokyo", "23:13", "2026-09-21"),
    ("Europe/Berlin", "16:13", "2026-09-21"),
    ("America/New_York", "10:13", "2026-09-21"),
    ("Pacific/Kiritimati", "04:13", "2026-09-22"),
    ("UTC", "14:13", "2026-09-21"),
)

NOWHERE = ("Nowhere", "America", "../etc/passwd", "/etc/localtime", "a" * 5000, "\0", "Asia/", ".")


class TimeZoneTests(SynchronousTestCase):
    """The functions with which a model gets the time."""

    def setUp(self) -> None:
        system = zoneinfo.TZPATH
        zoneinfo.reset_tzpath(to=[])
        zoneinfo.ZoneInfo.clear_cache()
        self.addCleanup(zoneinfo.ZoneInfo.clear_cache)
        self.addCleanup(zoneinfo.reset_tzpath, system)
        clock = Clock()
        clock.advance(NOW)
        self.tools = {tool.spec.name: tool for tool in function_tools(functions, clock)}

    def asked(self, function: Function, zone: str) -> Deferred[str]:
        async def ask() -> str:
            return str(await self.tools[function.__name__].call({"timezone": zone}))

        return Deferred.fromCoroutine(ask())

    def test_named(self) -> None:
        for zone, time, date in THERE:
            with self.subTest(zone=zone):
                asked = self.asked(get_time, zone)
                self.assertIn(f'"{time}"', self.successResultOf(asked))
                asked = self.asked(get_date, zone)
                self.assertIn(f'"{date}"', self.successResultOf(asked))

    def test_unknown(self) -> None:
        """The error for an invented zone goes to the model."""
        for zone in NOWHERE:
            with self.subTest(zone=zone):
                asked = self.asked(get_time, zone)
                error = self.failureResultOf(asked, ToolError).value
                self.assertEqual(error.code, "bad_arguments")
