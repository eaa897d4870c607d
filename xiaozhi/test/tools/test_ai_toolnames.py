"""Tools as devices describe them and models call them: names, schemas, arguments, results."""

from __future__ import annotations

import json
import re
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from xiaozhi.base.values import ToolSpec
from xiaozhi.interfaces import ITool
from xiaozhi.testing.parts import function_tools
from xiaozhi.tools.arguments import read_arguments
from xiaozhi.tools.builtin.time import functions
from xiaozhi.tools.device.mcp import DeviceMcp
from xiaozhi.tools.device.mcpresult import text_of
from xiaozhi.tools.device.things import DeviceThings
from xiaozhi.tools.schema import UnusableSchema, repaired
from xiaozhi.tools.settings import McpSettings
from xiaozhi.tools.toolbox import Toolbox
from xiaozhi.wire.messages import Iot, Mcp

VENDORS_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


@implementer(ITool)
class Named:
    """A tool with a given name."""

    limit: float | None = None
    lane = ""
    interruptible = True

    def __init__(self, title: str) -> None:
        self.spec = ToolSpec(re.sub(r"\W", "_", title)[:64], "does it", {"type": "object"}, title)

    async def call(self, arguments: dict[str, Any]) -> str:
        return self.spec.title


class Other(Named):
    """A tool of another source."""


def box(*titles: str) -> Toolbox:
    return Toolbox([Named(title) for title in titles])


class NameTests(SynchronousTestCase):
    """Every tool can be offered and called."""

    def called(self, toolbox: Toolbox, name: str) -> str:
        name = toolbox.resolve(name)
        called = Deferred.fromCoroutine(toolbox.call(name, ""))
        return self.successResultOf(called).text

    def test_distinct_and_callable(self) -> None:
        for titles in (
            ("打开灯", "关闭灯", "打开窗帘"),
            ("灯.打开", "灯.关闭"),
            ("self.lamp.on", "self_lamp_on", "self-lamp-on", "self lamp on"),
            ("x" * 70, "x" * 71, "x" * 64),
            ("self." + "很长的名字" * 30 + "一", "self." + "很长的名字" * 30 + "二"),
            ("Lampe an", "Lampe aus", "лампа", "λάμπα", "مصباح", "💡", "💡💡"),
            ("3d.print", "-x", "_", "__", ".", "..", " "),
            ("self.音量.set", "self.亮度.set"),
            ("\ud800", "a\x00b", "a\nb"),
        ):
            toolbox = box(*titles)
            names = [spec.name for spec in toolbox.specs]
            self.assertEqual(len(set(names)), len(titles), titles)
            for name, title in zip(names, titles, strict=True):
                self.assertRegex(name, VENDORS_NAME)
                self.assertLessEqual(len(name), 64)
                self.assertEqual(self.called(toolbox, name), title)
            # The same in the next session, independent of earlier ones.
            again = [spec.name for spec in box(*titles).specs]
            self.assertEqual(names, again)

    def test_plain_names_stay(self) -> None:
        for title, name in (
            ("self.audio_speaker.set_volume", "self_audio_speaker_set_volume"),
            ("get_time", "get_time"),
            ("Lamp-1.On", "Lamp-1_On"),
        ):
            self.assertEqual([spec.name for spec in box(title).specs], [name])

    def test_a_model_gets_the_meaning_of_a_foreign_name(self) -> None:
        for title in ("打开灯", "灯.打开", "self.音量.set", "a b", "x" * 80):
            (spec,) = box(title).specs
            self.assertIn(title, spec.description)
        (spec,) = box("self.plain").specs
        self.assertEqual(spec.description, "does it")

    def test_the_same_tool_again_is_no_other(self) -> None:
        toolbox = box("打开灯", "打开灯", "a.b", "a.b")
        self.assertEqual(len(toolbox.specs), 2)
        # A tool of another source counts.
        toolbox.add(Other("a.b"))
        self.assertEqual(len({spec.name for spec in toolbox.specs}), 3)
        self.assertEqual(toolbox.specs[1].name, "a_b")

    def test_a_device_does_not_hide_our_functions(self) -> None:
        toolbox = Toolbox([*function_tools(functions, Clock()), Named("get_time")])
        self.assertEqual(self.called(toolbox, toolbox.specs[-1].name), "get_time")
        self.assertIn("timezone", self.called(toolbox, "get_time"))

    def test_long_descriptions_are_cut(self) -> None:
        tool = Named("x")
        tool.spec = ToolSpec("x", "y" * 5000, {}, "x")
        self.assertEqual(len(Toolbox([tool]).specs[0].description), 1024)

    def test_spelled_otherwise(self) -> None:
        toolbox = box(
            "self.audio_speaker.set_volume", "self.lamp.set_color", "打开灯", "self.light.on",
            "get_time", "self.fan.on",
        )  # fmt: skip
        volume = "self.audio_speaker.set_volume"
        for spelled, title in (
            ("self.audio_speaker.set_volume", volume),
            ("self_audio_speaker_set_volume", volume),
            ("Self.Audio_Speaker.SetVolume", volume),
            ("self-audio-speaker-set-volume", volume),
            ("selfAudioSpeakerSetVolume", volume),
            ("functions.self_audio_speaker_set_volume", volume),
            ("functions.self.audio_speaker.set_volume", volume),
            ("function.get_time", "get_time"),
            ("tools.get_time", "get_time"),
            ("default_api.get_time", "get_time"),
            ("mcp__xiaozhi__self_audio_speaker_set_volume", volume),
            ("audio_speaker.set_volume", volume),
            ("set_volume", volume),
            (" get_time ", "get_time"),
            ('"get_time"', "get_time"),
            ("get_time()", "get_time"),
            ("get_time<|channel|>commentary", "get_time"),
            ("GET_TIME", "get_time"),
            ("打开灯", "打开灯"),
            ("functions.打开灯", "打开灯"),
            ("light.on", "self.light.on"),
        ):
            self.assertEqual(self.called(toolbox, spelled), title, spelled)
        for unclear in ("on", "f.on", "", "self", "reboot", "关闭灯", "time", "."):
            if unclear != "time":
                self.assertNotIn(toolbox.resolve(unclear), [s.name for s in toolbox.specs], unclear)
        colliding = box("a.b", "a_b")
        self.assertEqual(colliding.resolve("A-B"), "A-B", "it may be either")
        self.assertEqual(self.called(colliding, "a_b"), "a.b")


class ThingNameTests(SynchronousTestCase):
    """Methods of the things protocol likewise."""

    def test_distinct_and_callable(self) -> None:
        sent: list[Any] = []
        things = DeviceThings(sent.append, 64)
        told = [
            {"name": "灯", "methods": {"打开": {}, "关闭": {}}},
            {"name": "窗帘", "methods": {"打开": {}}},
            {"name": "a_b", "methods": {"c": {}}},
            {"name": "a", "methods": {"b_c": {}, "b.c": {}}},
            {"name": "a.b", "methods": {"c": {}}},
        ]
        toolbox = Toolbox(things.received(Iot(json.dumps({"descriptors": told}).encode())))
        names = [spec.name for spec in toolbox.specs]
        self.assertEqual(len(set(names)), 7)
        self.assertIn("a_b_c", names)
        for name in names:
            self.assertRegex(name, VENDORS_NAME)
            self.successResultOf(Deferred.fromCoroutine(toolbox.call(name, "{}")))
        commands = [json.loads(each.payload)["commands"][0] for each in sent]
        made = [(command["name"], command["method"]) for command in commands]
        wanted = [(thing["name"], method) for thing in told for method in thing["methods"]]
        self.assertEqual(made, wanted)
        self.assertEqual(len(toolbox.specs), 7)
        for tool in DeviceThings(sent.append, 64).received(
            Iot(json.dumps({"descriptors": told}).encode())
        ):
            toolbox.add(tool)
        self.assertEqual(len(toolbox.specs), 7, "described again")


TEXT = {"type": "string"}


def one(schema: Any) -> dict[str, Any]:
    """Make a tool with one parameter."""
    return {"type": "object", "properties": {"z": schema}}


class SchemaTests(SynchronousTestCase):
    """A malformed schema must not cost the session its model."""

    # A schema of one parameter, and its corrected form.
    PARAMETERS: tuple[tuple[Any, Any], ...] = (
        ({"type": "array"}, {"type": "array", "items": TEXT}),
        ({"type": "array", "items": None}, {"type": "array", "items": TEXT}),
        ({"type": "array", "items": [{"type": "integer"}]},
            {"type": "array", "items": {"type": "integer"}}),
        ({"type": "array", "items": {"type": "array"}},
            {"type": "array", "items": {"type": "array", "items": TEXT}}),
        (None, TEXT),
        ([], TEXT),
        (7, TEXT),
        ("integer", {"type": "integer"}),
        ({"type": "int"}, {"type": "integer"}),
        ({"type": "float"}, {"type": "number"}),
        ({"type": "double"}, {"type": "number"}),
        ({"type": "bool"}, {"type": "boolean"}),
        ({"type": "str"}, TEXT),
        ({"type": "String"}, TEXT),
        ({"type": "dict"}, {"type": "object"}),
        ({"type": "any"}, TEXT),
        ({"type": None}, TEXT),
        ({"type": 5}, TEXT),
        ({"type": []}, TEXT),
        ({"type": ["integer", "null"]}, {"type": "integer"}),
        ({"type": ["null", "string"]}, TEXT),
        ({"type": {"type": "string"}}, TEXT),
        ({"description": "x"}, {"type": "string", "description": "x"}),
        ({"properties": {"a": {}}}, {"type": "object", "properties": {"a": TEXT}}),
        ({"type": "integer", "minimum": "0", "maximum": 100}, {"type": "integer", "maximum": 100}),
        ({"type": "integer", "minimum": 9, "maximum": 1}, {"type": "integer"}),
        ({"type": "integer", "minimum": True}, {"type": "integer"}),
        ({"type": "integer", "exclusiveMinimum": True, "minimum": 1},
            {"type": "integer", "minimum": 1}),
        ({"type": "string", "enum": None}, TEXT),
        ({"type": "string", "enum": []}, TEXT),
        ({"type": "string", "enum": ["a", "a", None, {}]}, {"type": "string", "enum": ["a"]}),
        ({"type": "integer", "enum": ["a"]}, {"type": "string", "enum": ["a"]}),
        ({"type": "string", "description": 7}, TEXT),
        ({"type": "string", "pattern": None, "format": 1}, TEXT),
        ({"type": "string", "minLength": -1}, TEXT),
        ({"anyOf": []}, TEXT),
        ({"anyOf": [{"type": "int"}, {"type": "null"}]}, {"anyOf": [{"type": "integer"}]}),
        ({"$ref": "#/nowhere"}, TEXT),
        ({"$ref": 7}, TEXT),
        ({"type": "object", "required": "a"}, {"type": "object"}),
        ({"type": "object", "properties": {"a": {"type": "int"}}, "required": ["a", "b", 1]},
            {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}),
        ({"type": "object", "properties": None}, {"type": "object"}),
    )  # fmt: skip

    # Valid ones, which are not changed.
    SOUND: tuple[Any, ...] = (
        {"type": "integer", "minimum": 0, "maximum": 100, "description": "0-100"},
        {"type": "string", "enum": ["on", "off"], "default": "on"},
        {"type": "array", "items": {"type": "number"}, "minItems": 1, "maxItems": 3},
        {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        {"type": "object", "properties": {"a": TEXT}, "required": ["a"],
            "additionalProperties": False},
    )  # fmt: skip

    # Whole schemas.
    WHOLE: tuple[tuple[Any, Any], ...] = (
        (None, {}),
        ({}, {}),
        ([], {}),
        ("object", {}),
        ({"type": "string"}, {}),
        ({"properties": []}, {}),
        ({"type": "object", "required": None}, {}),
        ({"type": "object", "required": "x"}, {}),
        ({"type": ["object"]}, {}),
        ({"type": "Object", "properties": {"a": TEXT}}, {"properties": {"a": TEXT}}),
        ({"properties": {"a": {**TEXT, "required": True}}},
            {"properties": {"a": TEXT}, "required": ["a"]}),
        ({"properties": {"": TEXT, "a": TEXT}}, {"properties": {"a": TEXT}}),
        ({"anyOf": [{"required": ["a"]}], "properties": {"a": TEXT}}, {"properties": {"a": TEXT}}),
        ({"properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"type": "int"}}},
            {"properties": {"a": {"type": "integer"}}}),
        ({"$ref": "#/definitions/A", "definitions": {"A": {"properties": {"a": TEXT}}}},
            {"properties": {"a": TEXT}}),
    )  # fmt: skip

    def test_parameters(self) -> None:
        for told, meant in self.PARAMETERS:
            schema, changed = repaired(one(told))
            self.assertEqual(schema, one(meant), repr(told))
            if told != {"description": "x"} and told != {"properties": {"a": {}}}:
                self.assertTrue(changed, repr(told))

    def test_sound_ones_stay(self) -> None:
        for sound in self.SOUND:
            self.assertEqual(repaired(one(sound)), (one(sound), False))

    def test_whole_schemas(self) -> None:
        for told, meant in self.WHOLE:
            schema, _ = repaired(told)
            self.assertEqual(schema, {"type": "object", "properties": {}, **meant}, repr(told))

    def test_too_much(self) -> None:
        deep: Any = TEXT
        for _ in range(50):
            deep = {"type": "object", "properties": {"a": deep}}
        ring = {"$defs": {"A": {"properties": {"a": {"$ref": "#/$defs/A"}}}}}
        wide = {str(number): TEXT for number in range(1000)}
        for told in (
            one(deep),
            {**ring, "properties": {"a": {"$ref": "#/$defs/A"}}},
            {"properties": wide},
        ):
            self.assertRaises(UnusableSchema, repaired, told)

    def test_others_stay(self) -> None:
        """With one log line for a session; see test_conversation_vendors."""
        sent: list[Any] = []
        mcp = DeviceMcp(
            lambda message: sent.append(json.loads(message.payload)), Clock(), McpSettings()
        )
        found = Deferred.fromCoroutine(mcp.discover())
        deep = {"type": "object", "properties": {"z": {"type": "array"}}}
        for _ in range(40):
            deep = {"type": "object", "properties": {"a": deep}}
        tools = [
            {"name": "good", "inputSchema": one({"type": "integer"})},
            {"name": "odd", "inputSchema": one({"type": "array"})},
            {"name": "bad", "inputSchema": deep},
            {"name": "打开灯", "inputSchema": one(TEXT)},
        ]
        for result in ({}, {"tools": tools}):
            payload = {"jsonrpc": "2.0", "id": sent[-1]["id"], "result": result}
            mcp.received(Mcp(json.dumps(payload).encode()))
        titles = [tool.spec.title for tool in self.successResultOf(found)]
        self.assertEqual(titles, ["good", "odd", "打开灯"])
        self.assertEqual((mcp.repaired, mcp.left_out), (["odd"], ["bad"]))


class ArgumentTests(SynchronousTestCase):
    """Arguments as models write them."""

    SCHEMA = {
        "type": "object",
        "properties": {
            "volume": {"type": "integer"},
            "on": {"type": "boolean"},
            "name": TEXT,
            "colour": {"type": "string", "enum": ["red", "light_blue"]},
            "level": {"type": "number"},
            "list": {"type": "array", "items": TEXT},
            "more": {"type": "object"},
        },
    }
    # The model's arguments, and the tool's.
    ROWS: tuple[tuple[str, dict[str, Any]], ...] = (
        ("", {}),
        ("  ", {}),
        ("null", {}),
        ("None", {}),
        ('"null"', {}),
        ('""', {}),
        ("{}", {}),
        ('"{}"', {}),
        ("[]", {}),
        ('{"volume": 30}', {"volume": 30}),
        ('"{\\"volume\\": 30}"', {"volume": 30}),
        ('[{"volume": 30}]', {"volume": 30}),
        ('```json\n{"volume": 30}\n```', {"volume": 30}),
        ('{"volume": 30, "unit": "%", "reason": "asked"}', {"volume": 30}),
        ('{"volume": 30, "name": null}', {"volume": 30}),
        ('{"volume": null}', {}),
        ('{"arguments": {"volume": 30}}', {"volume": 30}),
        ('{"parameters": "{\\"volume\\": 30}"}', {"volume": 30}),
        ('{"Volume": 30}', {"volume": 30}),
        ('{"volume": "30"}', {"volume": 30}),
        ('{"volume": "30.0"}', {"volume": 30}),
        ('{"volume": 30.0}', {"volume": 30}),
        ('{"volume": 30.5}', {"volume": 30.5}),
        ('{"volume": "loud"}', {"volume": "loud"}),
        ('{"on": "true"}', {"on": True}),
        ('{"on": "Off"}', {"on": False}),
        ('{"on": 1}', {"on": True}),
        ('{"name": 7}', {"name": "7"}),
        ('{"name": true}', {"name": "true"}),
        ('{"colour": "Light Blue"}', {"colour": "light_blue"}),
        ('{"colour": "green"}', {"colour": "green"}),
        ('{"level": "1.5"}', {"level": 1.5}),
        ('{"list": "a"}', {"list": ["a"]}),
        ('{"list": "[\\"a\\"]"}', {"list": ["a"]}),
        ('{"more": "{\\"a\\": 1}"}', {"more": {"a": 1}}),
    )

    def test_rows(self) -> None:
        for text, meant in self.ROWS:
            told = read_arguments(text, self.SCHEMA)
            self.assertEqual(told, meant, text)
            self.assertEqual(list(map(type, told.values())), list(map(type, meant.values())), text)

    def test_no_schema(self) -> None:
        for text, meant in (
            ("null", {}),
            ('{"x": 1, "y": null}', {"x": 1, "y": None}),
            ('{"input": {"a": 1}}', {"input": {"a": 1}}),
        ):
            self.assertEqual(read_arguments(text, {"type": "object"}), meant)

    def test_others_are_welcome(self) -> None:
        schema = {**self.SCHEMA, "additionalProperties": True}
        self.assertEqual(read_arguments('{"x": 1}', schema), {"x": 1})

    def test_not_understood(self) -> None:
        for text in ("{", "7", "true", "[1, 2]", '[{"a": 1}, {"a": 2}]', "volume=30",
                     '{"a": NaN}', "[" * 9999, '{"a": 1e999}', '"\\ud800"', '"{"'):  # fmt: skip
            self.assertRaises(ValueError, read_arguments, text, self.SCHEMA)


class ResultTests(SynchronousTestCase):
    """Results of MCP tools, as text."""

    ROWS: tuple[tuple[Any, str], ...] = (
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "a\nb"),
        ({"content": [{"type": "text", "text": "a"}], "structuredContent": {"b": 1}}, "a"),
        ({"structuredContent": {"temperature": 21.5, "城市": "上海"}},
            '{"temperature":21.5,"城市":"上海"}'),
        ({"content": [], "structuredContent": [1, 2]}, "[1,2]"),
        ({"content": [], "structuredContent": 0}, "0"),
        ({"content": [{"type": "text", "text": ""}], "structuredContent": "x"}, "x"),
        ({"content": []}, ""),
        ({"content": None}, ""),
        ({"content": "plain"}, "plain"),
        ({"content": {"type": "text", "text": "one"}}, "one"),
        ({"content": ["a", {"type": "text", "text": "b"}, None]}, "a\nb"),
        ({"content": [{"text": {"a": 1}}]}, '{"a":1}'),
        ({"content": [{"type": "resource", "resource": {"uri": "f:x", "text": "words"}}]}, "words"),
        ({"content": [{"type": "resource", "resource": {"uri": "f:x", "blob": "AAAA"}}]}, "[f:x]"),
        ({"content": [{"type": "resource", "resource": {"blob": "AAAA", "mimeType": "a/b"}}]},
            "[a/b]"),
        ({"content": [{"type": "resource_link", "uri": "https://x/y", "name": "Y"}]},
            "[Y, https://x/y]"),
        ({"content": [{"type": "image", "data": "AAAA", "mimeType": "image/png"}]},
            "[a picture: image/png]"),
        ({"content": [{"type": "audio", "data": "AAAA"}]}, "[a sound: of an unknown kind]"),
        ({"content": [{"type": "json", "json": {"a": 1}}]}, '{"a":1}'),
        ({"content": [{"type": "unheard", "x": 1}]}, ""),
        ({"content": [{"temperature": 3}]}, '{"temperature":3}'),
        ({"toolResult": "old"}, "old"),
        ({"temperature": 3, "isError": False}, '{"temperature":3}'),
        ({"isError": False}, ""),
        ({}, ""),
        ("a string", "a string"),
        (True, "true"),
        (7, "7"),
        (None, "null"),
        (["a", "b"], '["a","b"]'),
    )  # fmt: skip

    def test_rows(self) -> None:
        for result, text in self.ROWS:
            self.assertEqual(text_of(result), text, repr(result))

    def test_from_a_device(self) -> None:
        sent: list[Any] = []
        mcp = DeviceMcp(
            lambda message: sent.append(json.loads(message.payload)), Clock(), McpSettings()
        )
        for result, text in self.ROWS:
            called = Deferred.fromCoroutine(mcp.call("x", {}))
            payload = {"jsonrpc": "2.0", "id": sent[-1]["id"], "result": result}
            mcp.received(Mcp(json.dumps(payload).encode()))
            found = self.successResultOf(called)
            carried = "" if found.pictures else text
            self.assertEqual((found.text, found.final), (carried, False), repr(result))
