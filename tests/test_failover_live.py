"""Real services whose preferred vendors are down, over real sockets."""

from __future__ import annotations

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.guests import AI_SETS, IM_SETS, ServiceCase
from tests.services import Pair, get
from tests.test_metrics import LOGS, records, scrape
from xiaozhi.device.events import Alerted
from xiaozhi.runtime.listening import free_port
from xiaozhi.testing.house import SPEECH

NOWHERE = f"http://127.0.0.1:{free_port()}/v1"
SETS = (
    *AI_SETS,
    *LOGS,
    "selected.asr=[openai, scripted]",
    "selected.llm=[openai, openai/second, scripted]",
    "selected.tts=[openai, tone]",
    f"providers.asr={{openai: {{base_url: '{NOWHERE}'}}}}",
    f"providers.llm.openai={{base_url: '{NOWHERE}', model: large}}",
    f"providers.llm.openai/second={{base_url: '{NOWHERE}', model: small}}",
    f"providers.tts.openai={{base_url: '{NOWHERE}', sample_rate: 8000}}",
    "failover.failures=2",
    "failover.cooldown=60",
)


class AwayTests(ServiceCase, TestCase):
    async def test_the_substitutes_answer(self) -> None:
        pair = Pair(IM_SETS, SETS)
        self.addCleanup(pair.end)
        await deferToThread(pair.start)
        guest = await self.guest(pair)
        for _ in range(3):
            answer = await guest.device.say(SPEECH)
            self.assertGreater(answer.audio_ms, 100)
            self.assertEqual((answer.tts_starts, answer.tts_stops), (1, 1))
        self.assertEqual([each for each in guest.events if isinstance(each, Alerted)], [])
        status, health = await deferToThread(get, pair.http_port, "/health")
        self.assertEqual((status, health["status"]), (200, "degraded"))
        self.assertIn("llm openai/second", health["checks"]["providers"])
        states = [(each["name"], each["state"]) for each in health["providers"]["llm"]]
        self.assertEqual(
            states, [("openai", "open"), ("openai/second", "open"), ("scripted", "closed")]
        )
        page = await deferToThread(scrape, pair.http_port)
        self.assertEqual(page("xiaozhi_ai_provider_up", kind="tts", provider="openai"), 0)
        # The third turn called no vendor that is down.
        failed = {"kind": "llm", "provider": "openai", "code": "unreachable"}
        self.assertEqual(page("xiaozhi_ai_provider_failures_total", **failed), 2)
        turns = [line for line in records(pair.ai.output) if "begun" in line]
        self.assertEqual(
            [(turn["asr"], turn["llm"], turn["tts"]) for turn in turns],
            [("scripted", "scripted", "tone")] * 3,
        )
        told = [line for line in records(pair.ai.output) if "circuit open" in line["message"]]
        self.assertEqual({line["level"] for line in told}, {"warn"})
        self.assertEqual(len(told), 4, "once for each")
