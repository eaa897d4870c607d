from __future__ import annotations

import time

from xiaozhi.base.errors import StoreError
from xiaozhi.base.values import BridgeStatus, StreamStatus, TargetStatus
from xiaozhi.bridge.grpc.loop import Crossings
from xiaozhi.im.metrics import EdgeMetrics, Front
from xiaozhi.im.sessionlog.journal import Journal, JournalSettings
from xiaozhi.metrics.registry import Metrics
from xiaozhi.test.im.test_im_gateway import FIRMWARE, PortCase, frame
from xiaozhi.testing.database import memory_store
from xiaozhi.testing.edge import EdgeBench
from xiaozhi.testing.metrics import Scraped
from xiaozhi.wire.messages import Audio, Stt, Tts, TtsState

PACKET = bytes([0b01011_000]) + b"sound"


class MetricsCase(PortCase):
    def setUp(self) -> None:
        super().setUp()
        self.metrics = Metrics()
        self.site = self.site_with(metrics=self.metrics)
        self.door.site = self.site
        self.store = memory_store()
        self.journal = Journal(self.store, self.clock, JournalSettings())
        self.journal.start()
        self.wires = Crossings()
        self.trouble = ""
        self.metrics.add(
            EdgeMetrics(
                self.gateway,
                Front(self.door, self.site),
                self.bridge,
                self.journal,
                self.wires,
                lambda: self.trouble,
            )
        )

    def get(self, path: str) -> tuple[bytes, bytes]:
        wire = self.dial()
        wire.feed(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        self.clock.advance(0)
        head, _, body = wire.take().partition(b"\r\n\r\n")
        wire.lose()
        return head, body

    def scrape(self) -> Scraped:
        head, body = self.get("/metrics")
        self.assertTrue(head.startswith(b"HTTP/1.1 200"), head)
        return Scraped(body.decode())


class EdgeMetricsTests(MetricsCase):
    def test_the_page(self) -> None:
        head, body = self.get("/metrics")
        self.assertIn(b"text/plain; version=0.0.4", head)
        self.assertIn(b"# TYPE xiaozhi_im_connections gauge", body)
        self.assertTrue(self.get("/metrics/x")[0].startswith(b"HTTP/1.1 404"))

    def test_no_page_unless_it_is_wanted(self) -> None:
        self.door.site = self.site_with()
        self.assertTrue(self.get("/metrics")[0].startswith(b"HTTP/1.1 404"))

    def test_a_device(self) -> None:
        wire = self.greet()
        for _ in range(3):
            wire.feed(frame(2, PACKET))
        wire.feed(frame(1, b'{"type":"listen","state":"stop"}'))
        wire.feed(frame(1, b'{"type":"something of its own"}'))
        wire.feed(frame(1, b"no JSON"))
        (session,) = self.bridge.sessions
        session.events.received(Stt("hi", 1))
        page = self.scrape()
        self.assertEqual(page("xiaozhi_im_connections"), 1)
        self.assertEqual(page("xiaozhi_im_handshakes_total", result="accepted"), 1)
        self.assertEqual(page("xiaozhi_im_frames_total", direction="up"), 3)
        self.assertEqual(page("xiaozhi_im_frame_bytes_total", direction="up"), 3 * len(PACKET))
        for kind in ("hello", "listen", "unknown"):
            self.assertEqual(page("xiaozhi_im_messages_total", direction="up", type=kind), 1, kind)
        for kind in ("hello", "stt", "error"):
            self.assertEqual(
                page("xiaozhi_im_messages_total", direction="down", type=kind), 1, kind
            )
        self.assertEqual(page("xiaozhi_im_malformed_total"), 1)

    def test_speech(self) -> None:
        self.greet()
        (session,) = self.bridge.sessions
        session.events.received(Tts(TtsState.START, turn=1))
        for _ in range(6):
            session.events.received(Audio(PACKET, 0, 1))
        session.events.received(Audio(PACKET, 0, 7))
        self.clock.pump([0.01] * 7)
        page = self.scrape()
        # Three have left at once; the others wait for their timeout.
        self.assertEqual(page("xiaozhi_im_frames_total", direction="down"), 3)
        self.assertEqual(page("xiaozhi_im_speaking"), 1)
        self.assertEqual(page("xiaozhi_im_pacer_frames"), 3)
        self.assertEqual(page("xiaozhi_im_dropped_total", reason="stale"), 1)
        self.clock.advance(5)
        page = self.scrape()
        self.assertEqual(page("xiaozhi_im_pacer_frames"), 0)
        self.assertGreater(page("xiaozhi_im_pacer_lateness_seconds_sum"), 4)
        self.assertEqual(page("xiaozhi_im_pacer_underruns_total"), 0)
        self.clock.advance(1)
        session.events.received(Audio(PACKET, 0, 1))
        self.assertEqual(self.scrape()("xiaozhi_im_pacer_underruns_total"), 1)

    def test_refused_connections(self) -> None:
        for request, result in (
            (FIRMWARE.replace(b"secret", b"wrong"), "bad_token"),
            (FIRMWARE.replace(b"/xiaozhi/v1/", b"/elsewhere"), "not_found"),
            (FIRMWARE.replace(b"Device-Id", b"No-Id"), "no_device_id"),
            (FIRMWARE.replace(b"Version: 13", b"Version: 7"), "bad_handshake"),
            (b"GET /" + bytes(20_000), "head_too_big"),
        ):
            wire = self.dial()
            wire.feed(request)
            wire.lose()
            self.assertEqual(self.scrape()("xiaozhi_im_handshakes_total", result=result), 1)
        self.dial()
        self.clock.pump([1.0] * 12)
        self.assertEqual(self.scrape()("xiaozhi_im_handshakes_total", result="silent"), 1)

    def test_too_many_waiting_connections(self) -> None:
        wires = [self.dial() for _ in range(4)]
        self.assertIsNone(self.door.buildProtocol(None))
        wires.pop().lose()
        page = self.scrape()
        self.assertEqual(page("xiaozhi_im_connections_waiting"), 3)
        self.assertEqual(page("xiaozhi_im_handshakes_total", result="too_many_waiting"), 1)

    def test_how_connections_end(self) -> None:
        """A device's own reason is not a label."""
        self.greet().lose(clean=False)
        leaving = self.greet()
        leaving.feed(frame(8, b"\x03\xe8call me 555-1234"))
        leaving.lose()
        self.greet().feed(frame(1, b'{"type":"goodbye"}'))
        self.greet().feed(frame(2, bytes(70_001)))
        page = self.scrape()
        for reason in ("device_lost", "device_closed", "goodbye", "too_big"):
            self.assertEqual(page("xiaozhi_im_closed_total", reason=reason), 1, reason)
        self.assertNotIn("555", " ".join(page.label_values()))

    def test_early_sound(self) -> None:
        wire = self.dial()
        wire.feed(FIRMWARE)
        wire.feed(frame(2, PACKET))
        page = self.scrape()
        self.assertEqual(page("xiaozhi_im_dropped_total", reason="early"), 1)
        self.assertEqual(page("xiaozhi_im_frames_total", direction="up"), 0)

    def test_pages(self) -> None:
        for path in ("/health", "/health/", "/ready?a=b", "/ws", "/wp-login.php", "/x/y"):
            self.get(path)
        page = self.scrape()
        for name, status, count in (
            ("health", "200", 2),
            ("ready", "200", 1),
            ("other", "426", 1),
            ("other", "404", 2),
        ):
            self.assertEqual(
                page("xiaozhi_im_http_requests_total", page=name, status=status), count, name
            )
        self.assertEqual(self.scrape().total("xiaozhi_im_http_requests_total", page="metrics"), 1)

    def test_bridge(self) -> None:
        up = StreamStatus("up", sessions=2, round_trip=0.003, outbox=5, reconnects=1)
        down = StreamStatus("waiting", sessions=0, round_trip=None, outbox=0, reconnects=0)
        status = BridgeStatus(
            "connected",
            1,
            3,
            waiting=1,
            dropped={"audio_stale": 4},
            targets=(TargetStatus("ai-1:50051", (up, down), draining=True),),
        )
        self.patch(self.bridge, "status", lambda: status)
        self.wires.outward.observe(0.004)
        page = self.scrape()
        self.assertEqual(page("xiaozhi_im_bridge_up"), 1)
        self.assertEqual(page("xiaozhi_im_bridge_sessions"), 3)
        self.assertEqual(page("xiaozhi_im_bridge_waiting_sessions"), 1)
        self.assertEqual(page("xiaozhi_im_bridge_dropped_total", reason="audio_stale"), 4)
        self.assertEqual(page("xiaozhi_im_bridge_target_streams", target="ai-1:50051"), 1)
        self.assertEqual(page("xiaozhi_im_bridge_target_sessions", target="ai-1:50051"), 2)
        self.assertEqual(page("xiaozhi_im_bridge_target_draining", target="ai-1:50051"), 1)
        at = {"target": "ai-1:50051", "stream": "0"}
        self.assertEqual(page("xiaozhi_im_bridge_stream_up", **at), 1)
        self.assertEqual(page("xiaozhi_im_bridge_stream_round_trip_seconds", **at), 0.003)
        self.assertEqual(page("xiaozhi_im_bridge_stream_outbox", **at), 5)
        self.assertEqual(page("xiaozhi_im_bridge_stream_reconnects_total", **at), 1)
        at["stream"] = "1"
        self.assertEqual(page("xiaozhi_im_bridge_stream_up", **at), 0)
        self.assertRaises(KeyError, page, "xiaozhi_im_bridge_stream_round_trip_seconds", **at)
        self.assertEqual(page("xiaozhi_im_bridge_crossing_seconds_count", direction="up"), 1)

    def test_presence(self) -> None:
        self.presence.broken = StoreError("unreachable", "no Redis")
        self.greet()
        page = self.scrape()
        self.assertEqual(page("xiaozhi_im_presence_errors_total"), 1)
        self.assertEqual(page("xiaozhi_im_presence_up"), 1)
        self.trouble = "no Redis"
        self.assertEqual(self.scrape()("xiaozhi_im_presence_up"), 0)

    def test_store(self) -> None:
        self.store.start()
        self.addCleanup(self.store.stop)
        page = self.scrape()
        self.assertEqual(page("xiaozhi_im_store_up"), 1)
        self.assertEqual(page("xiaozhi_im_store_lag_seconds"), 0)
        self.journal.event("s1", "connected")
        self.clock.advance(0.15)
        page = self.scrape()
        self.assertEqual(page("xiaozhi_im_store_pending"), 1)
        self.assertAlmostEqual(page("xiaozhi_im_store_lag_seconds"), 0.15, 3)
        self.clock.advance(0.1)
        page = self.scrape()
        for name in ("pending", "spooled", "spooled_bytes"):
            self.assertEqual(page(f"xiaozhi_im_store_{name}"), 0, name)

    def test_a_full_store(self) -> None:
        """A store that is not open accepts nothing."""
        for _ in range(10_003):
            self.journal.event("s1", "connected")
        page = self.scrape()
        self.assertEqual(page("xiaozhi_im_store_dropped_total", reason="full"), 3)
        self.assertEqual(page("xiaozhi_im_store_pending"), 10_000)


class ManyTests(MetricsCase):
    def test_ten_thousand_devices(self) -> None:
        """Sums over all devices must not block the reactor. They take about 3 ms; the limit is
        wide, because tests run on busy machines.
        """
        bench = EdgeBench()
        link, _ = bench.link()
        for number in range(10_000):
            self.gateway._by_session[str(number)] = link
        taken = []
        # CPU time of this thread, of which at least one run has no full garbage collection.
        for _ in range(3):
            began = time.thread_time()
            self.metrics.text()
            taken.append(time.thread_time() - began)
        self.assertLess(min(taken), 0.05)
