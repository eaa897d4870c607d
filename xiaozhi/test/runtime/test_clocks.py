"""Timers use a monotonic clock and dates the wall clock, in both services."""

from __future__ import annotations

import itertools
import time
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

from twisted.internet.base import ReactorBase
from twisted.internet.task import Clock, LoopingCall
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.auth import AuthSettings, JwtTokens, load_keys
from xiaozhi.base.errors import AuthError
from xiaozhi.cache import InboxSettings
from xiaozhi.cache.localinbox import LocalInbox
from xiaozhi.device import events as e
from xiaozhi.runtime.clocks import use_monotonic_timers, wall_time
from xiaozhi.testing.clocks import EPOCH, WallClock
from xiaozhi.testing.house import SPEECH, House
from xiaozhi.wire.mail import Mail
from xiaozhi.wire.messages import Device

DAY = 86_400.0
# Seconds by which the wall clock is set.
STEPS = (-30.0, -DAY, 5.0, 30.0, DAY, 10 * 365 * DAY, -10 * 365 * DAY)


class BareReactor(ReactorBase):
    """A reactor's timers alone: no sockets, no signals."""

    def installWaker(self) -> None:
        """Do nothing: nothing needs waking."""

    def step(self) -> None:
        """Run due calls."""
        self.runUntilCurrent()


class MachineTime:
    """``time.time`` and ``time.monotonic`` of this process, set by a test."""

    def __init__(self, test: SynchronousTestCase) -> None:
        self.passed = 0.0
        self.wall = EPOCH
        for name, seconds in (
            ("xiaozhi.runtime.clocks.time.time", lambda: self.wall + self.passed),
            ("xiaozhi.runtime.clocks.time.monotonic", lambda: 7.0 + self.passed),
        ):
            patcher = patch(name, seconds)
            patcher.start()
            test.addCleanup(patcher.stop)


class ReactorTests(SynchronousTestCase):
    """A reactor's own timers."""

    def setUp(self) -> None:
        self.time = MachineTime(self)
        self.reactor: Any = BareReactor()
        # ``ReactorBase`` imports ``time.time`` like this.
        self.reactor.seconds = lambda: time.time()
        self.called: list[float] = []

    def pass_time(self, seconds: float) -> None:
        """Advance in steps of 10 ms."""
        for _ in range(round(seconds / 0.01)):
            self.time.passed += 0.01
            self.reactor.step()

    def test_steps(self) -> None:
        """With any change of the wall clock, there is a tick every 20 ms and no early timeout."""
        use_monotonic_timers(self.reactor)
        for step in STEPS:
            with self.subTest(step=step):
                ticks: list[float] = []
                ticking = LoopingCall(lambda ticks=ticks: ticks.append(self.time.passed))
                ticking.clock = self.reactor
                ticking.start(0.02, now=False)
                timeout = self.reactor.callLater(3.0, self.fail, "timed out early")
                self.pass_time(0.5)
                self.time.wall += step
                self.pass_time(0.5)
                self.assertGreaterEqual(len(ticks), 49)
                gaps = [b - a for a, b in itertools.pairwise(ticks)]
                self.assertLess(max(gaps), 0.04)
                self.assertTrue(timeout.active())
                timeout.cancel()
                ticking.stop()

    def test_scheduled_before(self) -> None:
        """Calls scheduled on the wall clock keep their remaining delay."""
        for delay in (3.0, 1.0, 2.0):
            self.reactor.callLater(delay, self.called.append, delay)
        self.reactor.step()
        self.reactor.callLater(0.5, self.called.append, 0.5)
        self.reactor.callLater(1.5, self.called.append, 1.5).cancel()
        use_monotonic_timers(self.reactor)
        self.time.wall -= 30
        self.pass_time(0.4)
        self.assertEqual(self.called, [])
        self.pass_time(0.2)
        self.assertEqual(self.called, [0.5])
        self.pass_time(3)
        self.assertEqual(self.called, [0.5, 1.0, 2.0, 3.0])

    def test_clocks(self) -> None:
        """Dates follow the wall clock at any time."""
        wall_before = wall_time(self.reactor)
        use_monotonic_timers(self.reactor)
        use_monotonic_timers(self.reactor)
        self.time.wall += DAY
        self.assertEqual(self.reactor.seconds(), 7.0)
        self.assertEqual((wall_time(self.reactor)(), wall_before()), (EPOCH + DAY,) * 2)
        virtual = Clock()
        virtual.advance(5)
        self.assertEqual(wall_time(virtual)(), 5)


class HouseTests(SynchronousTestCase):
    """Both services, a device, and a wall clock that is set during an answer."""

    def setUp(self) -> None:
        self.clock = WallClock()
        self.house = House(
            clock=self.clock,
            llm={"answers": ("This is quite a long answer. It has a second sentence, too.",)},
            tts={"milliseconds": 30},
        )
        self.addCleanup(lambda: self.assertEqual(self.house.close(), []))

    def test_set_during_an_answer(self) -> None:
        """No gap in the answer, no connection closed, and the next question is answered."""
        visitor = self.house.connect()
        for step in STEPS:
            with self.subTest(step=step):
                visitor.events.clear()
                asking = visitor.device.say(SPEECH)
                while len(visitor.seen(e.PacketPlayed)) < 5:
                    self.house.run(0.01)
                self.clock.ahead += step
                answer = self.house.until(asking)
                self.assertGreater(answer.audio_ms, 1000)
                played = [at for at, event in visitor.events if isinstance(event, e.PacketPlayed)]
                gaps = [b - a for a, b in itertools.pairwise(played)]
                self.assertLess(max(gaps), 0.1)
        self.house.run(2)
        self.assertEqual((visitor.cable.closed, visitor.seen(e.Trouble)), (None, []))

    def test_envelopes(self) -> None:
        """Messages of the other dialect have a date."""
        browser = self.house.browse()
        browser.say(type="hello", data={"version": 1, "transport": "websocket"})
        self.house.run(1)
        self.clock.ahead += DAY
        browser.say(type="ping", data={})
        self.house.run(0.1)
        dates = [text["timestamp"] / 1000 - EPOCH for text in browser.texts]
        self.assertLess(abs(dates[0]), 5)
        self.assertLess(abs(dates[-1] - DAY), 5)

    def test_dates(self) -> None:
        """Dated records have the wall clock's time."""
        browser = self.house.browse()
        browser.say(type="hello", version=1, transport="websocket")
        self.house.run(1)
        for step in (DAY, -2 * DAY):
            self.clock.ahead += step
            browser.say(type="ping")
            self.house.run(0.5)
            told = browser.of("pong")[-1]["timestamp"] / 1000
            self.assertLess(abs(told - self.clock.wall_seconds()), 2)
        self.house.run(1)
        row = self.successResultOf(self.house.store.sessions_of(browser.link.device.device_id, 1))[
            0
        ]
        began = datetime.fromtimestamp(EPOCH, UTC)
        self.assertLess(abs((row.connected_at - began).total_seconds()), 5)


class DateTests(SynchronousTestCase):
    """Parts that use both kinds of time."""

    def setUp(self) -> None:
        self.clock = WallClock()

    def test_tokens(self) -> None:
        """A token expires by the wall clock."""
        settings = AuthSettings(key="k" * 40)
        tokens = JwtTokens(load_keys(settings), settings, self.clock)
        token = tokens.issue(Device("d", "c", "u"), "device", 3600)
        self.assertEqual(tokens.claims(token)["iat"], EPOCH)
        self.clock.ahead += 3500
        tokens.claims(token)
        self.clock.ahead += 200 + settings.leeway
        self.assertEqual(self.assertRaises(AuthError, tokens.claims, token).code, "token_expired")

    def test_inbox(self) -> None:
        """A letter's lifetime is a duration; its expiry is reported as a date."""
        inbox = LocalInbox(self.clock, "node", InboxSettings())
        receipt = self.successResultOf(inbox.post("d", Mail(say="letter"), 60))
        self.assertEqual(receipt.expires, EPOCH + 60)
        self.clock.ahead += DAY
        self.clock.advance(59)
        got: list[object] = []

        def deliver(letter: object) -> bool:
            got.append(letter)
            return True

        inbox.attach("d", "s", deliver)
        self.assertEqual(len(got), 1)
