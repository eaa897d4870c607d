"""The device's MCP server: :mod:`xiaozhi.device.firmware.mcp` and its tools."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.device.errors import DeviceError
from xiaozhi.device.events import ToolCalled
from xiaozhi.device.firmware.mcp import McpServer, Parameter, SimulatedTool, Value, VisionTarget
from xiaozhi.device.firmware.tools import Panel, device_tools
from xiaozhi.testing.wire import json_values


async def photo(question: str) -> str:
    if question == "fail":
        raise DeviceError("photo_failed", "Failed to upload photo")
    return '{"success":true,"text":"a cat"}'


class McpCase(SynchronousTestCase):
    page = 8000

    def setUp(self) -> None:
        self.panel = Panel()
        self.called: list[ToolCalled] = []
        tools = [*device_tools(self.panel, photo, '{"version":2}'), *self.more_tools()]
        self.mcp = McpServer(tools, self.called.append, page=self.page)

    def more_tools(self) -> list[SimulatedTool]:
        return []

    def raw(self, payload: str) -> str | None:
        return self.successResultOf(Deferred.fromCoroutine(self.mcp.answer(payload.encode())))

    def ask(self, method: str, **members: Any) -> dict[str, Any]:
        request = {"jsonrpc": "2.0", "id": 1, "method": method} | members
        reply = self.raw(json.dumps(request))
        assert reply is not None
        answer: dict[str, Any] = json.loads(reply)
        self.assertEqual((answer.pop("jsonrpc"), answer.pop("id")), ("2.0", 1))
        return answer

    def result(self, method: str, **params: Any) -> Any:
        return self.ask(method, params=params)["result"]

    def error(self, method: str, **members: Any) -> str:
        error = self.ask(method, **members)["error"]
        # The firmware's errors have no code.
        self.assertEqual(list(error), ["message"])
        return str(error["message"])

    def call(self, name: str, **arguments: Any) -> str:
        result = self.result("tools/call", name=name, arguments=arguments)
        self.assertIs(result["isError"], False)
        ((item),) = result["content"]
        self.assertEqual(item["type"], "text")
        return str(item["text"])


class ParserTests(McpCase):
    """The rules of §5.1."""

    def test_no_reply(self) -> None:
        for payload in (
            "",
            "[]",
            '"x"',
            "{",
            "{}",
            '{"jsonrpc":"2.0","id":1}',
            '{"jsonrpc":"1.0","id":1,"method":"tools/list"}',
            '{"jsonrpc":2.0,"id":1,"method":"tools/list"}',
            '{"id":1,"method":"tools/list"}',
            '{"jsonrpc":"2.0","id":1,"result":{}}',
            '{"jsonrpc":"2.0","method":"notifications/initialized"}',
            '{"jsonrpc":"2.0","id":1,"method":"notifications/x"}',
            '{"jsonrpc":"2.0","id":1,"method":"tools/list","params":null}',
            '{"jsonrpc":"2.0","id":1,"method":"tools/list","params":[]}',
            '{"jsonrpc":"2.0","method":"tools/list"}',
            '{"jsonrpc":"2.0","id":"1","method":"tools/list"}',
            '{"jsonrpc":"2.0","id":null,"method":"tools/list"}',
            '{"jsonrpc":"2.0","id":true,"method":"tools/list"}',
        ):
            self.assertIsNone(self.raw(payload), payload)

    def test_keys_in_any_case_and_the_first_wins(self) -> None:
        reply = self.raw('{"JSONRPC":"2.0","Id":7,"id":8,"METHOD":"tools/list"}')
        assert reply is not None
        self.assertEqual(json.loads(reply)["id"], 7)

    def test_ids_are_cut_to_32_bits(self) -> None:
        for given_id, id in (("1.9", 1), ("1e400", 2**31 - 1), ("-9999999999", -(2**31))):
            reply = self.raw(f'{{"jsonrpc":"2.0","id":{given_id},"method":"x"}}')
            assert reply is not None
            self.assertEqual(json.loads(reply)["id"], id)

    def test_unknown_method(self) -> None:
        self.assertIn("ping", self.error("ping"))

    def test_tools_call(self) -> None:
        self.assertEqual(self.error("tools/call"), "Missing params")
        self.assertEqual(self.error("tools/call", params={}), "Missing name")
        self.assertEqual(self.error("tools/call", params={"name": 5}), "Missing name")
        for arguments in (None, [1], "x", 1):
            params: dict[str, Any] = {"name": "self.get_device_status", "arguments": arguments}
            self.assertEqual(self.error("tools/call", params=params), "Invalid arguments")
        self.assertEqual(
            self.error("tools/call", params={"name": "self.x"}), "Unknown tool: self.x"
        )

    def test_errors_are_not_escaped(self) -> None:
        request = {"jsonrpc": "2.0", "id": 1, "method": 'a"b'}
        reply = self.raw(json.dumps(request))
        assert reply is not None
        self.assertRaises(ValueError, json.loads, reply)

    @given(st.dictionaries(st.sampled_from(["jsonrpc", "id", "method", "params"]), json_values))
    def test_anything(self, members: dict[str, str]) -> None:
        self.raw("{" + ",".join(f'"{k}":{v}' for k, v in members.items()) + "}")
        inner = ",".join(f'"{k}":{v}' for k, v in members.items())
        for method in ("initialize", "tools/list", "tools/call"):
            call = f'{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{inner}}}}}'
            self.assertIsNotNone(self.raw(call))


class InitializeTests(McpCase):
    def test_keeps_the_vision_service(self) -> None:
        vision = {"url": "http://x/vision", "token": "t"}
        result = self.result("initialize", capabilities={"vision": vision})
        self.assertEqual(result["protocolVersion"], "2024-11-05")
        self.assertEqual(result["capabilities"], {"tools": {}})
        self.assertEqual(self.mcp.vision, VisionTarget("http://x/vision", "t"))

    def test_everything_is_optional(self) -> None:
        every: list[dict[str, Any]] = [{}, {"capabilities": {}}, {"capabilities": {"vision": None}}]
        for params in every:
            self.result("initialize", **params)
        self.assertEqual(self.mcp.vision, VisionTarget())


class ListTests(McpCase):
    def names(self, result: Any) -> list[str]:
        return [tool["name"] for tool in result["tools"]]

    def test_one_page(self) -> None:
        result = self.result("tools/list", cursor="")
        self.assertEqual(
            self.names(result),
            [
                "self.get_device_status",
                "self.audio_speaker.set_volume",
                "self.screen.set_brightness",
                "self.screen.set_theme",
                "self.camera.take_photo",
            ],
        )
        self.assertNotIn("nextCursor", result)
        volume = result["tools"][1]["inputSchema"]
        self.assertEqual(
            volume,
            {
                "type": "object",
                "properties": {"volume": {"type": "integer", "minimum": 0, "maximum": 100}},
                "required": ["volume"],
            },
        )
        self.assertNotIn("required", result["tools"][0]["inputSchema"])

    def test_user_only_tools(self) -> None:
        result = self.result("tools/list", withUserTools=True)
        self.assertEqual(result["tools"][-1]["annotations"], {"audience": ["user"]})
        # Callable without having been listed.
        self.assertEqual(self.call("self.get_system_info"), '{"version":2}')

    def test_unknown_cursor(self) -> None:
        self.assertIn("nowhere", self.error("tools/list", params={"cursor": "nowhere"}))


class PageTests(ListTests):
    page = 600

    def more_tools(self) -> list[SimulatedTool]:
        async def run(_: dict[str, Value]) -> Value:
            return 5

        return [SimulatedTool(f"self.more.{n}", "Does nothing.", run) for n in range(9)]

    def test_one_page(self) -> None:
        names: list[str] = []
        cursor, pages = "", 0
        while True:
            reply = self.ask("tools/list", params={"cursor": cursor})["result"]
            self.assertLessEqual(len(json.dumps(reply, separators=(",", ":"))), self.page + 40)
            names += self.names(reply)
            pages += 1
            if "nextCursor" not in reply:
                break
            cursor = reply["nextCursor"]
            self.assertNotIn(cursor, names)
        self.assertEqual(len(names), len(set(names)))
        self.assertEqual(len(names), 14)
        self.assertGreater(pages, 2)

    def test_user_only_tools(self) -> None:
        self.assertEqual(self.call("self.more.3"), "5")


class TooBigTests(McpCase):
    page = 100

    def test_a_tool_larger_than_a_page(self) -> None:
        self.assertIn("self.get_device_status", self.error("tools/list"))


class ToolTests(McpCase):
    def more_tools(self) -> list[SimulatedTool]:
        async def run(arguments: dict[str, Value]) -> Value:
            return json.dumps(arguments)

        parameters = (
            Parameter("on", "boolean"),
            Parameter("quality", "integer", 1, 100, default=80),
        )
        return [SimulatedTool("self.more", "More.", run, parameters)]

    def test_volume(self) -> None:
        self.assertEqual(self.call("self.audio_speaker.set_volume", volume=30), "true")
        self.assertEqual(self.panel.volume, 30)
        status = json.loads(self.call("self.get_device_status"))
        self.assertEqual(status["audio_speaker"]["volume"], 30)
        self.assertEqual(
            self.called[0],
            ToolCalled("self.audio_speaker.set_volume", '{"volume":30}', "true", False),
        )

    def test_numbers(self) -> None:
        self.call("self.audio_speaker.set_volume", volume=50.9)
        self.assertEqual(self.panel.volume, 50)
        for wrong in ("50", True, None):
            params = {"name": "self.audio_speaker.set_volume", "arguments": {"volume": wrong}}
            self.assertEqual(
                self.error("tools/call", params=params), "Missing valid argument: volume"
            )
        for number, limit in ((101, "100"), (-1, "0")):
            params = {"name": "self.audio_speaker.set_volume", "arguments": {"volume": number}}
            self.assertIn(limit, self.error("tools/call", params=params))
        self.assertTrue(all(call.failed for call in self.called[1:]))

    def test_defaults(self) -> None:
        self.assertEqual(self.call("self.more", on=True), '{"on": true, "quality": 80}')
        self.assertEqual(
            self.call("self.more", on=False, quality="9"), '{"on": false, "quality": 80}'
        )

    def test_screen(self) -> None:
        self.assertEqual(self.call("self.screen.set_theme", theme="dark"), "true")
        self.assertEqual(self.call("self.screen.set_theme", theme="pink"), "false")
        self.call("self.screen.set_brightness", brightness=5)
        self.assertEqual((self.panel.theme, self.panel.brightness), ("dark", 5))

    def test_photo(self) -> None:
        self.assertIn("a cat", self.call("self.camera.take_photo", question="what?"))
        params = {"name": "self.camera.take_photo", "arguments": {"question": "fail"}}
        self.assertEqual(self.error("tools/call", params=params), "Failed to upload photo")
