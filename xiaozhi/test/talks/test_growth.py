"""Finished sessions and turns leave nothing in memory, in either service."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable
from uuid import UUID
from weakref import ref

from twisted.logger import LogPublisher

from xiaozhi.agents.settings import DialogueSettings, SessionSettings
from xiaozhi.ai.timeline.record import TurnRecord
from xiaozhi.audio.libopus import Decoder
from xiaozhi.base.values import DialogueEntry, Utterance
from xiaozhi.testing.conversation import LONG, ConversationCase
from xiaozhi.testing.heap import leave_out_heap
from xiaozhi.testing.house import SPEECH, House, Visitor
from xiaozhi.wire.messages import ListenMode

TIMES = 10
# Types with a bound: the in-memory dialogue store with its ids, and the records of the last turns.
# sqlite3 drops its weak references to cursors in batches of two hundred.
KEPT = {DialogueEntry, Utterance, TurnRecord, UUID, ref}
# So few that it is full before the first count.
SHORT = SessionSettings(dialogue=DialogueSettings(entries=8))


class GrowthTests(ConversationCase):
    """Objects are counted by type, in the whole process."""

    def setUp(self) -> None:
        # With several processes, trial keeps log events until the test is over.
        self.patch(LogPublisher, "__call__", lambda *_: None)
        leave_out_heap()

    def assert_stays(self, happens: Callable[[], None]) -> None:
        """Fail with the types whose count grows with each repetition."""
        self.after_times(happens)
        before, after = self.after_times(happens), self.after_times(happens)
        left = (after - before).items()
        grown = [f"{more} {kind.__qualname__}" for kind, more in left if more >= TIMES // 2]
        self.assertFalse(grown, f"{TIMES} times leave {', '.join(grown)}")

    def after_times(self, happens: Callable[[], None]) -> Counter[type]:
        for _ in range(TIMES):
            happens()
        gc.collect()
        return Counter(kind for each in gc.get_objects() if (kind := type(each)) not in KEPT)

    def assert_needs_no_collector(self, happens: Callable[[], None]) -> None:
        """A full collection is rare, and a turn's encoder alone is 36 KB until then."""
        happens()
        self.send_collector_away()
        for _ in range(TIMES):
            happens()
        self.assertLess(gc.collect(), TIMES)

    def send_collector_away(self) -> None:
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)

    def leave(self, house: House, visitor: Visitor) -> None:
        house.run(3)
        house.visitors.remove(visitor)

    def test_sessions(self) -> None:
        house = self.house()

        def come_and_go() -> None:
            visitor = house.connect()
            house.until(visitor.device.text("hello"))
            visitor.device.close()
            self.leave(house, visitor)

        self.assert_stays(come_and_go)

    def test_a_session_that_is_over_holds_no_decoder(self) -> None:
        """It has 22 KB, until the next collection."""
        house = self.house()
        visitor = house.connect()
        self.send_collector_away()
        before = self.decoders()
        house.until(visitor.device.say(SPEECH))
        self.assertGreater(self.decoders(), before)
        visitor.device.close()
        house.run(3)
        self.assertEqual(self.decoders(), before)

    def decoders(self) -> int:
        return sum(type(each) is Decoder for each in gc.get_objects())

    def test_devices_that_vanish_while_they_are_answered(self) -> None:
        house = self.house(llm={"answers": (LONG,)})

        def vanish() -> None:
            visitor = house.connect()
            visitor.device.text("go").addErrback(lambda _: None)
            house.run(2)
            visitor.device.close()
            self.leave(house, visitor)

        self.assert_stays(vanish)

    def test_turns(self) -> None:
        house = self.house(session=SHORT)
        visitor = house.connect(mode=ListenMode.MANUAL)

        def ask() -> None:
            house.until(visitor.device.say(SPEECH))
            visitor.events.clear()

        self.assert_stays(ask)
        self.assert_needs_no_collector(ask)

    def test_interruptions(self) -> None:
        house = self.house(session=SHORT, llm={"answers": (LONG,)})
        visitor = house.connect()

        def interrupt() -> None:
            answer = visitor.device.text("go")
            house.run(2)
            visitor.device.abort()
            house.until(answer)
            visitor.events.clear()

        self.assert_stays(interrupt)
        self.assert_needs_no_collector(interrupt)

    def test_tools(self) -> None:
        house = self.house(session=SHORT, llm={"calls": ({"name": "self_get_device_status"},)})
        visitor = house.connect()

        def use() -> None:
            self.assertIn("volume", house.until(visitor.device.text("go")).text)
            visitor.events.clear()

        self.assert_needs_no_collector(use)
