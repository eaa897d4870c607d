"""The tables of vendors' answers over real sockets."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import maybeDeferred
from twisted.trial.unittest import TestCase

from xiaozhi.base.errors import ProviderError
from xiaozhi.base.values import Role, TextDelta, ToolCall, ToolSpec, Utterance
from xiaozhi.providers.openai.chat import ChatSettings, OpenAIChat
from xiaozhi.testing.vendors.answers import BODIES, CALLS, CHUNKS, CUTS, ENDS, Row
from xiaozhi.testing.vendors.vendor import ScriptedVendor

ASKED = [Utterance(Role.USER, "Hi")]
TOOLS = [ToolSpec(name, name, {"type": "object"}) for name in ("set_volume", "get_time")]


class AnswerTests(TestCase):
    """As :mod:`xiaozhi.test.providers.test_vendor_answers`, without the cases that take seconds."""

    timeout = 100

    def setUp(self) -> None:
        self.vendor = ScriptedVendor(reactor)
        self.port: Any = reactor.listenTCP(0, self.vendor, interface="127.0.0.1")
        address: Any = self.port.getHost()
        url = f"http://127.0.0.1:{address.port}/v1"
        self.chat = OpenAIChat(ChatSettings(base_url=url, model="m"), reactor, Random(1))
        self.addCleanup(self._stop)

    async def _stop(self) -> None:
        await self.chat.close()
        self.vendor.hang_up()
        await maybeDeferred(self.port.stopListening)

    async def check(self, rows: list[Row]) -> None:
        for row in rows:
            if row.seconds > 0 or row.within > 1:
                continue
            self.vendor.play(row.steps)
            said, calls, code = "", [], ""
            try:
                async for delta in self.chat.reply(ASKED, TOOLS):
                    if isinstance(delta, TextDelta):
                        said += delta.text
                    elif isinstance(delta, ToolCall):
                        calls.append((delta.name, delta.arguments))
            except ProviderError as error:
                code = error.code
            told = (said, tuple(calls), code)
            self.assertEqual(told, (row.text, row.calls, row.error), row.name)

    async def test_when_it_is_over(self) -> None:
        await self.check(ENDS)

    async def test_cut_answers_and_other_errors(self) -> None:
        await self.check(CUTS)

    async def test_labels_and_borders(self) -> None:
        await self.check(BODIES)

    async def test_chunks(self) -> None:
        await self.check(CHUNKS)

    async def test_tool_calls(self) -> None:
        await self.check(CALLS)
