from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from xiaozhi.ai.http.settings import HttpSettings
from xiaozhi.ai.http.site import SiteParts, make_site
from xiaozhi.ai.metrics import AiMetrics, AiSources
from xiaozhi.ai.timeline.counts import AiCounts
from xiaozhi.auth import AuthSettings, JwtTokens, load_keys
from xiaozhi.base.values import ProviderStatus
from xiaozhi.bridge.grpc.loop import Crossings
from xiaozhi.device.events import PacketPlayed
from xiaozhi.metrics.registry import Metrics
from xiaozhi.testing.conversation import LONG, ConversationCase
from xiaozhi.testing.house import SPEECH, House
from xiaozhi.testing.metrics import Scraped
from xiaozhi.testing.posting import insiders, posting
from xiaozhi.testing.vendors.httpwire import Wire, request
from xiaozhi.wire.messages import ListenMode


class AiMetricsTests(ConversationCase):
    trouble = ""

    def house(self, **settings: Any) -> House:
        house = super().house(**settings)
        self.metrics = Metrics()
        self.metrics.add(
            AiMetrics(
                house.shared.counts,
                AiSources(
                    lambda: house.ai.status(),
                    Crossings(),
                    house.history,
                    lambda: 2,
                    lambda: 3,
                    lambda: 4,
                    lambda: self.trouble,
                ),
            )
        )
        return house

    def scrape(self) -> Scraped:
        return Scraped(self.metrics.text().decode())

    def test_a_spoken_turn(self) -> None:
        """Each stage takes the doubles' configured time, and their sum is the wait."""
        house = self.house(
            asr={"delay": 0.4}, llm={"delay": 0.3, "answers": ("Hi there.",)}, tts={"delay": 0.2}
        )
        visitor = house.connect(mode=ListenMode.MANUAL)
        answer = house.until(visitor.device.say(SPEECH))
        house.run(0.5)
        page = self.scrape()
        for stage, seconds in (("recognise", 0.4), ("first_token", 0.3), ("first_audio", 0.2)):
            series = {"stage": stage, "provider": "?"}
            name = "xiaozhi_ai_turn_stage_seconds"
            self.assertEqual(page(f"{name}_count", **series), 1, stage)
            self.assertApproximates(page(f"{name}_sum", **series), seconds, 0.03)
        waited = page("xiaozhi_ai_turn_response_seconds_sum", begun="spoken")
        self.assertApproximates(waited, 0.9, 0.05)
        whole = page("xiaozhi_ai_turn_seconds_sum", begun="spoken")
        self.assertGreater(whole, waited + answer.audio_ms / 1000)
        self.assertEqual(page("xiaozhi_ai_turns_total", begun="spoken", result="answered"), 1)
        # 0.9 s of speech, and the packets until the device stops listening.
        self.assertGreaterEqual(page("xiaozhi_ai_frames_total", direction="up"), 15)
        self.assertEqual(
            page("xiaozhi_ai_frames_total", direction="down"), len(visitor.seen(PacketPlayed))
        )
        self.assertEqual(page("xiaozhi_ai_messages_total", direction="up", type="listen"), 2)
        self.assertEqual(page("xiaozhi_ai_messages_total", direction="down", type="stt"), 1)
        self.assertEqual(page("xiaozhi_ai_sessions"), 1)
        self.assertEqual(page("xiaozhi_ai_sessions_opened_total", how="new"), 1)
        self.assertEqual(page("xiaozhi_ai_bridge_streams"), 2)
        self.assertEqual(page("xiaozhi_ai_threads_unfinished"), 2)
        self.assertEqual(page("xiaozhi_ai_http_connections"), 3)
        self.assertEqual(page("xiaozhi_ai_bridge_refused_total"), 4)
        self.assertEqual(page("xiaozhi_ai_history_up"), 1)

    def test_how_turns_end(self) -> None:
        house = self.house(asr={"texts": ("",)}, llm={"answers": (LONG,)})
        visitor = house.connect()
        heard = visitor.device.say(SPEECH)
        house.run(3)
        self.assertFalse(heard.called)
        heard.addErrback(lambda _: None)
        browser = house.browse(2)
        browser.say(type="hello", version=1)
        browser.say(type="listen", state="detect", text="a story")
        house.run(2)
        browser.say(type="abort")
        house.run(0.1)
        page = self.scrape()
        self.assertEqual(page("xiaozhi_ai_turns_total", begun="spoken", result="empty"), 1)
        self.assertEqual(page("xiaozhi_ai_turns_total", begun="typed", result="interrupted"), 1)
        # The duration of an unanswered turn depends on the person.
        self.assertRaises(KeyError, page, "xiaozhi_ai_turn_seconds_count", begun="typed")
        self.assertEqual(page("xiaozhi_ai_turn_response_seconds_count", begun="typed"), 1)

    def test_failures(self) -> None:
        for kind, code in (("asr", "unreachable"), ("llm", "rate_limited"), ("tts", "timeout")):
            house = self.house(**{kind: {"fail": code}})
            visitor = house.connect(mode=ListenMode.MANUAL)
            answer = visitor.device.say(SPEECH)
            answer.addErrback(lambda _: None)
            house.run(6)
            page = self.scrape()
            self.assertEqual(
                page("xiaozhi_ai_turns_total", begun="spoken", result="failed"), 1, kind
            )
            failed = page("xiaozhi_ai_provider_errors_total", kind=kind, provider="?", code=code)
            # The apology does not use the synthesiser that has just failed.
            self.assertEqual(failed, 1)
            self.assertEqual(page.total("xiaozhi_ai_provider_errors_total"), failed)

    def test_tools(self) -> None:
        calls = (
            {"name": "get_time"},
            {"name": "self_audio_speaker_set_volume", "arguments": {"volume": "loud"}},
        )
        house = self.house(llm={"calls": calls})
        visitor = house.connect()
        house.until(visitor.device.text("what time is it"))
        page = self.scrape()
        self.assertEqual(page("xiaozhi_ai_tool_calls_total", result="done"), 1)
        self.assertEqual(page.total("xiaozhi_ai_tool_calls_total"), 2)

    def test_presence(self) -> None:
        self.house()
        self.assertEqual(self.scrape()("xiaozhi_ai_presence_up"), 1)
        self.trouble = "no Redis"
        self.assertEqual(self.scrape()("xiaozhi_ai_presence_up"), 0)

    def test_a_resumed_session(self) -> None:
        house = self.house()
        house.connect()
        house.kill_ai()
        house.start_ai()
        house.run(2)
        page = self.scrape()
        self.assertEqual(page("xiaozhi_ai_sessions_opened_total", how="resumed"), 1)

    def test_states_of_providers(self) -> None:
        statuses = [
            ProviderStatus("llm", "openai", "large", "open", 3, 4.0, "down", {"timeout": 5}),
            ProviderStatus("llm", "intents", "", "closed"),
            ProviderStatus("llm", "gone", "", "unused", failed={"timeout": 2}),
        ]
        house = self.house()
        metrics = Metrics()
        metrics.add(
            AiMetrics(
                house.shared.counts,
                AiSources(
                    lambda: house.ai.status(),
                    Crossings(),
                    house.history,
                    lambda: 0,
                    lambda: 0,
                    lambda: 0,
                    str,
                    providers=lambda: statuses,
                ),
            )
        )
        page = Scraped(metrics.text().decode())
        self.assertEqual(page("xiaozhi_ai_provider_up", kind="llm", provider="openai"), 0)
        self.assertEqual(page("xiaozhi_ai_provider_up", kind="llm", provider="intents"), 1)
        failed = {"kind": "llm", "provider": "openai", "code": "timeout"}
        self.assertEqual(page("xiaozhi_ai_provider_failures_total", **failed), 5)
        # A provider that is closed because no agent uses it is neither up nor down.
        failed["provider"] = "gone"
        self.assertEqual(page("xiaozhi_ai_provider_failures_total", **failed), 2)
        self.assertNotIn('provider_up{kind="llm",provider="gone"}', metrics.text().decode())

    def test_providers_have_their_names(self) -> None:
        counts = AiCounts({"llm": "intents"})
        counts.stage("first_token", 0.1)
        counts.provider_failed("llm", "busy")
        self.assertEqual([labels for labels, _ in counts.stages], [("first_token", "intents")])
        self.assertEqual(counts.errors["llm", "intents", "busy"], 1)


class PageTests(ConversationCase):
    """The page on the AI service's HTTP port."""

    def site(self, metrics: Metrics | None) -> Any:
        clock = Clock()
        auth = AuthSettings(key="k" * 40)
        tokens = JwtTokens(load_keys(auth), auth, clock)
        self.counts = AiCounts()
        parts = SiteParts(
            tokens=tokens,
            model=lambda: None,
            health=lambda: {"status": "healthy"},
            posting=posting(None),
            insiders=insiders(),
            requests=self.counts.requests,
            metrics=metrics,
        )
        return make_site(HttpSettings(), parts, clock).site

    def get(self, site: Any, path: str) -> Any:
        wire = Wire(site)
        wire.send(request("GET", path))
        reply = wire.reply()
        wire.disconnect()
        return reply

    def test_the_page(self) -> None:
        house = self.house()
        metrics = Metrics()
        site = self.site(metrics)
        metrics.add(
            AiMetrics(
                self.counts,
                AiSources(
                    house.ai.status,
                    Crossings(),
                    house.history,
                    int,
                    lambda: site.connections,
                    int,
                    str,
                ),
            )
        )
        self.get(site, "/health")
        self.get(site, "/somewhere/else")
        reply = self.get(site, "/metrics")
        self.assertEqual(reply.status, 200)
        self.assertIn("version=0.0.4", reply.headers["content-type"])
        page = Scraped(reply.body.decode())
        self.assertEqual(page("xiaozhi_ai_http_connections"), 1)
        for name, status in (("/health", "200"), ("other", "404")):
            self.assertEqual(
                page("xiaozhi_ai_http_requests_total", page=name, status=status), 1, name
            )

    def test_no_page_unless_it_is_wanted(self) -> None:
        self.assertEqual(self.get(self.site(None), "/metrics").status, 404)
