"""Whatever form a vendor's answer has, it is spoken once, or it is an ordinary error."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.errors import ProviderError
from xiaozhi.providers.openai_chat import ChatSettings, OpenAIChat
from xiaozhi.test.fake_vendor import Reading
from xiaozhi.testing.network import Network
from xiaozhi.testing.vendor import ScriptedVendor
from xiaozhi.testing.vendor_answers import BODIES, CALLS, CHUNKS, CUTS, ENDS, Row
from xiaozhi.values import Role, TextDelta, ToolCall, ToolSpec, Utterance

ASKED = [Utterance(Role.USER, "Hi")]
TOOLS = [ToolSpec(name, name, {"type": "object"}) for name in ("set_volume", "get_time")]


class ScriptedCase(SynchronousTestCase):
    """A chat with a vendor that sends what a test says, on virtual time."""

    def setUp(self) -> None:
        self.network = Network()
        self.vendor = ScriptedVendor(self.network)
        self.network.listen(8000, self.vendor)
        self.chat = self.make()

    def make(self, **settings: Any) -> OpenAIChat:
        settings = {"base_url": "http://127.0.0.1:8000/v1", "model": "m", **settings}
        return OpenAIChat(ChatSettings(**settings), self.network, Random(1))

    def tearDown(self) -> None:
        closing = self.chat.close()
        self.vendor.hang_up()
        self.network.settle()
        self.successResultOf(closing)
        self.assertEqual(self.network.getDelayedCalls(), [])

    def ask(
        self, seconds: float = 0.0, tools: Sequence[ToolSpec] = TOOLS
    ) -> tuple[str, list[ToolCall], str]:
        """:return: what is said, the calls, and the error as text, if there is one."""
        reading = Reading(self.chat.reply(ASKED, tools))
        self.network.settle()
        for _ in range(round(seconds / 0.05)):
            if not reading.done.called:
                self.network.advance(0.05)
        self.assertTrue(reading.done.called, f"not over within {seconds} s")
        failures: list[Any] = []
        reading.done.addErrback(failures.append)
        if failures:
            self.error = failures[0].value
            self.assertIsInstance(self.error, ProviderError, failures[0].getTraceback())
        said = "".join(delta.text for delta in reading.items if isinstance(delta, TextDelta))
        calls = [delta for delta in reading.items if isinstance(delta, ToolCall)]
        return said, calls, str(self.error.code) if failures else ""


class AnswerTests(ScriptedCase):
    """The tables of :mod:`xiaozhi.testing.vendor_answers`."""

    def check(self, rows: Sequence[Row]) -> None:
        for row in rows:
            with self.subTest(row.name):
                self.vendor.play(row.steps)
                said, calls, error = self.ask(max(row.within, row.seconds + 0.5))
                told = tuple((call.name, call.arguments) for call in calls)
                self.assertEqual((said, told, error), (row.text, row.calls, row.error), row.name)
                self.assertEqual(len({call.call_id for call in calls}), len(calls))

    def test_when_it_is_over(self) -> None:
        self.check(ENDS)

    def test_cut_answers_and_other_errors(self) -> None:
        self.check(CUTS)

    def test_labels_and_borders(self) -> None:
        self.check(BODIES)

    def test_chunks(self) -> None:
        self.check(CHUNKS)

    def test_tool_calls(self) -> None:
        self.check(CALLS)
