"""Ended sessions, links and streams are freed at once, without the garbage collector, which
examines all objects and so runs rarely.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.logger import LogPublisher
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.agents.settings import DialogueSettings, SessionSettings
from xiaozhi.bridge.edge.client import BridgeClient
from xiaozhi.bridge.memory import MemoryNetwork
from xiaozhi.bridge.service.server import BridgeServer
from xiaozhi.bridge.settings import ClientSettings, ServerSettings
from xiaozhi.test.im.test_im_gateway import FIRMWARE, HELLO, PortCase, Wire, frame
from xiaozhi.testing.contracts.bridge import Heard, Sessions, opening
from xiaozhi.testing.conversation import LONG, ConversationCase
from xiaozhi.testing.edge import wire_of
from xiaozhi.testing.heap import leave_out_heap
from xiaozhi.testing.house import AI, Browser, House
from xiaozhi.wire import messages as m

TIMES = 3
# Types with a bound of their own, or made by the test itself.
KEPT = frozenset(
    (
        *("DialogueEntry", "TurnRecord", "SessionStatus", "Utterance"),
        *("Browser", "Heard", "Echo", "SessionOpen", "Device", "Hello"),
        "MemoryStream",  # refers to its other end
    )
)
SHORT = SessionSettings(dialogue=DialogueSettings(entries=8))
GREETING = {"transport": "websocket", "audio_params": {"format": "opus"}}


def alive() -> Counter[str]:
    """Count our objects by type."""
    found: Counter[str] = Counter()
    for each in gc.get_objects():
        kind = type(each)
        module = str(kind.__module__)
        ours = module.startswith("xiaozhi.") and not module.startswith(
            ("xiaozhi.test", "xiaozhi.device")
        )
        if ours and kind.__name__ not in KEPT:
            found[f"{module}.{kind.__qualname__}"] += 1
    return found


class LeakCheck:
    """A mix-in for test cases."""

    def assert_gone(self, happens: Callable[[], None], what: str = "") -> None:
        """Fail with the types whose count grows each time, without a collection."""
        happens()
        gc.collect()
        gc.disable()
        try:
            before = alive()
            for _ in range(TIMES):
                happens()
            left = alive() - before
        finally:
            gc.enable()
        grown = {kind: count for kind, count in left.items() if count >= TIMES}
        assert not grown, f"{what}: {grown}"


class SessionTests(ConversationCase, LeakCheck):
    def setUp(self) -> None:
        # Each log event refers to its subject.
        self.patch(LogPublisher, "__call__", lambda *_: None)
        leave_out_heap()

    def enter(self, house: House) -> Browser:
        browser = house.browse()
        browser.say(type="hello", **GREETING)
        house.run(0.5)
        return browser

    def leave(self, house: House, browser: Browser) -> None:
        wire_of(browser.link).connection_lost("gone")
        house.gateway.connection_gone()
        house.run(3)
        house.browsers.remove(browser)
        del browser.link

    def test_every_way_to_end(self) -> None:
        def nothing(browser: Browser, house: House) -> None:
            pass

        def talk(browser: Browser, house: House) -> None:
            browser.say(type="chat", text="hello")
            house.run(6)

        def vanish(browser: Browser, house: House) -> None:
            browser.say(type="chat", text="hello")
            house.run(1)

        def listen(browser: Browser, house: House) -> None:
            browser.say(type="listen", state="start", mode="auto")
            for _ in range(10):
                wire_of(browser.link).binary_received(b"\xf8\xff\xfe" * 10)
                house.run(0.06)

        def goodbye(browser: Browser, house: House) -> None:
            browser.say(type="goodbye")
            house.run(1)

        def interrupt(browser: Browser, house: House) -> None:
            browser.say(type="chat", text="hello")
            house.run(1)
            browser.say(type="abort")
            house.run(1)

        def fall_idle(browser: Browser, house: House) -> None:
            house.run(125)

        def be_closed(browser: Browser, house: House) -> None:
            browser.link.go_away()
            house.run(1)

        def misbehave(browser: Browser, house: House) -> None:
            for _ in range(12):
                browser.link.text_received("{")
            house.run(1)

        def lose_the_stream(browser: Browser, house: House) -> None:
            browser.say(type="chat", text="hello")
            house.run(1)
            house.network.cut(AI)
            house.run(3)

        for way in (
            nothing,
            talk,
            vanish,
            listen,
            goodbye,
            interrupt,
            fall_idle,
            be_closed,
            misbehave,
            lose_the_stream,
        ):
            house = self.house(session=SHORT, llm={"answers": (LONG,)})

            def happens(house: House = house, way: Callable[[Browser, House], None] = way) -> None:
                browser = self.enter(house)
                way(browser, house)
                self.leave(house, browser)

            self.assert_gone(happens, way.__name__)


class SocketTests(PortCase, LeakCheck):
    """Including Autobahn's and Twisted's objects of a connection."""

    def setUp(self) -> None:
        self.patch(LogPublisher, "__call__", lambda *_: None)
        leave_out_heap()
        super().setUp()

    def drop(self, wire: Wire, *, clean: bool = True) -> None:
        wire.lose(clean)
        wire.protocol = wire.producer = None  # as a real one does
        self.bridge.sessions.clear()
        for calls in (self.inbox, self.presence, self.log):
            for value in vars(calls).values():
                if isinstance(value, list | dict):
                    value.clear()
        self.clock.advance(1)

    def test_devices(self) -> None:
        def left() -> None:
            wire = self.connect()
            wire.feed(frame(1, HELLO.encode()))
            wire.feed(frame(2, b"opus"))
            self.drop(wire, clean=False)

        def closed() -> None:
            wire = self.connect()
            wire.feed(frame(8, b"\x03\xe8"))
            self.drop(wire)

        def refused() -> None:
            wire = self.dial()
            wire.feed(FIRMWARE.replace(b"secret", b"wrong"))
            self.drop(wire)

        def half_a_head() -> None:
            wire = self.dial()
            wire.feed(FIRMWARE[:40])
            self.drop(wire)

        for happens in (left, closed, refused, half_a_head):
            self.assert_gone(happens, happens.__name__)


class StreamTests(SynchronousTestCase, LeakCheck):
    def setUp(self) -> None:
        self.patch(LogPublisher, "__call__", lambda *_: None)
        leave_out_heap()
        self.clock = Clock()
        self.network = MemoryNetwork(self.clock)
        self.sessions = Sessions()
        settings = ServerSettings(listen=AI)
        self.server = BridgeServer(
            self.network.port(AI), self.sessions, settings, self.clock, "ai", "boot"
        )
        self.server.start()
        self.client = BridgeClient(
            self.network, ClientSettings(targets=(AI,)), self.clock, lambda: 0.5, "im", "boot"
        )
        self.client.start()
        self.passes(1)

    def tearDown(self) -> None:
        self.client.stop()
        self.server.stop()

    def passes(self, seconds: float) -> None:
        self.clock.pump([0.05] * round(seconds / 0.05))

    def test_streams(self) -> None:
        def cut() -> None:
            link = self.client.open(opening(), Heard())
            link.send(m.Chat("hello"))
            self.passes(1)
            self.network.cut(AI)
            self.passes(2)
            link.close("device_gone", "")
            self.passes(1)
            self.sessions.accepted.clear()

        def cut_and_forgotten() -> None:
            link = self.client.open(opening(), Heard())
            self.passes(1)
            link.close("device_gone", "")
            self.network.cut(AI)
            self.passes(20)
            self.sessions.accepted.clear()

        def closed_by_the_ai() -> None:
            self.client.open(opening(), Heard())
            self.passes(1)
            self.sessions.accepted.pop().link.close("farewell", "")
            self.passes(1)

        def silent() -> None:
            for stream in self.network.streams(AI):
                stream.stall()
            self.passes(90)

        for happens in (cut, cut_and_forgotten, closed_by_the_ai, silent):
            self.assert_gone(happens, happens.__name__)
