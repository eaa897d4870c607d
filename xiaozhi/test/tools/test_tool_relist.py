"""A device whose list of tools changes while it talks."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.interfaces.toolsource import SourceState, ToolSession
from xiaozhi.tools.device.mcp import DeviceMcp
from xiaozhi.tools.settings import McpSettings
from xiaozhi.wire.messages import Device, Mcp

SESSION = ToolSession(Device("aa:bb:cc:dd:ee:ff", "c", "u"))
CHANGED = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}


class RelistTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.clock = Clock()
        self.changes = 0
        self.mcp = DeviceMcp(
            lambda message: self.sent.append(json.loads(message.payload)),
            self.clock,
            McpSettings(answer=10, relist=5, tools=3),
        )

        def changed() -> None:
            self.changes += 1

        self.mcp.watch(changed)

    def ready(self, *names: str) -> None:
        self.mcp.start()
        self.answer({"protocolVersion": "2024-11-05"})
        self.answer_list(*names)
        self.assertEqual((self.names, self.changes), ([*names], 1))
        self.sent.clear()

    def answer(self, result: object) -> None:
        self.send({"jsonrpc": "2.0", "id": self.sent[-1]["id"], "result": result})

    def answer_list(self, *names: str, cursor: str = "") -> None:
        self.answer({"tools": [{"name": name} for name in names], "nextCursor": cursor})

    def fail_list(self) -> None:
        error = {"jsonrpc": "2.0", "id": self.sent[-1]["id"], "error": {"message": "no"}}
        self.send(error)

    def send(self, message: object) -> None:
        self.mcp.received(Mcp(json.dumps(message).encode()))

    @property
    def names(self) -> list[str]:
        return [tool.spec.title for tool in self.mcp.tools(SESSION)]

    @property
    def lists(self) -> int:
        """How often the first page was asked for."""
        return sum(
            each["method"] == "tools/list" and not each["params"].get("cursor")
            for each in self.sent
        )

    def test_the_new_list_replaces_the_former_when_it_is_complete(self) -> None:
        self.ready("a", "b")
        self.clock.advance(60)
        self.send(CHANGED)
        self.clock.advance(0)
        self.answer_list("c", cursor="more")
        self.assertEqual((self.names, self.changes), (["a", "b"], 1))
        self.answer_list("b")
        self.assertEqual((self.names, self.changes), (["c", "b"], 2))
        self.assertEqual([each["method"] for each in self.sent], ["tools/list"] * 2)

    def test_the_former_list_holds_if_the_new_one_fails(self) -> None:
        self.ready("a")

        def refuse() -> None:
            self.fail_list()

        def break_off() -> None:
            self.answer_list("x", cursor="more")
            self.fail_list()

        def malformed() -> None:
            self.answer(None)

        def silent() -> None:
            self.clock.advance(10)

        for trouble in (refuse, break_off, malformed, silent):
            self.clock.advance(60)
            self.send(CHANGED)
            self.clock.advance(0)
            trouble()
            self.assertEqual((self.names, self.changes), (["a"], 1), trouble)
            self.assertIs(self.mcp.status.state, SourceState.READY)
        self.clock.advance(60)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.send(CHANGED)
        self.clock.advance(0)
        self.answer_list()
        self.assertEqual((self.names, self.changes), ([], 2))

    def test_a_flood_costs_one_list_an_interval(self) -> None:
        self.ready("a")
        for _ in range(1000):
            self.send(CHANGED)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(4.9)
        self.assertEqual(self.lists, 0)
        self.clock.advance(0.1)
        self.assertEqual(self.lists, 1)
        # While it is listed: one more waits, from the end of this one on.
        for _ in range(1000):
            self.send(CHANGED)
        self.clock.advance(9)
        self.answer_list("b")
        self.assertEqual(self.lists, 1)
        self.clock.advance(4.9)
        self.assertEqual(self.lists, 1)
        self.clock.advance(0.1)
        self.assertEqual(self.lists, 2)
        self.answer_list("c")
        self.clock.advance(60)
        self.assertEqual((self.lists, self.names), (2, ["c"]))

    def test_a_change_during_the_first_list(self) -> None:
        self.mcp.start()
        self.send(CHANGED)
        self.answer({})
        self.answer_list("a")
        self.clock.advance(5)
        self.answer_list("b")
        self.assertEqual(self.names, ["b"])

    def test_a_device_that_was_silent_at_first(self) -> None:
        self.mcp.start()
        self.clock.advance(10)
        self.assertIs(self.mcp.status.state, SourceState.FAILED)
        self.send(CHANGED)
        self.clock.advance(5)
        self.answer_list("a")
        self.assertEqual(self.names, ["a"])
        self.assertIs(self.mcp.status.state, SourceState.READY)

    def test_a_device_without_mcp_is_asked_for_nothing(self) -> None:
        self.send(CHANGED)
        self.clock.advance(60)
        self.assertEqual(self.sent, [])

    def test_the_end(self) -> None:
        self.ready("a")
        self.send(CHANGED)
        self.mcp.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.setUp()
        self.ready("a")
        self.send(CHANGED)
        self.clock.advance(5)
        self.mcp.stop()
        self.mcp.stop()
        self.send(CHANGED)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.names, ["a"])

    def test_other_limits(self) -> None:
        self.ready("a", "b", "c")
        (first, *_) = self.mcp.tools(SESSION)
        self.mcp.adopt(McpSettings(tools=2, call=7, relist=5))
        self.assertEqual((self.names, first.limit), (["a", "b"], 8))
        # There may be more than were taken.
        self.clock.advance(5)
        self.assertEqual(self.lists, 0)
        self.mcp.adopt(McpSettings(tools=4, relist=5))
        self.clock.advance(5)
        self.answer_list("a", "b", "c", "d", "e")
        self.assertEqual(self.names, ["a", "b", "c", "d"])
