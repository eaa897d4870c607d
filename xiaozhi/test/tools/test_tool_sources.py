"""Tool sources: functions, lifetime, runtime, and selection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from xiaozhi.base.call import CallContext, calling
from xiaozhi.base.errors import ConfigError, StoreError, ToolError
from xiaozhi.base.toolresult import SILENCE, ToolResult
from xiaozhi.base.values import Receipt, ToolSpec
from xiaozhi.interfaces import IDeviceInbox, ITool, IToolSource, IToolSourceMaker
from xiaozhi.interfaces.toolsource import SourceState, SourceStatus, ToolSession
from xiaozhi.runtime.config import read_section
from xiaozhi.storage.toolvalues import MemoryToolStore
from xiaozhi.testing.parts import function_tools
from xiaozhi.tools.device.mcp import DeviceMcp
from xiaozhi.tools.device.things import DeviceThings
from xiaozhi.tools.functions import FunctionModule, NoSettings, ToolContext
from xiaozhi.tools.runtime import (
    KEY_LIMIT,
    VALUE_LIMIT,
    Mailbox,
    SourceTimers,
    SourceValues,
    ToolFacilities,
)
from xiaozhi.tools.settings import McpSettings
from xiaozhi.tools.sources import ToolSources, choose_sources
from xiaozhi.tools.toolbox import Toolbox
from xiaozhi.wire.mail import Mail
from xiaozhi.wire.messages import Device

DEVICE = Device("aa:bb:cc:dd:ee:ff", "c", "u")
GUEST = Device("aa:bb:cc:dd:ee:00", "c", "u", guest=True)


class LampSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    room: str = "hall"


Lamps = ToolContext[LampSettings]


def lamps(name: str = "lamps", *, standard: bool = False) -> FunctionModule[LampSettings]:
    module = FunctionModule(name, "Lamps.", LampSettings, standard=standard)

    @module.tool(limit=7.5, lane="lamps")
    async def switch(context: Lamps, on: bool) -> ToolResult:
        """Switch the lamp."""
        await context.runtime.values.put(context.owner, "on", str(on))
        return SILENCE

    @module.lasting
    async def where(context: Lamps) -> dict[str, str]:
        """Say where the lamp is."""
        return {"room": context.settings.room, "value": await _kept(context)}

    return module


async def _kept(context: Lamps) -> str:
    return await context.runtime.values.get(context.owner, "on") or ""


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.store = MemoryToolStore()
        self.facilities = ToolFacilities.of(self.clock, self.clock.seconds, self.store)

    def choose(self, *makers: FunctionModule[Any], **sections: object) -> ToolSources:
        return choose_sources(sections, self.facilities, read_section, makers)

    def call(self, box: Toolbox, name: str, arguments: str = "{}") -> ToolResult:
        return self.successResultOf(Deferred.fromCoroutine(box.call(name, arguments)))

    def refused(self, box: Toolbox, name: str, arguments: str = "{}") -> ToolError:
        failure = self.failureResultOf(Deferred.fromCoroutine(box.call(name, arguments)), ToolError)
        assert isinstance(failure.value, ToolError)
        return failure.value


class FunctionSourceTests(Case):
    def box(self, device: Device = DEVICE) -> Toolbox:
        return Toolbox(function_tools(lamps(), self.clock, ToolSession(device), room="kitchen"))

    def test_interfaces(self) -> None:
        module = lamps()
        verifyObject(IToolSourceMaker, module)
        source = module.make(LampSettings(), self.facilities.runtime("lamps"))
        verifyObject(IToolSource, source)
        for tool in source.tools(ToolSession(DEVICE)):
            verifyObject(ITool, tool)

    def test_settings_options_and_results(self) -> None:
        box = self.box()
        self.assertEqual((box.limit("switch", 1.0), box.lane("switch")), (7.5, "lamps"))
        self.assertEqual((box.limit("where", 1.0), box.lane("where")), (1.0, ""))
        self.assertEqual([box.interruptible(each) for each in ("switch", "where")], [True, False])
        self.assertIs(self.call(box, "switch", '{"on": true}'), SILENCE)
        # An object becomes JSON.
        self.assertEqual(self.call(box, "where").text, '{"room": "kitchen", "value": "True"}')

    def test_the_language_of_the_turn(self) -> None:
        module: FunctionModule[NoSettings] = FunctionModule("x", "X.")

        @module.function
        async def language(context: ToolContext[NoSettings]) -> str:
            """Say the language."""
            return context.session.language()

        box = Toolbox(function_tools(module, self.clock))
        self.assertEqual(self.call(box, "language").text, "")
        with calling(CallContext(language="fr")):
            self.assertEqual(self.call(box, "language").text, "fr")

    def test_nothing_is_kept_for_a_guest(self) -> None:
        """The id may belong to another device."""
        self.assertEqual(self.refused(self.box(GUEST), "where").code, "guest_device")

    def test_a_store_that_is_away(self) -> None:
        self.patch(MemoryToolStore, "get", lambda *_: fail(StoreError("store_unavailable", "x")))
        error = self.refused(self.box(), "where")
        self.assertEqual(error.code, "store_unavailable")
        self.assertNotIn("[", error.message)

    def test_start_and_stop_hooks(self) -> None:
        ready: Deferred[None] = Deferred()
        noted: list[object] = []
        module = lamps()

        @module.on_start
        async def connect(settings: LampSettings, _: object) -> None:
            noted.append(settings)
            await ready

        @module.on_stop
        async def disconnect(settings: LampSettings, _: object) -> None:
            noted.append("stopped")

        source = module.make(LampSettings(room="x"), self.facilities.runtime("lamps"))
        seen: list[SourceState] = []
        end = source.watch(lambda: seen.append(source.status.state))
        started = source.start()
        self.assertEqual(source.status.state, SourceState.STARTING)
        self.assertEqual(noted, [LampSettings(room="x")])
        self.assertEqual(source.tools(ToolSession(DEVICE)), [])
        ready.callback(None)
        self.successResultOf(started)
        self.assertEqual(len(source.tools(ToolSession(DEVICE))), 2)
        self.successResultOf(source.stop())
        self.successResultOf(source.stop())
        self.assertEqual(noted[1:], ["stopped"])
        self.assertEqual(source.tools(ToolSession(DEVICE)), [])
        self.assertEqual(seen, [SourceState.READY, SourceState.STOPPED])
        end()
        end()

    def test_a_start_that_fails(self) -> None:
        for error, reason in (
            (ToolError("no", "the key is wrong"), "the key is wrong"),
            (RuntimeError("secret"), "RuntimeError"),
        ):
            module = lamps()

            @module.on_start
            async def connect(_: object, __: object, error: Exception = error) -> None:
                raise error

            source = module.make(LampSettings(), self.facilities.runtime("lamps"))
            self.successResultOf(source.start())
            self.assertEqual(source.status, SourceStatus(SourceState.FAILED, reason))
            self.assertEqual(source.tools(ToolSession(DEVICE)), [])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_a_watcher_that_raises_affects_no_other(self) -> None:
        def broken() -> None:
            raise RuntimeError("no")

        seen: list[int] = []
        source = lamps().make(LampSettings(), self.facilities.runtime("lamps"))
        source.watch(broken)
        source.watch(lambda: seen.append(1))
        source.start()
        self.assertEqual(seen, [1])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_device_sources_are_sources(self) -> None:
        mcp = DeviceMcp(lambda _: None, self.clock, McpSettings())
        things = DeviceThings(lambda _: None, 64)
        for source in (mcp, things):
            verifyObject(IToolSource, source)
            source.stop()
            self.assertEqual(source.status.state, SourceState.STOPPED)

    def test_a_device_that_does_not_answer(self) -> None:
        mcp = DeviceMcp(lambda _: None, self.clock, McpSettings(answer=3))
        started = mcp.start()
        self.assertEqual(mcp.status.state, SourceState.STARTING)
        self.clock.advance(3)
        self.successResultOf(started)
        self.assertEqual(mcp.status.state, SourceState.FAILED)
        self.assertIn("initialize", mcp.status.reason)


class ChoosingTests(Case):
    def test_standard_ones_and_those_named(self) -> None:
        makers = [lamps("a", standard=True), lamps("b"), lamps("c"), lamps("d", standard=True)]
        sources = self.choose(*makers, b={"room": "x"}, d=False)
        self.assertEqual([each.name for each in sources.all], ["a", "b"])
        sources = self.choose(*makers, c=None, b=True, a={"room": "y"}, d=False)
        self.assertEqual([each.name for each in sources.all], ["a", "b", "c"])

    def test_mistakes_name_the_key(self) -> None:
        class Picky(FunctionModule[LampSettings]):
            def make(self, settings: Any, runtime: Any) -> IToolSource:
                raise ConfigError("room: there is no such room")

        cases: list[tuple[list[FunctionModule[Any]], dict[str, object], str]] = [
            ([lamps()], {"lamp": {}}, "tools.lamp: there is no such tool source; there are lamps"),
            ([lamps()], {"lamps": {"rooms": 1}}, "tools.lamps.rooms"),
            ([lamps(), lamps()], {}, "tools.lamps: "),
            ([lamps("device")], {}, "tools.device: "),
            ([Picky("p", "P.", LampSettings)], {"p": {}}, "tools.p: room: there is no such room"),
        ]
        for makers, sections, words in cases:
            error = self.assertRaises(ConfigError, self.choose, *makers, **sections)
            self.assertIn(words, error.message)

    def test_a_failing_source_affects_no_other(self) -> None:
        bad = lamps("bad")

        @bad.on_start
        async def connect(_: object, __: object) -> None:
            raise ToolError("no", "the key is wrong")

        sources = self.choose(bad, lamps("good"), bad={}, good={})
        self.successResultOf(sources.start())
        self.assertEqual(
            sources.health(),
            [
                {"name": "bad", "state": "failed", "reason": "the key is wrong"},
                {"name": "good", "state": "ready", "reason": ""},
            ],
        )
        self.assertEqual(sources.trouble(), "bad: the key is wrong")
        self.successResultOf(sources.stop())
        self.assertEqual({each["state"] for each in sources.health()}, {"stopped"})

    def test_timers_end_with_their_source(self) -> None:
        module = lamps()

        @module.on_start
        async def begin(_: object, runtime: Any) -> None:
            async def work() -> None:
                """Never reached."""

            runtime.timers.after(60, work)

        sources = self.choose(module, lamps={})
        self.successResultOf(sources.start())
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.successResultOf(sources.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])


class TimerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.timers = SourceTimers("x", self.clock, most=2)
        self.done: list[str] = []

    def work(self, name: str, waits: Deferred[None] | None = None) -> Callable[[], Any]:
        async def run() -> None:
            try:
                await (waits or succeed(None))
            except CancelledError:
                self.done.append(f"{name} cancelled")
                raise
            self.done.append(name)

        return run

    def test_they_run_once_and_make_room(self) -> None:
        self.timers.after(2, self.work("a"))
        self.timers.after(-1, self.work("b"))
        self.assertRaises(ToolError, self.timers.after, 1, self.work("c"))
        self.clock.advance(0)
        self.assertEqual(self.done, ["b"])
        self.timers.after(1, self.work("c"))
        self.clock.advance(5)
        self.clock.advance(5)
        self.assertEqual(sorted(self.done), ["a", "b", "c"])

    def test_taking_back(self) -> None:
        take_back = self.timers.after(2, self.work("a"))
        take_back()
        take_back()
        running = self.timers.after(1, self.work("b", Deferred()))
        self.clock.advance(5)
        running()
        self.assertEqual(self.done, ["b cancelled"])
        self.timers.after(1, self.work("c"))
        self.timers.after(1, self.work("d"))

    def test_the_end(self) -> None:
        self.timers.after(1, self.work("a", Deferred()))
        self.timers.after(9, self.work("b"))
        self.clock.advance(1)
        self.timers.stop()
        self.timers.stop()
        self.assertEqual((self.done, self.clock.getDelayedCalls()), (["a cancelled"], []))
        self.assertRaises(ToolError, self.timers.after, 1, self.work("c"))

    def test_an_exception_is_logged(self) -> None:
        self.timers.after(1, self.work("a", fail(RuntimeError("broken"))))
        self.clock.advance(1)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.timers.after(1, self.work("b"))
        self.timers.after(1, self.work("c"))


class ValueTests(SynchronousTestCase):
    def test_sources_are_apart_and_bounds_hold(self) -> None:
        store = MemoryToolStore()
        one, two = SourceValues("one", store), SourceValues("two", store)
        self.successResultOf(one.put("d", "k", "1"))
        self.assertIsNone(self.successResultOf(two.get("d", "k")))
        self.assertEqual(self.successResultOf(one.of("d")), {"k": "1"})
        self.successResultOf(one.put("d" * KEY_LIMIT, "k" * KEY_LIMIT, "ä" * (VALUE_LIMIT // 2)))
        for owner, key, value, code in (
            ("d", "", "v", "bad_key"),
            ("d", "k" * (KEY_LIMIT + 1), "v", "bad_key"),
            ("d" * (KEY_LIMIT + 1), "k", "v", "bad_key"),
            ("d", "k", "ä" * (VALUE_LIMIT // 2 + 1), "value_too_large"),
        ):
            error = self.failureResultOf(one.put(owner, key, value), StoreError).value
            self.assertEqual(error.code, code)
        self.successResultOf(one.remove("d", "k"))
        self.assertEqual(self.successResultOf(one.of("d")), {})


class Inbox:
    """Accepts mail, or fails."""

    def __init__(self, answer: Receipt | StoreError) -> None:
        self.posted: list[tuple[str, Mail, float]] = []
        self._answer = answer

    def post(self, device_id: str, mail: Mail, ttl: float) -> Deferred[Receipt]:
        self.posted.append((device_id, mail, ttl))
        answer = self._answer
        return fail(answer) if isinstance(answer, StoreError) else succeed(answer)


class MailboxTests(SynchronousTestCase):
    def code(self, inbox: IDeviceInbox | None, words: str) -> str:
        waiting = Mailbox(inbox).announce("d", words)
        return str(self.failureResultOf(waiting, ToolError).value.code)

    def test_announcing(self) -> None:
        inbox: Any = Inbox(Receipt(delivered=True, node="n", expires=0.0))
        self.assertTrue(self.successResultOf(Mailbox(inbox).announce("d", "Tea is ready.", 60)))
        self.assertEqual(inbox.posted, [("d", Mail(say="Tea is ready."), 60)])
        self.assertEqual(self.code(inbox, "  "), "no_words")

    def test_failures(self) -> None:
        self.assertEqual(self.code(None, "Hello."), "no_mailbox")
        full: Any = Inbox(StoreError("inbox_full", "the inbox at redis://secret is full"))
        self.assertEqual(self.code(full, "Hello."), "inbox_full")


class Changing:
    """A tool in a list that changes."""

    limit: float | None = None
    lane = ""
    interruptible = True

    def __init__(self, title: str, description: str = "") -> None:
        self.spec = ToolSpec(title, description or title, {"type": "object"}, title)


class ToolboxUpdateTests(SynchronousTestCase):
    def names(self, box: Toolbox) -> list[str]:
        return [spec.name for spec in box.specs]

    def test_tools_come_and_go_and_keep_their_names(self) -> None:
        box = Toolbox()
        tools: Any = [Changing("a"), Changing("b"), Changing("a")]
        box.update("one", tools)
        box.update("two", [Changing("a")])  # type: ignore[list-item]
        names = self.names(box)
        self.assertEqual(names[:2], ["a", "b"])
        self.assertRegex(names[2], r"^a_[0-9a-f]{6}$")
        # The first "a" is removed: the other one keeps its name.
        box.update("one", [Changing("c"), Changing("b", "better")])  # type: ignore[list-item]
        self.assertEqual(self.names(box), ["b", names[2], "c"])
        self.assertEqual(box.specs[0].description, "better")
        box.update("one", tools)
        self.assertEqual(set(self.names(box)), {"a", "b", names[2]})
        box.update("one", [])
        box.update("two", [])
        self.assertEqual(box.specs, [])

    def test_a_removed_tool_is_unknown(self) -> None:
        box = Toolbox()
        box.update("one", [Changing("lamp")])  # type: ignore[list-item]
        self.assertEqual(box.resolve("LAMP"), "lamp")
        box.update("one", [])
        self.assertEqual(box.resolve("LAMP"), "LAMP")
        self.assertIsNone(box.parameters("lamp"))
        waiting = Deferred.fromCoroutine(box.call("lamp", "{}"))
        self.assertEqual(self.failureResultOf(waiting, ToolError).value.code, "unknown_tool")
