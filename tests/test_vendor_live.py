"""Both services as processes, with a chat vendor that deviates from the specification."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.guests import AI_SETS, IM_SETS, ServiceCase
from tests.services import Pair, get
from xiaozhi.device.events import Alerted
from xiaozhi.testing.house import SPEECH
from xiaozhi.testing.vendors.answers import HELLO, REPEAT, TEXT, call, end, plain, say
from xiaozhi.testing.vendors.octets import DONE, event, pieces, whole
from xiaozhi.testing.vendors.vendor import ScriptedVendor

# Variants of one answer.
ANSWERS: tuple[list[Any], ...] = (
    plain(*HELLO),
    plain(*pieces(b"".join([*HELLO, event(REPEAT), DONE]), 3), media_type="application/json"),
    plain(say("Good ", "stop"), say("morning.", "stop"), DONE, media_type="text/plain"),
    [*whole(REPEAT, "text/event-stream")],
    [*whole(REPEAT, None)],
)


class VendorTests(ServiceCase, TestCase):
    """A device hears every answer once."""

    def setUp(self) -> None:
        self.vendor = ScriptedVendor(reactor)
        self.port: Any = reactor.listenTCP(0, self.vendor, interface="127.0.0.1")
        self.addCleanup(lambda: maybeDeferred(self.port.stopListening))
        self.addCleanup(self.vendor.hang_up)

    def pair(self) -> Pair:
        url = f"http://127.0.0.1:{self.port.getHost().port}/v1"
        chosen = (
            "selected.llm=openai",
            f"providers.llm.openai={{base_url: '{url}', model: odd, api_key: x}}",
        )
        pair = Pair(IM_SETS, (*AI_SETS, *chosen))
        self.addCleanup(pair.end)
        return pair

    async def test_answers(self) -> None:
        refusal = [*whole({"error": "odd does not support tools"}, status=400)]
        self.vendor.play(refusal, *ANSWERS)
        pair = self.pair()
        await deferToThread(pair.start)
        guest = await self.guest(pair)
        for _ in ANSWERS:
            answer = await guest.device.say(SPEECH)
            self.assertEqual(answer.text, TEXT)
            self.assertEqual((answer.tts_starts, answer.tts_stops), (1, 1))
            self.assertGreater(answer.audio_ms, 100)
        self.assertEqual([each for each in guest.events if isinstance(each, Alerted)], [])
        self.assertEqual(len(self.vendor.requests), 1 + len(ANSWERS))
        offered = ["tools" in request.json() for request in self.vendor.requests]
        self.assertEqual(offered, [True] + [False] * len(ANSWERS))
        _, health = await deferToThread(get, pair.http_port, "/health")
        (told,) = health["providers"]["llm"]
        self.assertEqual((told["state"], told["refused"]), ("closed", ["tools"]))
        self.assertEqual(pair.ai.output.count("odd rejects tools"), 1)

    async def test_a_tool_by_another_name(self) -> None:
        self.vendor.play(
            plain(call("functions.self.audio_speaker.set_volume", '{"volume": "31", "why": null}'),
                end("tool_calls"), DONE),
            plain(*HELLO),
        )  # fmt: skip
        pair = self.pair()
        await deferToThread(pair.start)
        guest = await self.guest(pair)
        answer = await guest.device.say(SPEECH)
        self.assertEqual(answer.text, TEXT)
        (tool,) = answer.tools
        self.assertEqual(tool.name, "self.audio_speaker.set_volume")
        self.assertIn("31", tool.arguments)

    async def test_an_error_with_status_200(self) -> None:
        self.vendor.play([*whole({"base_resp": {"status_code": 1008, "status_msg": "no money"}})])
        pair = self.pair()
        await deferToThread(pair.start)
        guest = await self.guest(pair)
        answer = await guest.device.say(SPEECH)
        self.assertNotEqual(answer.text, "")
        self.assertIn("1008: no money", pair.ai.output)
