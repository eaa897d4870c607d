"""Random interruptions at any moment, on virtual time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from xiaozhi.audio import OpusEncoder
from xiaozhi.base.values import Delta, SoundFormat, ToolSpec, Utterance
from xiaozhi.interfaces import ILanguageModel, ISynthesizer
from xiaozhi.testing.edge import wire_of
from xiaozhi.testing.house import SPEECH, Browser, House, one_agent

LONG = "Here is a story. It goes on and on. And on again, for a while. There it ends."
MODES = ("auto", "manual", "realtime")

# A client's action, after so many hundredths of a second.
ACTIONS = st.lists(
    st.tuples(
        st.integers(0, 250),
        st.sampled_from(
            ["abort", "ask", "wake", "chat", "listen", "stop", "speak", "noise", "image"]
        ),
    ),
    min_size=1,
    max_size=7,
)
# Actions after which there must be silence at once.
SILENCING = {"abort", "ask", "wake", "chat", "image"}


@implementer(ILanguageModel, ISynthesizer)
class Counted:
    """A model or synthesiser that counts its open streams."""

    def __init__(self, provider: Any) -> None:
        self._provider = provider
        self.sound: SoundFormat = getattr(provider, "sound", SoundFormat())
        self.open = 0

    async def _counted(self, stream: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
        self.open += 1
        try:
            async for item in stream:
                yield item
        finally:
            self.open -= 1
            await stream.aclose()

    def reply(
        self, dialogue: Sequence[Utterance], tools: Sequence[ToolSpec]
    ) -> AsyncGenerator[Delta, None]:
        return self._counted(self._provider.reply(dialogue, tools))

    def synthesize(self, text: str, language: str) -> AsyncGenerator[bytes | SoundFormat, None]:
        return self._counted(self._provider.synthesize(text, language))

    def close(self) -> Deferred[None]:
        return succeed(None)


class Client(Browser):
    """:ivar story: ``start``, ``sentence``, ``sound`` and ``stop``, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.story: list[str] = []

    def send_text(self, text: str) -> None:
        super().send_text(text)
        message = self.texts[-1]
        if message["type"] == "tts":
            self.story.append(message["state"])

    def send_binary(self, data: bytes) -> None:
        super().send_binary(data)
        self.story.append("sound")


class InterruptionTests(SynchronousTestCase):
    def set_stage(self, mode: str) -> None:
        self.mode = mode
        self.house = House(
            llm={"answers": (LONG,), "delay": 0.2, "token_delay": 0.02},
            tts={"delay": 0.1, "pace": 1.5},
            asr={"texts": ("hello", ""), "delay": 0.1},
            vlllm={"delay": 0.3},
        )
        doubles = self.house.providers
        self.llm, self.tts = Counted(doubles.llm), Counted(doubles.tts)
        agent = replace(self.house.shared.agent, llm=self.llm, tts=self.tts)
        self.house.shared = replace(self.house.shared, agent=agent)
        self.house.kill_ai()
        self.house.start_ai(one_agent)
        self.house.run(1)
        self.client = Client()
        self.house.join(self.client)
        self.client.say(type="hello", features={})
        self.house.run(0.1)
        self.client.say(type="listen", state="start", mode=mode)

    def act(self, action: str) -> None:
        client = self.client
        match action:
            case "abort":
                client.say(type="abort")
            case "ask":
                client.say(type="listen", state="detect", text="go on")
            case "wake":
                client.say(type="listen", state="detect", text="你好小智")
            case "chat":
                client.say(type="chat", text="tell me")
            case "listen":
                client.say(type="listen", state="start", mode=self.mode)
            case "stop":
                client.say(type="listen", state="stop")
            case "image":
                client.say(type="image", image_data={"data": "AAAA", "format": "png"})
            case _:
                sound = SPEECH if action == "speak" else SPEECH[: 32 * 150]
                for packet in OpusEncoder(16000).encode(sound + bytes(32000)):
                    wire_of(client.link).binary_received(packet)
                    self.house.run(0.06)

    @settings(max_examples=25)
    @given(st.sampled_from(MODES), ACTIONS)
    def test_random_interruptions(self, mode: str, actions: list[tuple[int, str]]) -> None:
        self.set_stage(mode)
        story = self.client.story
        for hundredths, action in actions:
            self.house.run(hundredths / 100)
            self.act(action)
            if action in SILENCING:
                # At the edge, at once, without the AI service.
                self.assertEqual(story[-1] if story else "stop", "stop", action)
            if action in ("abort", "wake"):
                self.house.run(0.05)
                self.assertEqual((self.llm.open, self.tts.open), (0, 0), "vendors still at work")
        self.house.run(20)
        self.check(story)
        self.assertEqual((self.llm.open, self.tts.open), (0, 0), "vendors still at work")
        self.client.say(type="abort")
        self.client.say(type="listen", state="detect", text="still there?")
        self.house.run(10)
        self.assertEqual(self.client.of("stt")[-1]["text"], "still there?")
        self.assertEqual(story[-1], "stop")
        self.assertEqual(self.house.close(), [], "timers left behind")

    def check(self, story: list[str]) -> None:
        """Check: one stop for each start; sentences and sound only between them; the last turn is
        over.
        """
        speaking = False
        for what in story:
            if what == "start":
                self.assertFalse(speaking, story)
                speaking = True
            else:
                self.assertTrue(speaking, story)
                speaking = what != "stop"
        self.assertFalse(speaking, story)
