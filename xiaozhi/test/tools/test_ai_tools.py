"""Server functions and devices' tools."""

from __future__ import annotations

import json
from typing import Annotated, Any

from msgspec import Meta
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.base.errors import ToolError
from xiaozhi.interfaces import ITool
from xiaozhi.interfaces.toolsource import ToolSession
from xiaozhi.testing.parts import function_tools
from xiaozhi.tools.builtin.time import functions
from xiaozhi.tools.device.mcp import DeviceMcp
from xiaozhi.tools.device.things import DeviceThings
from xiaozhi.tools.functions import FunctionModule, NoSettings, ToolContext
from xiaozhi.tools.settings import McpSettings
from xiaozhi.tools.toolbox import Toolbox
from xiaozhi.wire.messages import Device, Error, Iot, Mcp

Context = ToolContext[NoSettings]


def module() -> FunctionModule[NoSettings]:
    return FunctionModule("lights", "Lights.")


def tools_of(module: FunctionModule[Any], ended: list[bool] | None = None) -> list[ITool]:
    """Return a source's tools for a session, at a moment of 2026."""
    clock = Clock()
    clock.advance(1_790_000_000)
    marks = [] if ended is None else ended
    device = Device("aa:bb:cc:dd:ee:ff", "c", "u")
    session = ToolSession(device, end=lambda: marks.append(True))
    return function_tools(module, clock, session)


class Case(SynchronousTestCase):
    def call(self, box: Toolbox, name: str, arguments: str = "{}") -> str:
        result = self.successResultOf(Deferred.fromCoroutine(box.call(name, arguments)))
        self.assertFalse(result.final)
        return result.text

    def refused(self, box: Toolbox, name: str, arguments: str = "{}") -> ToolError:
        failure = self.failureResultOf(Deferred.fromCoroutine(box.call(name, arguments)))
        assert isinstance(failure.value, ToolError)
        return failure.value


class FunctionModuleTests(Case):
    def test_schema_comes_from_annotations(self) -> None:
        lights = module()

        @lights.function
        async def dim(
            context: Context, level: Annotated[int, Meta(ge=0, le=9)], room: str = "all"
        ) -> str:
            """Dim the light."""
            return f"{room}:{level}"

        box = Toolbox(tools_of(lights))
        (spec,) = box.specs
        self.assertEqual((spec.name, spec.description), ("dim", "Dim the light."))
        self.assertEqual(spec.parameters["required"], ["level"])
        self.assertEqual(spec.parameters["properties"]["level"]["maximum"], 9)
        self.assertEqual(self.call(box, "dim", '{"level": 3}'), "all:3")

    def test_bad_arguments_are_named(self) -> None:
        lights = module()

        @lights.function
        async def dim(context: Context, level: Annotated[int, Meta(ge=0, le=9)]) -> str:
            """Dim the light."""
            return str(level)

        box = Toolbox(tools_of(lights))
        self.assertIn("level", self.refused(box, "dim", '{"level": 12}').message)
        self.assertIn("level", self.refused(box, "dim").message)
        self.assertIn("JSON", self.refused(box, "dim", "{").message)
        self.assertIn("object", self.refused(box, "dim", "[1, 2]").message)
        for broken in ('{"level": "\\ud800"}', '{"level": 1e400}', '{"level": NaN}', "[" * 9999):
            self.assertIn("JSON", self.refused(box, "dim", broken).message)
        self.assertEqual(self.refused(box, "bright").code, "unknown_tool")

    def test_undescribed_functions_are_refused(self) -> None:
        lights = module()

        async def mute(context: Context) -> str:
            return ""

        async def loud(context: Context, level) -> str:  # type: ignore[no-untyped-def]
            """Be loud."""
            return ""

        self.assertRaises(ValueError, lights.function, mute)
        self.assertRaises(ValueError, lights.function, loud)


class ShippedFunctionTests(Case):
    def test_time_and_date(self) -> None:
        box = Toolbox(tools_of(functions))
        time = json.loads(self.call(box, "get_time", '{"timezone": "Asia/Shanghai"}'))
        self.assertEqual(time, {"time": "22:13", "timezone": "CST"})
        date = json.loads(self.call(box, "get_date", '{"timezone": "UTC"}'))
        self.assertEqual(date, {"date": "2026-09-21", "weekday": "Monday"})
        self.assertIn("Nowhere", self.refused(box, "get_time", '{"timezone":"Nowhere"}').message)

    def test_end(self) -> None:
        ended: list[bool] = []
        self.call(Toolbox(tools_of(functions, ended)), "end_conversation")
        self.assertEqual(ended, [True])


class DeviceMcpTests(Case):
    def setUp(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.clock = Clock()
        self.device("http://x/vision", "t")

    def device(self, url: str = "", token: str = "") -> None:
        self.mcp = DeviceMcp(
            lambda message: self.sent.append(json.loads(message.payload)),
            self.clock,
            McpSettings(answer=10, call=30, camera=70),
            (url, token),
        )

    def answer(self, result: object, number: object = None) -> None:
        payload = {"jsonrpc": "2.0", "id": number or self.sent[-1]["id"], "result": result}
        self.mcp.received(Mcp(json.dumps(payload).encode()))

    def discovered(self) -> list[ITool]:
        found = Deferred.fromCoroutine(self.mcp.discover())
        self.answer({"protocolVersion": "2024-11-05"})
        self.answer(
            {
                "tools": [{"name": "self.a.b", "inputSchema": {"type": "object"}}],
                "nextCursor": "self.c",
            }
        )
        self.assertEqual(self.sent[-1]["params"], {"cursor": "self.c"})
        self.answer({"tools": [{"name": "self.camera.take_photo", "description": "Snap"}]})
        return self.successResultOf(found)

    def test_discovery_by_pages(self) -> None:
        tools = self.discovered()
        self.assertEqual([tool.spec.name for tool in tools], ["self_a_b", "self_camera_take_photo"])
        first = self.sent[0]
        self.assertEqual(first["method"], "initialize")
        self.assertEqual(
            first["params"]["capabilities"]["vision"], {"url": "http://x/vision", "token": "t"}
        )

    def test_ids_are_integers_counted_once(self) -> None:
        """§5.1: string ids are not answered; §5.2: ids must not be used twice."""
        self.discovered()
        ids = [request["id"] for request in self.sent]
        self.assertEqual(ids, [1, 2, 3])
        self.assertNotIn(None, [request["params"] for request in self.sent])

    def test_a_repeated_cursor_ends_the_list(self) -> None:
        self.device()
        found = Deferred.fromCoroutine(self.mcp.discover())
        self.answer({})
        self.assertNotIn("vision", self.sent[0]["params"]["capabilities"])
        for _ in range(2):
            self.answer({"tools": [{"name": "a"}], "nextCursor": "a"})
        self.assertEqual(len(self.successResultOf(found)), 2)

    def test_an_empty_page_ends_the_list(self) -> None:
        found = Deferred.fromCoroutine(self.mcp.discover())
        self.answer({})
        self.answer({"tools": [{"name": "a"}], "nextCursor": "b"})
        self.answer({"tools": [], "nextCursor": "c"})
        self.assertEqual(len(self.successResultOf(found)), 1)

    def test_a_list_that_breaks_off(self) -> None:
        """§5.2: a tool too large for a page is an error; the earlier ones can be used."""
        found = Deferred.fromCoroutine(self.mcp.discover())
        self.answer({})
        self.answer({"tools": [{"name": "a"}], "nextCursor": "b"})
        error = {"jsonrpc": "2.0", "id": 3, "error": {"message": "too large"}}
        self.mcp.received(Mcp(json.dumps(error).encode()))
        self.assertEqual([tool.spec.name for tool in self.successResultOf(found)], ["a"])

    def test_tools_that_models_reject(self) -> None:
        """Vendors refuse every request with one malformed tool in its list."""
        found = Deferred.fromCoroutine(self.mcp.discover())
        self.answer({})
        odd = [{"type": "string"}, {"properties": []}, {"type": "object", "required": "x"}]
        tools = [
            {"name": name, "inputSchema": schema} for name, schema in zip("abc", odd, strict=True)
        ]
        self.answer({"tools": [{"name": ""}, *tools]})
        specs = [tool.spec for tool in self.successResultOf(found)]
        self.assertEqual([spec.name for spec in specs], ["a", "b", "c"])
        for spec in specs:
            self.assertEqual(spec.parameters, {"type": "object", "properties": {}})

    def test_call(self) -> None:
        box = Toolbox(self.discovered())
        called = Deferred.fromCoroutine(box.call("self_a_b", '{"x": 1}'))
        self.assertEqual(self.sent[-1]["params"], {"name": "self.a.b", "arguments": {"x": 1}})
        self.answer({"content": [{"type": "text", "text": "true"}], "isError": False})
        self.assertEqual(self.successResultOf(called).text, "true")

    def test_an_error_without_code(self) -> None:
        """§9.10."""
        called = Deferred.fromCoroutine(self.mcp.call("self.x", {}))
        error = {"jsonrpc": "2.0", "id": 1, "error": {"message": "Unknown tool: self.x"}}
        self.mcp.received(Mcp(json.dumps(error).encode()))
        self.assertIn("Unknown tool", str(self.failureResultOf(called, ToolError).value))

    def test_an_error_as_result(self) -> None:
        called = Deferred.fromCoroutine(self.mcp.call("x", {}))
        self.answer({"content": [{"type": "text", "text": "broken"}], "isError": True})
        self.assertIn("broken", str(self.failureResultOf(called, ToolError).value))

    def test_text_ids_come_back(self) -> None:
        called = Deferred.fromCoroutine(self.mcp.call("x", {}))
        self.answer({"content": []}, "1")
        self.assertEqual(self.successResultOf(called).text, "")

    def test_silence_ends_by_the_clock(self) -> None:
        """§9.9: some requests are never answered."""
        cameras = ("self.camera.take_photo", "takePicture", "camera_capture", "拍照")
        for name, limit in (("self.x", 30), *((camera, 70) for camera in cameras)):
            called = Deferred.fromCoroutine(self.mcp.call(name, {}))
            self.clock.advance(limit - 0.1)
            self.assertNoResult(called)
            self.clock.advance(0.2)
            error = self.failureResultOf(called, ToolError).value
            self.assertEqual(error.code, "device_silent")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_strange_answers_are_ignored(self) -> None:
        called = Deferred.fromCoroutine(self.mcp.call("x", {}))
        for payload in (b"[]", b"{}", b'{"id": 99, "result": {}}', b'{"id": null}', b"{"):
            self.mcp.received(Mcp(payload))
        for strange in (b'"' + b"9" * 5000 + b'"', b"9" * 5000, b"true", b"[1]"):
            self.mcp.received(Mcp(b'{"id": ' + strange + b', "result": {}}'))
        self.assertNoResult(called)
        self.mcp.stop()
        self.failureResultOf(called, ToolError)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class DeviceThingsTests(Case):
    def test_methods_become_tools(self) -> None:
        sent: list[Any] = []
        things = DeviceThings(sent.append, 64)
        descriptor = {
            "descriptors": [
                {
                    "name": "Speaker",
                    "description": "a speaker",
                    "methods": {
                        "SetVolume": {
                            "description": "set it",
                            "parameters": {"volume": {"description": "0-100", "type": "number"}},
                        }
                    },
                }
            ]
        }
        box = Toolbox(things.received(Iot(json.dumps(descriptor).encode())))
        (spec,) = box.specs
        self.assertEqual(spec.name, "Speaker_SetVolume")
        self.assertEqual(spec.parameters["properties"]["volume"]["type"], "integer")
        self.call(box, spec.name, '{"volume": 30}')
        self.assertEqual(
            json.loads(sent[0].payload),
            {
                "commands": [
                    {"name": "Speaker", "method": "SetVolume", "parameters": {"volume": 30}}
                ]
            },
        )

    def test_states_and_nonsense_are_no_tools(self) -> None:
        things = DeviceThings(lambda _: None, 64)
        states = b'{"states":[{"name":"Lamp","state":{"on":true}},7],"descriptors":{}}'
        self.assertEqual(things.received(Iot(states)), [])

    def test_numbers_beyond_all_bounds(self) -> None:
        sent: list[Iot | Error] = []
        things = DeviceThings(sent.append, 64)
        self.assertEqual(things.received(Iot(b'{"states":[{"name":"Lamp","x":1e400}]}')), [])
        (error,) = sent
        assert isinstance(error, Error)
        self.assertEqual(error.code, "bad_json")

    def test_no_more_than_the_limit(self) -> None:
        """A device that describes things without end does not fill our memory."""
        things = DeviceThings(lambda _: None, 3)
        taken = 0
        for number in range(3):
            thing = {"name": f"Lamp{number}", "methods": {"On": {}, "Off": {}}}
            taken += len(things.received(Iot(json.dumps({"descriptors": [thing]}).encode())))
        self.assertEqual(taken, 3)
