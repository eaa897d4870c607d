"""Devices whose agent asks before it runs a tool, through both services."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from twisted.internet.defer import succeed

from xiaozhi.agents.settings import SessionSettings, TurnSettings
from xiaozhi.base.toolpolicy import ToolPolicy
from xiaozhi.device.firmware.mcp import Parameter, SimulatedTool, Value
from xiaozhi.device.identity import numbered
from xiaozhi.providers.offline.intents import IntentModel, IntentSettings
from xiaozhi.testing.conversation import ConversationCase
from xiaozhi.testing.house import SPEECH, Browser, House, Visitor
from xiaozhi.testing.logs import LogLines
from xiaozhi.wire.messages import ListenMode

QUESTION = "Shall I do this: door unlock?"
CALL = {"name": "self_door_unlock", "when": "door", "arguments": {"code": 4711}}


class ConfirmedToolTests(ConversationCase):
    def setUp(self) -> None:
        self.opened: list[dict[str, Value]] = []

    def stage(self, *confirm: str, seconds: float = 10.0, **settings: Any) -> House:
        """Make both services, whose default agent asks before it runs these tools."""
        settings.setdefault("llm", {"calls": (CALL,), "answers": ("You said {words}.",)})
        session = SessionSettings(turn=TurnSettings(confirm=seconds))
        house = self.house(session=session, **settings)
        policy = ToolPolicy(confirm=confirm or ("self.door.*",))
        self.agent = replace(house.agents.default, id="porter", tools=policy)
        house.agent_providers["porter"] = house.providers
        for number in (1, 2):
            house.agents.assigned[numbered(number).device_id] = self.agent
        return house

    def connect(self, house: House, number: int = 1, **settings: Any) -> Visitor:
        def unlock(arguments: dict[str, Value]) -> Any:
            self.opened.append(arguments)
            return succeed("It is open.")

        parameters = (Parameter("code", "integer"),)
        door = SimulatedTool("self.door.unlock", "Unlocks the door.", unlock, parameters)
        visitor = house.connect(number, tools=(door,), **settings)
        house.run(0.5)
        return visitor

    def type(self, house: House, visitor: Visitor, words: str) -> str:
        return house.until(visitor.device.text(words)).text

    def test_a_yes(self) -> None:
        lines = LogLines(self)
        house = self.stage()
        visitor = self.connect(house)
        self.assertEqual(self.type(house, visitor, "open the door"), QUESTION)
        self.assertEqual(self.opened, [])
        self.assertEqual(self.type(house, visitor, "Yes, please."), "It is open.")
        self.assertEqual(self.opened, [{"code": 4711}])
        self.assertEqual(self.type(house, visitor, "yes"), "You said yes.")
        self.assertEqual(len(self.opened), 1)
        counts = dict(house.shared.counts.tools)
        self.assertEqual(counts, {("unconfirmed",): 1, ("done",): 1})
        self.assertEqual(lines.count("4711"), 0)
        self.assert_paired(visitor)

    def test_spoken(self) -> None:
        house = self.stage(asr={"texts": ("open the door", "go ahead")})
        for number, mode in ((1, ListenMode.AUTO), (2, ListenMode.MANUAL)):
            visitor = self.connect(house, number, mode=mode)
            self.assertEqual(house.until(visitor.device.say(SPEECH)).text, QUESTION)
            house.run(1)
            self.assertEqual(house.until(visitor.device.say(SPEECH)).text, "It is open.")
            self.assertEqual(len(self.opened), number)

    def test_either_spelling_and_patterns(self) -> None:
        for pattern in ("self.door.unlock", "self_door_unlock", "*door*", "*"):
            house = self.stage(pattern)
            visitor = self.connect(house)
            self.assertEqual(self.type(house, visitor, "open the door"), QUESTION, pattern)

    def test_no(self) -> None:
        house = self.stage()
        visitor = self.connect(house)
        for words in ("no", "yes but not now", "不要"):
            self.assertEqual(self.type(house, visitor, "open the door"), QUESTION)
            self.assertEqual(self.type(house, visitor, words), f"You said {words}.")
            self.assertEqual(self.type(house, visitor, "yes"), "You said yes.")
        self.assertEqual(self.opened, [])

    def test_the_time_counts_from_the_end_of_the_question(self) -> None:
        # To say the question takes longer.
        house = self.stage(seconds=1.0)
        visitor = self.connect(house)
        self.type(house, visitor, "open the door")
        house.run(0.7)
        self.assertEqual(self.type(house, visitor, "yes"), "It is open.")
        self.type(house, visitor, "open the door")
        house.run(1.3)
        self.assertEqual(self.type(house, visitor, "yes"), "You said yes.")
        self.assertEqual(len(self.opened), 1)

    def test_interruptions(self) -> None:
        house = self.stage()
        visitor = self.connect(house)
        answer = visitor.device.text("open the door")
        house.run(1)
        visitor.device.abort()
        house.until(answer)
        self.assertEqual(self.type(house, visitor, "yes"), "You said yes.")
        self.assertEqual(self.opened, [])

    def test_an_abort_after_the_question(self) -> None:
        for abort, commands in ((False, 1), (True, 0)):
            house, browser = self.lamp()
            if abort:
                browser.say(type="abort")
            house.run(0.1)
            browser.say(type="listen", state="detect", text="yes")
            house.run(6)
            self.assertEqual(len(browser.of("iot")), commands)

    def test_a_yes_over_the_question(self) -> None:
        house = self.stage(asr={"texts": ("open the door", "yes")})
        visitor = self.connect(house, mode=ListenMode.REALTIME)
        first = visitor.device.say(SPEECH)
        house.run(1.9)
        answer = house.until(visitor.device.say(SPEECH))
        self.assertEqual(house.until(first).text, QUESTION)
        self.assertEqual((answer.heard, answer.text), ("yes", "You said yes."))
        self.assertEqual(self.opened, [])

    def test_sessions_have_each_their_own(self) -> None:
        house = self.stage()
        one, two = self.connect(house), self.connect(house, 2)
        self.assertEqual(self.type(house, one, "open the door"), QUESTION)
        self.assertEqual(self.type(house, two, "yes"), "You said yes.")
        # A new connection of the same device is a new session.
        again = self.connect(house)
        self.assertEqual(self.type(house, again, "yes"), "You said yes.")
        self.assertEqual(self.opened, [])

    def change(self, house: House, policy: ToolPolicy) -> None:
        agent = replace(self.agent, version="2", tools=policy)
        house.agents.assign(numbered(1).device_id, agent)
        house.run(0.5)

    def test_an_agent_that_may_not_use_the_tool(self) -> None:
        house = self.stage()
        visitor = self.connect(house)
        self.type(house, visitor, "open the door")
        self.change(house, ToolPolicy(deny=("self.door.*",)))
        self.assertEqual(self.type(house, visitor, "yes"), "You said yes.")
        self.assertEqual(self.opened, [])

    def test_an_agent_that_may(self) -> None:
        house = self.stage()
        visitor = self.connect(house)
        self.type(house, visitor, "open the door")
        self.change(house, ToolPolicy())
        self.assertEqual(self.type(house, visitor, "yes"), "It is open.")
        # It needs no yes any more.
        self.assertEqual(self.type(house, visitor, "open the door"), "It is open.")

    def test_the_offline_model(self) -> None:
        house = self.stage(
            "*set_volume", "get_time", model=IntentModel(IntentSettings(), Random(1))
        )
        visitor = self.connect(house)
        volume = visitor.device.panel
        question = "Shall I do this: audio speaker set volume?"
        for command, level in (("set the volume to 30", 30), ("turn it up", 45)):
            self.assertEqual(self.type(house, visitor, command), question)
            self.assertNotEqual(volume.volume, level)
            self.assertIn(str(level), self.type(house, visitor, "yes"))
            self.assertEqual(volume.volume, level)
        self.assertEqual(self.type(house, visitor, "set the volume to 90"), question)
        self.assertIn("All right", self.type(house, visitor, "no"))
        self.assertEqual(volume.volume, 45)
        self.assertEqual(self.type(house, visitor, "现在几点"), "要我执行“get time”吗？")
        self.assertIn("现在是", self.type(house, visitor, "好的"))

    def lamp(self) -> tuple[House, Browser]:
        """Have a browser with a lamp ask for its light, and hear the question."""
        calls = ({"name": "Lamp_TurnOn", "when": "lamp"},)
        house = self.stage("Lamp.*", llm={"calls": calls, "answers": ("You said {words}.",)})
        browser = house.browse()
        browser.say(type="hello", version=1, transport="websocket")
        house.run(1)
        lamp = {"name": "Lamp", "description": "a lamp", "methods": {"TurnOn": {}}}
        browser.say(type="iot", update=True, descriptors=[lamp])
        house.run(0.5)
        browser.say(type="listen", state="detect", text="the lamp please")
        house.run(6)
        self.assertEqual(browser.of("iot"), [])
        return house, browser

    def test_a_tool_of_a_thing(self) -> None:
        house, browser = self.lamp()
        browser.say(type="listen", state="detect", text="ok, go ahead")
        house.run(6)
        self.assertEqual(len(browser.of("iot")), 1)
        shown = [text["text"] for text in browser.of("tts") if "text" in text]
        self.assertEqual(shown[0], "Shall I do this: lamp turn on?")
