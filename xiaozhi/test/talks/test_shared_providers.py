"""Agents that share providers, in whole conversations: labels, call contexts, circuit breakers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from xiaozhi.agents.agent import Agent
from xiaozhi.agents.settings import RoleSettings, SessionSettings
from xiaozhi.base.call import CallContext, current_call
from xiaozhi.base.toolpolicy import ToolPolicy
from xiaozhi.base.values import Delta, SoundFormat, ToolSpec, Utterance
from xiaozhi.device.identity import numbered
from xiaozhi.interfaces import ILanguageModel, IRecognition, IRecognizer, ISynthesizer
from xiaozhi.providers.kit.catalogue import ProviderCatalogue
from xiaozhi.providers.kit.failover.settings import FailoverSettings
from xiaozhi.providers.kit.registry import ProviderRegistry, ProviderSet
from xiaozhi.runtime.config import read_section
from xiaozhi.testing.conversation import ConversationCase
from xiaozhi.testing.house import SPEECH, House
from xiaozhi.testing.parts import Runtime, inline_offload
from xiaozhi.wire.messages import ListenMode

SECTIONS: dict[str, dict[str, Any]] = {
    "asr": {"scripted": {"texts": ["hello"]}},
    "llm": {
        "scripted/kitchen": {"answers": ["From the kitchen."]},
        "scripted/garden": {"answers": ["From the garden."]},
        "scripted/chef": {"answers": ["Soup."]},
        "scripted/poet": {"answers": ["A rose."]},
        "scripted/down": {"fail": "unreachable"},
    },
    "tts": {"tone": {}, "tone/low": {"frequency": 220}},
}
COMMON = {"asr": "scripted", "vlllm": "scripted", "vad": "energy"}


@implementer(IRecognizer, ILanguageModel, ISynthesizer)
class RecordingProviders:
    """Providers of a set, with the contexts of their calls."""

    sound: SoundFormat

    def __init__(self, inner: ProviderSet) -> None:
        self._inner = inner
        self.sound = inner.tts.sound
        self.calls: list[tuple[str, CallContext]] = []
        self.asked: list[tuple[tuple[Utterance, ...], set[str]]] = []

    def recognition(self, interim: Callable[[str], None] | None = None) -> IRecognition:
        self.calls.append(("asr", current_call()))
        recognition: IRecognition = self._inner.asr.recognition(interim)
        return recognition

    async def reply(
        self, dialogue: Sequence[Utterance], tools: Sequence[ToolSpec]
    ) -> AsyncGenerator[Delta, None]:
        self.calls.append(("llm", current_call()))
        self.asked.append((tuple(dialogue), {tool.name for tool in tools}))
        async for delta in self._inner.llm.reply(dialogue, tools):
            yield delta

    async def synthesize(
        self, text: str, language: str
    ) -> AsyncGenerator[bytes | SoundFormat, None]:
        self.calls.append(("tts", current_call()))
        async for piece in self._inner.tts.synthesize(text, language):
            yield piece

    def close(self) -> Deferred[None]:
        return succeed(None)


class SharedProviderTalks(ConversationCase):
    def house(self, **settings: Any) -> House:
        house = super().house(**settings)
        catalogue = ProviderCatalogue(SECTIONS, read_section)
        limits = FailoverSettings(llm=1, failures=2, cooldown=30)
        self.registry = ProviderRegistry(catalogue, Runtime(house.clock, inline_offload), limits)
        self.addCleanup(self.registry.close)
        return house

    def agent(
        self, house: House, number: int, name: str, tts: str, *models: str, noting: bool = False
    ) -> RecordingProviders | None:
        """Assign an agent of its own to a device."""
        selected = COMMON | {"llm": models, "tts": tts}
        found = self.registry.select(self.registry.catalogue.entries(selected))
        noted = RecordingProviders(found) if noting else None
        if noted is not None:
            found = replace(found, asr=noted, llm=noted, tts=noted)
        house.agent_providers[name] = found
        agent = Agent(name, "1", settings=SessionSettings(), voice={"id": f"{name} voice"})
        house.agents.assign(numbered(number).device_id, agent)
        return noted

    def test_labels_follow_the_agent(self) -> None:
        house = self.house()
        self.agent(house, 1, "kitchen", "tone", "scripted/kitchen")
        self.agent(house, 2, "garden", "tone/low", "scripted/garden")
        for number, said in ((1, "From the kitchen."), (2, "From the garden.")):
            visitor = house.connect(number, mode=ListenMode.MANUAL)
            self.assertEqual(house.until(visitor.device.say(SPEECH)).text, said)
        house.run(5)
        counts = house.shared.counts
        self.assertEqual(
            [record.providers for record in counts.recent],
            [
                {"asr": "scripted", "llm": "scripted/kitchen", "tts": "tone"},
                {"asr": "scripted", "llm": "scripted/garden", "tts": "tone/low"},
            ],
        )
        labels = {labels for labels, _ in counts.stages}
        for expected in (
            ("first_token", "scripted/kitchen"),
            ("first_token", "scripted/garden"),
            ("first_audio", "tone"),
            ("first_audio", "tone/low"),
            ("recognise", "scripted"),
        ):
            self.assertIn(expected, labels)

    def test_two_devices_hold_a_talk_each(self) -> None:
        """Their agents differ in model, voice, prompt and tools."""
        house = self.house()
        noted = {}
        rows: tuple[tuple[int, str, str, tuple[str, ...]], ...] = (
            (1, "chef", "tone", ()),
            (2, "poet", "tone/low", ("get_*",)),
        )
        for number, name, tts, deny in rows:
            noted[name] = self.agent(house, number, name, tts, f"scripted/{name}", noting=True)
            role = RoleSettings(prompt=f"You are a {name}.")
            agent = Agent(
                name,
                "2",
                settings=SessionSettings(roles={name: role}, role=name),
                tools=ToolPolicy(deny=deny),
            )
            house.agents.assign(numbered(number).device_id, agent)
        chef, poet = (house.connect(number) for number in (1, 2))
        answers = chef.device.text("hello"), poet.device.text("hello")
        texts = [house.until(answer).text for answer in answers]
        self.assertEqual(texts, ["Soup.", "A rose."])
        for name, tools in (("chef", True), ("poet", False)):
            model = noted[name]
            assert model is not None
            dialogue, offered = model.asked[-1]
            self.assertIn(f"You are a {name}.", dialogue[0].text)
            self.assertEqual("get_time" in offered, tools)
            kinds = [kind for kind, _ in model.calls]
            self.assertEqual((kinds.count("llm"), "tts" in kinds), (1, True))

    def test_providers_get_the_call_context(self) -> None:
        house = self.house()
        noted = {
            "kitchen": self.agent(house, 1, "kitchen", "tone", "scripted/kitchen", noting=True),
            "garden": self.agent(house, 2, "garden", "tone", "scripted/garden", noting=True),
        }
        visitors = [house.connect(number, mode=ListenMode.MANUAL) for number in (1, 2)]
        answers = [visitor.device.say(SPEECH) for visitor in visitors]
        for answer in answers:
            house.until(answer)
        for number, (name, seen) in enumerate(noted.items(), 1):
            assert seen is not None
            self.assertEqual({kind for kind, _ in seen.calls}, {"asr", "llm", "tts"})
            device_id = numbered(number).device_id
            for kind, call in seen.calls:
                self.assertEqual((call.agent_id, call.device_id), (name, device_id), kind)
                self.assertEqual(call.user_id, "somebody")
                self.assertEqual(call.conversation_id, f"{name}/{device_id}")
                self.assertEqual(call.voice, f"{name} voice")
                self.assertTrue(call.request_id.startswith(f"{call.session_id}-"), call)

    def test_a_failure_that_one_agent_sees_spares_the_other_one(self) -> None:
        house = self.house()
        self.agent(house, 1, "kitchen", "tone", "scripted/down", "scripted/kitchen")
        self.agent(house, 2, "garden", "tone", "scripted/down", "scripted/garden")
        first, second = house.connect(1), house.connect(2)
        for _ in range(2):
            self.assertEqual(house.until(first.device.text("hello")).text, "From the kitchen.")
        self.assertEqual(house.until(second.device.text("hello")).text, "From the garden.")
        (down,) = (each for each in self.registry.status() if each.name == "scripted/down")
        self.assertEqual((down.state, dict(down.failed)), ("open", {"unreachable": 2}))
