"""The tools of a session: its policy, sources that change, and media of the device."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from struct import pack
from typing import Any

from twisted.internet.defer import Deferred, succeed

from xiaozhi.agents.settings import SessionSettings
from xiaozhi.ai.session.shared import SessionServices
from xiaozhi.ai.session.tools import SessionTools
from xiaozhi.base.toolpolicy import ToolPolicy
from xiaozhi.base.toolresult import ToolResult, said
from xiaozhi.device.firmware.mcp import SimulatedTool
from xiaozhi.testing.conversation import ConversationCase
from xiaozhi.testing.house import DeviceEnd, House
from xiaozhi.testing.parts import tool_sources
from xiaozhi.testing.vendors.network import Network
from xiaozhi.tools.functions import FunctionModule, NoSettings, ToolContext
from xiaozhi.tools.settings import McpSettings
from xiaozhi.wire import messages as m

DEVICE = m.Device("aa:bb:cc:dd:ee:ff", "c", "u")
GIF = b"GIF89a" + pack("<HH", 64, 48) + b"\0" * 20
THINGS = {"descriptors": [{"name": "Lamp", "methods": {"TurnOn": {}}}]}


def late_module(ready: Deferred[None]) -> FunctionModule[NoSettings]:
    """Make functions that become available when a Deferred fires."""
    module: FunctionModule[NoSettings] = FunctionModule("late", "Late.", standard=True)

    @module.on_start
    async def connect(_: object, __: object) -> None:
        await ready

    @module.function
    async def greet(context: ToolContext[NoSettings]) -> ToolResult:
        """Greet the person."""
        return said(f"Good day, {context.session.session_id} of {context.session.agent_id}.")

    return module


class SessionToolsTests(ConversationCase):
    def setUp(self) -> None:
        self.network = Network()
        self.ready: Deferred[None] = Deferred()
        sources = tool_sources(self.network, None, late_module(self.ready))
        self.stage: House = self.house(
            clock=self.network, tools=sources, vlllm={"answers": ("A cup.",)}
        )
        self.sent: list[Any] = []

    def tools(self, policy: ToolPolicy | None = None, *, mcp: bool = False) -> SessionTools:
        hello = m.Hello(features=m.Features(mcp=mcp))
        opening = m.SessionOpen("s", DEVICE, hello, m.AudioParams())
        shared = self.served(policy or ToolPolicy())
        tools = SessionTools(opening, self.sent.append, shared, lambda: None)
        self.addCleanup(tools.close)
        return tools

    def served(
        self,
        policy: ToolPolicy,
        agent_id: str = "default",
        settings: SessionSettings | None = None,
    ) -> SessionServices:
        """Make the services of an agent with this policy."""
        shared = self.stage.shared
        agent = replace(shared.agent.agent, id=agent_id, tools=policy)
        services = replace(shared.agent, agent=agent, settings=settings or shared.settings)
        return replace(shared, agent=services)

    def names(self, tools: SessionTools) -> list[str]:
        return sorted(spec.name for spec in tools.toolbox.specs)

    def test_a_source_that_becomes_ready(self) -> None:
        tools = self.tools()
        self.assertEqual(self.names(tools), ["end_conversation", "get_date", "get_time"])
        self.ready.callback(None)
        self.assertIn("greet", self.names(tools))

    def test_a_closed_session_is_not_notified(self) -> None:
        tools = self.tools()
        tools.close()
        self.ready.callback(None)
        self.assertNotIn("greet", self.names(tools))

    def test_policy(self) -> None:
        self.ready.callback(None)
        rows: tuple[tuple[ToolPolicy, list[str]], ...] = (
            (ToolPolicy(sources=("late", "things")), ["Lamp_TurnOn", "greet"]),
            (ToolPolicy(allow=("get_*",)), ["get_date", "get_time"]),
            (ToolPolicy(deny=("get_*", "Lamp.*")), ["end_conversation", "greet"]),
            (ToolPolicy(sources=("time",), deny=("end_conversation",)), ["get_date", "get_time"]),
            # Also by the name that models see.
            (ToolPolicy(allow=("Lamp_TurnOn",)), ["Lamp_TurnOn"]),
            (ToolPolicy(sources=()), []),
        )
        for policy, names in rows:
            tools = self.tools(policy)
            tools.received(m.Iot(json.dumps(THINGS).encode()))
            self.assertEqual(self.names(tools), names, policy)

    def test_policy_holds_for_tools_of_the_session(self) -> None:
        tools = self.tools(ToolPolicy(sources=("time",)))
        source = self.stage.shared.tools.all[0]
        tools.offer("roles", source.tools(tools._session))
        self.assertNotIn("greet", self.names(tools))

    def test_another_agent(self) -> None:
        tools = self.tools(ToolPolicy(sources=("time",)))
        tools.offer("roles", [])
        tools.adopt(self.served(ToolPolicy(sources=("late",)), "poet"))
        self.assertEqual(self.names(tools), [])
        self.ready.callback(None)
        self.assertEqual(self.names(tools), ["greet"])
        result = self.successResultOf(Deferred.fromCoroutine(tools.toolbox.call("greet", "{}")))
        self.assertEqual(result.say, "Good day, s of poet.")

    def test_tools_that_need_a_yes(self) -> None:
        things = {"descriptors": [{"name": "前灯", "methods": {"打开": {}}}]}
        tools = self.tools()
        tools.received(m.Iot(json.dumps(things).encode()))
        (name,) = {*self.names(tools)} - {"end_conversation", "get_date", "get_time"}
        # By the name of its source, the plain one, and the one that models see.
        for pattern in ("前灯.*", "_____", name, "*"):
            tools.adopt(self.served(ToolPolicy(confirm=(pattern,))))
            self.assertTrue(tools.confirms(name), pattern)
            self.assertIs(tools.confirms("get_time"), pattern == "*")
        self.assertFalse(tools.confirms("nothing"))

    def test_the_limits_of_another_agent(self) -> None:
        tools = self.tools(ToolPolicy(sources=("things",)))
        things = {"descriptors": [{"name": "Lamp", "methods": {"On": {}, "Off": {}}}]}
        tools.received(m.Iot(json.dumps(things).encode()))
        self.assertEqual(self.names(tools), ["Lamp_Off", "Lamp_On"])
        settings = SessionSettings(mcp=McpSettings(tools=1, camera=7))
        tools.adopt(self.served(ToolPolicy(), settings=settings))
        self.assertEqual([name for name in self.names(tools) if "Lamp" in name], ["Lamp_On"])
        self.assertEqual(tools._mcp.limit("take_photo"), 7)

    def test_a_picture_is_described(self) -> None:
        tools = self.tools()
        words = self.successResultOf(Deferred.fromCoroutine(tools.describe(GIF, "What is it?")))
        self.assertEqual(words, "A cup.")


class TalkTests(ConversationCase):
    """Whole conversations with a device whose tool returns media."""

    def talk(self, content: list[dict[str, Any]], **settings: Any) -> tuple[House, Any]:
        """Let the device's tool return this content, and the model call it."""

        def look(_: dict[str, Any]) -> Any:
            return ""

        tool = SimulatedTool("self.look", "Looks.", lambda _: succeed(""))
        send = DeviceEnd.send_text

        def altered(end: DeviceEnd, text: str) -> None:
            # The device returns texts only: replace its text by the content.
            message = json.loads(text)
            result = message.get("payload", {}).get("result", {})
            if message.get("type") == "mcp" and "content" in result:
                result["content"] = content
                text = json.dumps(message)
            send(end, text)

        self.patch(DeviceEnd, "send_text", altered)
        house = self.house(llm={"calls": ({"name": "self_look"},)}, **settings)
        visitor = house.connect(tools=(tool,))
        house.run(0.5)
        return house, house.until(visitor.device.text("look"))

    def test_a_picture(self) -> None:
        data = base64.b64encode(GIF).decode()
        content = [
            {"type": "text", "text": "in the hall"},
            {"type": "image", "data": data, "mimeType": "image/gif"},
        ]
        _, answer = self.talk(content, vlllm={"answers": ("A red cup.",)})
        self.assertEqual(answer.text.replace("\n", " "), "in the hall [a picture: A red cup.]")

    def test_a_sound(self) -> None:
        samples = (b"\x00\x20" * 20 + b"\x00\xe0" * 20) * 200
        head = pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(samples), b"WAVE", b"fmt ", 16, 1, 1,
                    16000, 32000, 2, 16, b"data", len(samples))  # fmt: skip
        data = base64.b64encode(head + samples).decode()
        _, answer = self.talk([{"type": "audio", "data": data, "mimeType": "audio/wav"}])
        self.assertEqual(answer.sentences, ("♪",))
        self.assertApproximates(answer.audio_ms, 500 + 120, 60)
