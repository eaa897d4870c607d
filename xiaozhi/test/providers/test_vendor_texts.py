"""From a vendor's bytes to the displayed and spoken text: tags, calls and notation."""
# ruff: noqa: E501 (tables, a row a line)

from __future__ import annotations

from random import Random

from xiaozhi.providers.openai.chat import ChatSettings, OpenAIChat
from xiaozhi.testing.conversation import ConversationCase
from xiaozhi.testing.house import House
from xiaozhi.testing.vendors.answers import plain, say
from xiaozhi.testing.vendors.network import Network
from xiaozhi.testing.vendors.octets import DONE
from xiaozhi.testing.vendors.vendor import ScriptedVendor, Step

# The vendor's text, the displayed sentences, and whether get_time is called before the last.
TEXTS: tuple[tuple[str, list[str], bool], ...] = (
    ("<think>Hm.</think>Good morning.", ["Good morning."], False),
    ("<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Good morning.<|return|>", ["Good morning."], False),
    ("Good morning.<|im_end|>", ["Good morning."], False),
    ("⏰ **早上好**[1]，<br>现在7点 ↗。", ["早上好，", "现在7点。"], False),
    ("半价 $\\frac{1}{2}$ &amp; 好【1†source】。", ["半价 1/2 & 好。"], False),
    ('<tool_call>{"name": "get_time", "arguments": {}}</tool_call>', ["It is noon."], True),
    ('One moment. [TOOL_CALLS]get_time[ARGS]{"timezone": "UTC"}', ["One moment.", "It is noon."], True),
    ("<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_time\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>", ["It is noon."], True),
    ("<|channel|>commentary to=functions.get_time <|constrain|>json<|message|>{}<|call|>", ["It is noon."], True),
    ("```tool_code\nprint(get_time())\n```", ["It is noon."], True),
    ('<tool_call>{"name": "fly", "arguments": {}}</tool_call>', ["I have no answer to that."], False),
)  # fmt: skip


def script(text: str, step: int) -> list[Step]:
    """Make an answer in pieces of so many characters."""
    pieces = [say(text[at : at + step]) for at in range(0, len(text), step)]
    return plain(*pieces, DONE)


class VendorTextTests(ConversationCase):
    def setUp(self) -> None:
        self.network = Network()
        self.vendor = ScriptedVendor(self.network)
        self.network.listen(8000, self.vendor)
        settings = ChatSettings(base_url="http://127.0.0.1:8000/v1", model="m")
        self.chat = OpenAIChat(settings, self.network, Random(1))
        self.own: House = self.house(clock=self.network, model=self.chat)
        self.addCleanup(self.hang_up)

    def hang_up(self) -> None:
        self.chat.close()
        self.vendor.hang_up()
        self.network.settle()

    def test_texts(self) -> None:
        page = self.own.browse()
        page.say(type="hello", device_id="02:5a:00:00:00:01", features={})
        self.own.run(0.1)
        for text, shown, calls in TEXTS:
            for step in (1, 4, len(text)):
                page.texts.clear()
                self.vendor.requests.clear()
                self.vendor.play(script(text, step), script("It is noon.", 4))
                page.say(type="listen", state="detect", text="hi there")
                self.own.run(8)
                said = [t["text"] for t in page.of("tts") if t["state"] == "sentence_start"]
                self.assertEqual(said, shown, text)
                self.assertEqual(len(self.vendor.requests), 2 if calls else 1, text)
                if calls:
                    asked, result = self.vendor.last.json()["messages"][-2:]
                    (call,) = asked["tool_calls"]
                    self.assertEqual(call["function"]["name"], "get_time")
                    self.assertEqual(result["tool_call_id"], call["id"])
