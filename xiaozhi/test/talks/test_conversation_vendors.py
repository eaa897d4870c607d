"""Whole conversations with a chat vendor that deviates from the specification, on virtual time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random
from typing import Any

from xiaozhi.agents.settings import SessionSettings, TurnSettings
from xiaozhi.device import events as e
from xiaozhi.device.firmware.mcp import Parameter, SimulatedTool
from xiaozhi.providers.openai.chat import ChatSettings, OpenAIChat
from xiaozhi.testing.conversation import ConversationCase
from xiaozhi.testing.house import House
from xiaozhi.testing.logs import LogLines
from xiaozhi.testing.vendors.answers import ENDS, HELLO, TEXT, call, end, plain, say
from xiaozhi.testing.vendors.network import Network
from xiaozhi.testing.vendors.octets import DONE, stream, whole
from xiaozhi.testing.vendors.vendor import RESET, ScriptedVendor, Step, VendorRequest


@dataclass(frozen=True, slots=True)
class OddTool(SimulatedTool):
    """A tool with the schema of a device."""

    schema: Any = None

    def listed(self) -> str:
        told = {"name": self.name, "description": self.description, "inputSchema": self.schema}
        return json.dumps(told)


class VendorTests(ConversationCase):
    """Everything is real except clock, sockets, recogniser and voice."""

    def home(self, *scripts: Any) -> House:
        self.net = Network()
        self.vendor = ScriptedVendor(self.net, *scripts)
        self.net.listen(8000, self.vendor)
        settings = ChatSettings(base_url="http://127.0.0.1:8000/v1", model="m")
        chat = OpenAIChat(settings, self.net, Random(1))
        session = SessionSettings(turn=TurnSettings(bridge=0))
        house = self.house(clock=self.net, model=chat, session=session)

        def stop() -> None:
            house.until(chat.close())
            self.vendor.hang_up()
            house.run(1)

        self.addCleanup(stop)
        return house

    def test_everything_is_spoken_once(self) -> None:
        house = self.home()
        visitor = house.connect()
        for row in ENDS:
            # Slow answers are bridged by a phrase; test_vendor_answers has them.
            if row.text == TEXT and not row.calls and row.seconds < 2:
                self.vendor.play(row.steps)
                answer = house.until(visitor.device.text("Hi"))
                self.assertEqual(answer.text, TEXT, row.name)
                self.assertEqual((answer.tts_starts, answer.tts_stops), (1, 1), row.name)
        self.assertEqual(visitor.seen(e.Alerted), [])

    def test_a_cut_answer_is_apologised_for_once(self) -> None:
        house = self.home([*stream(*HELLO, say(" And"))[:-1], RESET])
        visitor = house.connect()
        answer = house.until(visitor.device.text("Hi"))
        self.assertTrue(answer.text.startswith(TEXT), answer.text)
        self.assertEqual(len(answer.sentences), 2, answer.sentences)

    def test_foreign_tools_with_malformed_schemas(self) -> None:
        ran: list[tuple[str, Any]] = []

        def tool(name: str, schema: Any) -> OddTool:
            async def run(arguments: dict[str, Any]) -> str:
                ran.append((name, arguments))
                return "done"

            optional = (Parameter("n", "integer", default=0),)
            return OddTool(name, "does it", run, optional, False, schema)

        deep: Any = {"type": "string"}
        for _ in range(10):
            deep = {"type": "object", "properties": {"a": deep}}
        tools = [
            tool("打开灯", {"type": "object", "properties": {"z": {"type": "array"}}}),
            tool("关闭灯", {"type": "object", "properties": {"x": None}, "required": None}),
            tool("打开窗帘", {"type": "object", "properties": {"n": {"type": "int"}}}),
            tool("太深", deep),
        ]

        def answer(request: VendorRequest) -> list[Step]:
            offered = [each["function"] for each in request.json()["tools"]]
            (curtain,) = [each for each in offered if each["description"].startswith("打开窗帘")]
            return plain(
                call("打开灯", "null", index=0),
                call(f"functions.{curtain['name']}", '{"n":"3","why":null}{"n":4}', index=1),
                end("tool_calls"),
                DONE,
            )

        house = self.home(answer, plain(say("Done."), DONE))
        logged = LogLines(self)
        visitor = house.connect(tools=tools)
        told = house.until(visitor.device.text("Open everything"))
        self.assertEqual(told.text, "Done.")
        self.assertEqual([name for name, _ in ran], ["打开灯", "打开窗帘", "打开窗帘"])
        self.assertEqual([arguments for _, arguments in ran[1:]], [{"n": 3}, {"n": 4}])
        offered = [each["function"]["name"] for each in self.vendor.last.json()["tools"]]
        self.assertEqual(len(set(offered)), len(offered))
        self.assertEqual(logged.count("malformed schemas"), 1)
        self.assertEqual(
            [message["role"] for message in self.vendor.last.json()["messages"]][-4:],
            ["assistant", "tool", "tool", "tool"],
        )

    def test_a_model_without_tools(self) -> None:
        refusal = [*whole({"error": "m does not support tools"}, status=400)]
        house = self.home(refusal, plain(*HELLO))
        visitor = house.connect()
        for _ in range(2):
            self.assertEqual(house.until(visitor.device.text("Hi")).text, TEXT)
        self.assertEqual(len(self.vendor.requests), 3)

    def test_an_error_with_status_200_reaches_the_log(self) -> None:
        house = self.home([*whole({"base_resp": {"status_code": 1008, "status_msg": "balance"}})])
        logged = LogLines(self)
        house.until(house.connect().device.text("Hi"))
        self.assertGreater(logged.count("1008: balance"), 0, logged.lines)
        self.assertGreater(logged.count("unpaid"), 0, logged.lines)
