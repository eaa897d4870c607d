"""Models' input in whole conversations, on virtual time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from zope.interface import implementer

from xiaozhi.agents.settings import DialogueSettings, RoleSettings, SessionSettings
from xiaozhi.ai.memory.exchanges import cost, whole
from xiaozhi.base.values import Delta, Role, ToolSpec, Utterance
from xiaozhi.interfaces import ILanguageModel
from xiaozhi.testing.conversation import ConversationCase
from xiaozhi.testing.house import SPEECH, House, Visitor, one_agent
from xiaozhi.wire.messages import ListenMode

STORY = "Once upon a time there was a king. He had three daughters. They lived in a tower."


@implementer(ILanguageModel)
class RecordingModel:
    """Passes calls on to a model and records its input.

    :ivar told: the dialogue of each call.
    """

    def __init__(self, model: ILanguageModel) -> None:
        self.told: list[list[Utterance]] = []
        self.offered: list[list[str]] = []
        self._model = model

    async def reply(
        self, dialogue: Sequence[Utterance], tools: Sequence[ToolSpec]
    ) -> AsyncGenerator[Delta, None]:
        self.told.append(list(dialogue))
        self.offered.append([tool.name for tool in tools])
        async for delta in self._model.reply(dialogue, tools):
            yield delta

    def close(self) -> Deferred[None]:
        return self._model.close()

    def words(self, call: int = -1) -> list[str]:
        """Return the dialogue without the prompt."""
        return [each.text for each in self.told[call][1:]]


class TalkCase(ConversationCase):
    def witnessed(self, **settings: Any) -> tuple[House, RecordingModel]:
        house = self.house(**settings)
        witness = RecordingModel(house.providers.llm)
        house.shared = replace(house.shared, agent=replace(house.shared.agent, llm=witness))
        house.kill_ai()
        house.start_ai(one_agent)
        house.run(2)
        return house, witness

    def ask(self, house: House, visitor: Visitor, words: str) -> str:
        text: str = house.until(visitor.device.text(words)).text
        return text


class WindowTests(TalkCase):
    def test_a_hundred_turns_stay_within_the_window(self) -> None:
        settings = DialogueSettings(window=400)
        house, witness = self.witnessed(
            session=SessionSettings(dialogue=settings),
            llm={"calls": ({"name": "get_time", "when": "3"},)},
            tts={"milliseconds": 1},
        )
        visitor = house.connect()
        for number in range(100):
            self.ask(house, visitor, f"question {number}, " + "and more " * (number % 7))
        self.assertGreater(len(witness.told), 100)
        costs = []
        for told in witness.told:
            system, *said = told
            self.assertIs(system.role, Role.SYSTEM)
            self.assertIs(said[0].role, Role.USER)
            self.assertEqual(whole(said), said)
            costs.append(sum(map(cost, said)))
        self.assertLessEqual(max(costs), 400)
        self.assertGreater(costs[-1], 300)
        self.assertIn("question 99", witness.words()[-1])

    def test_without_memory_only_the_question(self) -> None:
        house, witness = self.witnessed(
            session=SessionSettings(dialogue=DialogueSettings(memory="none")),
            llm={"calls": ({"name": "get_time"},)},
        )
        visitor = house.connect()
        self.ask(house, visitor, "one")
        self.ask(house, visitor, "two")
        self.assertEqual(witness.words(2), ["two"])
        self.assertEqual([each.role for each in witness.told[3][1:]][-1], Role.TOOL)


class SummaryTests(TalkCase):
    """The double answers a request for a summary with its input."""

    TASK = "user: I like bread"

    def summing(self, **llm: Any) -> tuple[House, RecordingModel, Visitor]:
        settings = DialogueSettings(window=100, memory="summary", summary_timeout=30)
        house, witness = self.witnessed(
            session=SessionSettings(dialogue=settings),
            llm={"answers": ("Noted: {words}",)} | llm,
            tts={"milliseconds": 1},
        )
        visitor = house.connect()
        self.ask(house, visitor, "I like bread.")
        for number in range(5):
            self.ask(house, visitor, f"this is number {number}, and there is more to come")
        return house, witness, visitor

    def prompt(self, witness: RecordingModel) -> str:
        """Return the prompt of the last call that did not request a summary."""
        return [told for told in witness.told if "You keep notes" not in told[0].text][-1][0].text

    def test_old_turns_are_known_from_the_summary(self) -> None:
        house, witness, visitor = self.summing()
        self.ask(house, visitor, "what do I like")
        self.assertIn("What was said earlier, in short: Noted: ", self.prompt(witness))
        self.assertIn("I like bread.", self.prompt(witness))
        visitor.device.close()
        again = house.connect()
        house.kill_ai()
        house.run(1)
        house.start_ai(one_agent)
        house.run(12)
        self.ask(house, again, "what do I like")
        self.assertIn("I like bread.", self.prompt(witness), "known after a restart")
        self.ask(house, house.connect(2), "what do I like")
        self.assertNotIn("in short", self.prompt(witness), "somebody else's")

    def test_one_that_hangs_delays_nothing_and_ends_with_the_session(self) -> None:
        house, witness, visitor = self.summing(trouble=({"when": self.TASK, "hang": True},))
        began = house.clock.seconds()
        self.ask(house, visitor, "what do I like")
        self.assertLess(house.clock.seconds() - began, 1)
        self.assertNotIn("in short", self.prompt(witness))
        visitor.device.machine.drop()
        house.run(1)
        self.assertEqual(house.ai.status().sessions, 0)
        # house.close() checks that no timer is left.


class RoleTests(TalkCase):
    CAST: ClassVar = {
        "xiaozhi": RoleSettings(prompt="You are XiaoZhi."),
        "pirate": RoleSettings(prompt="You are a pirate.", greeting="Ahoy!"),
    }

    def test_the_role_changes_from_the_next_call_on_and_in_later_sessions(self) -> None:
        house, witness = self.witnessed(
            session=SessionSettings(roles=self.CAST, dialogue=DialogueSettings(memory="none")),
            llm={
                "calls": (
                    {
                        "name": "switch_role",
                        "arguments": {"role": "pirate"},
                        "when": "be a pirate",
                    },
                )
            },
        )
        visitor = house.connect()
        self.ask(house, visitor, "be a pirate")
        prompts = [told[0].text[:17] for told in witness.told]
        self.assertEqual(prompts, ["You are XiaoZhi. ", "You are a pirate."])
        visitor.device.close()
        visitor = house.connect()
        self.ask(house, visitor, "who are you")
        self.assertTrue(witness.told[-1][0].text.startswith("You are a pirate."))
        greeted = house.until(visitor.device.text("你好小智"))
        self.assertEqual(greeted.text, "Ahoy!")
        self.ask(house, house.connect(2), "who are you")
        self.assertTrue(witness.told[-1][0].text.startswith("You are XiaoZhi."))

    def test_offered_only_if_there_is_a_choice(self) -> None:
        house, witness = self.witnessed()
        self.ask(house, house.connect(), "hello")
        self.assertNotIn("switch_role", witness.offered[0])


class HeardTests(TalkCase):
    """60 ms of sound a character, and 120 after a sentence."""

    def told_after(self, seconds: float, stop: str) -> list[str]:
        house, witness = self.witnessed(
            llm={"replies": {"tell me": STORY, "go on": "Yes."}},
            asr={"texts": ("tell me", "go on")},
        )
        realtime = stop == "voice"
        visitor = house.connect(mode=ListenMode.REALTIME if realtime else ListenMode.AUTO)
        if realtime:
            visitor.device.say(SPEECH).addErrback(lambda _: None)
            house.run(1.8)
        else:
            visitor.device.text("tell me").addErrback(lambda _: None)
        house.run(seconds)
        if stop == "abort":
            visitor.device.abort()
            house.run(0.5)
        if realtime:
            house.until(visitor.device.say(SPEECH))
        else:
            self.ask(house, visitor, "go on")
        return witness.words()

    def test_in_the_first_sentence(self) -> None:
        told = self.told_after(1.5, "abort")
        self.assertEqual(told, ["tell me", "Once upon a time there … [interrupted]", "go on"])

    def test_in_a_later_one(self) -> None:
        first = "Once upon a time there was a king."
        told = self.told_after(len(first) * 0.06 + 0.12 + 0.9, "abort")
        self.assertEqual(told, ["tell me", f"{first} He had three … [interrupted]", "go on"])

    def test_before_anything(self) -> None:
        told = self.told_after(0.03, "abort")
        unheard = "[interrupted before anything was heard]"
        self.assertEqual(told, ["tell me", unheard, "go on"])

    def test_by_a_new_question(self) -> None:
        """The edge's report arrives after the next turn has begun."""
        told = self.told_after(1.5, "text")
        self.assertEqual(told, ["tell me", "Once upon a time there … [interrupted]", "go on"])

    def test_by_voice(self) -> None:
        told = self.told_after(1.5, "voice")
        self.assertEqual((told[0], told[-1], len(told)), ("tell me", "go on", 3))
        self.assertTrue(told[1].startswith("Once upon a time"), told)
        self.assertTrue(told[1].endswith(" … [interrupted]"), told)

    def test_the_next_session_knows_it_too(self) -> None:
        house, witness = self.witnessed(llm={"replies": {"tell me": STORY}})
        visitor = house.connect()
        visitor.device.text("tell me").addErrback(lambda _: None)
        house.run(1.5)
        visitor.device.machine.drop()
        house.run(1)
        self.ask(house, house.connect(), "go on")
        self.assertEqual(len(witness.words()), 3)
        self.assertRegex(witness.words()[1], r"^Once upon a [a-z ]+ … \[interrupted\]$")
