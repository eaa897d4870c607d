"""Both services as processes whose wall clock is set while they run."""

from __future__ import annotations

import os
import time
from pathlib import Path
from tempfile import mkdtemp
from unittest.mock import patch

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.guests import AI_SETS, IM_SETS, STORY, Guest, ServiceCase, new_identity
from tests.services import Pair
from xiaozhi.device import events as e

# Run by the interpreter before anything else, so that later calls of ``time.time`` get this one.
_SITE = """
import os, time
_real, _file = time.time, os.environ["WALL_CLOCK_FILE"]
def set_time():
    with open(_file) as ahead:
        return _real() + float(ahead.read() or 0)
time.time = set_time
"""

# Seconds. Set back by more than a test may take: a timer on that clock would never fire.
STEPS = (-600.0, 86_400.0, -30.0, 10 * 365 * 86_400.0)


class WallClockTests(ServiceCase, TestCase):
    """During an answer to one device, while another one only listens."""

    timeout = 120

    def setUp(self) -> None:
        directory = Path(mkdtemp(prefix="xiaozhi-clock-"))
        (directory / "sitecustomize.py").write_text(_SITE)
        self.file = directory / "ahead"
        self.file.write_text("0")
        path = os.pathsep.join(filter(None, (str(directory), os.environ.get("PYTHONPATH"))))
        own = {"PYTHONPATH": path, "WALL_CLOCK_FILE": str(self.file)}
        with patch.dict(os.environ, own):
            self.pair = Pair(IM_SETS, AI_SETS).start()
        self.addCleanup(self.pair.end)

    def set_clock(self, ahead: float) -> None:
        """Set the offset of the services' wall clock from now on."""
        new = self.file.with_suffix(".new")
        new.write_text(str(ahead))
        new.replace(self.file)

    async def server_time(self) -> float:
        """Return the time as a device receives it."""
        guest = Guest(new_identity())
        self.addCleanup(guest.device.close)
        boot = await guest.device.boot(self.pair.ota)
        return boot.server_time_ms / 1000

    async def test_steps(self) -> None:
        self.speaker = await self.guest(self.pair)
        listener = await self.guest(self.pair)
        await listener.device.listen()
        for step in STEPS:
            self.set_clock(0)
            self.speaker.events.clear()
            asking = self.speaker.device.text("a story")
            await self.until(lambda: len(self.speaker.seen(e.PacketPlayed)) > 10, "the story")
            self.set_clock(step)
            answer = await asking
            self.assertEqual((answer.errors, answer.tts_stops), ((), 1))
            self.assertGreater(answer.audio_ms, 20 * len(STORY) * 0.9)
            self.assertLess(abs(await self.server_time() - time.time() - step), 60)
            # Timeouts are checked every quarter of a second.
            await deferLater(reactor, 1.0)
            again = await listener.device.text("hello")
            self.assertEqual((again.text, again.errors), ("All right.", ()))
        for guest in (self.speaker, listener):
            self.assertEqual(guest.seen(e.Trouble), [])
            self.assertEqual(guest.seen(e.Disconnected), [])
        self.assert_clean(self.pair)
