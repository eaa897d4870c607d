from __future__ import annotations

from collections.abc import Iterator

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.base.errors import ConfigError
from xiaozhi.metrics.families import Family, counter, counters, gauge, histogram, histograms
from xiaozhi.metrics.instruments import Histogram, Histograms, Tally
from xiaozhi.metrics.process import ProcessMetrics, ReactorLag
from xiaozhi.metrics.registry import Metrics
from xiaozhi.metrics.settings import MetricsSettings
from xiaozhi.runtime.config import read_section
from xiaozhi.testing.metrics import Scraped
from xiaozhi.web.pages import metrics_site


class InstrumentTests(SynchronousTestCase):
    def test_histogram(self) -> None:
        values = Histogram((0.1, 1.0))
        for value in (0.0, 0.1, 0.5, 1.0, 7.0):
            values.observe(value)
        self.assertEqual(values.buckets(), [("0.1", 2), ("1.0", 4), ("+Inf", 5)])
        self.assertEqual((values.count, round(values.sum, 6)), (5, 8.6))

    def test_tally(self) -> None:
        tally = Tally()
        for labels in (("up", "listen"), ("up", "listen"), ("down", "tts")):
            tally.add(*labels)
        self.assertEqual(dict(tally), {("up", "listen"): 2, ("down", "tts"): 1})
        self.assertEqual((tally["up", "listen"], tally["up", "chat"]), (2, 0))

    def test_a_tally_is_bounded(self) -> None:
        """With any values of peers, the number of labels is bounded."""
        tally = Tally(most=3)
        for number in range(100):
            tally.add(f"made up {number}", "x")
        tally.add("made up 1", "x")
        self.assertEqual(len(dict(tally)), 4)
        self.assertEqual(tally["other", "other"], 97)
        self.assertEqual(tally["made up 1", "x"], 2)

    def test_histograms_are_bounded(self) -> None:
        by_label = Histograms((1.0,), most=2)
        for number in range(10):
            by_label.observe(0.5, str(number))
        found = {labels: values.count for labels, values in by_label}
        self.assertEqual(found, {("0",): 1, ("1",): 1, ("other",): 8})


class Sample:
    """A collector with one metric of each kind."""

    def __init__(self) -> None:
        self.value = 1
        self.waits = Histogram((0.5,))
        self.by_stage = Histograms((0.5,))
        self.tally = Tally()

    def collect(self) -> Iterator[Family]:
        yield counter("x_things", "Things.", self.value)
        yield gauge("x_level", "A level.", self.value / 2)
        yield counters("x_ends", "Ends.", ["reason"], self.tally)
        yield histogram("x_wait_seconds", "Waits.", self.waits)
        yield histograms("x_stage_seconds", "Stages.", ["stage"], self.by_stage)


class PageTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.sample = Sample()
        self.metrics = Metrics()
        self.metrics.add(self.sample)

    def scrape(self) -> Scraped:
        return Scraped(self.metrics.text().decode())

    def test_as_prometheus_reads_it(self) -> None:
        self.sample.tally.add('a "quoted"\nreason\\')
        self.sample.waits.observe(0.25)
        self.sample.by_stage.observe(2, "think")
        page = self.scrape()
        self.assertEqual(page("x_things_total"), 1)
        self.assertEqual(page("x_level"), 0.5)
        self.assertEqual(page("x_ends_total", reason='a "quoted"\nreason\\'), 1)
        self.assertEqual(page("x_wait_seconds_bucket", le="0.5"), 1)
        self.assertEqual(page("x_wait_seconds_sum"), 0.25)
        self.assertEqual(page("x_stage_seconds_bucket", le="0.5", stage="think"), 0)
        self.assertEqual(page("x_stage_seconds_count", stage="think"), 1)

    def test_names_without_values(self) -> None:
        names = {"x_things_total", "x_level", "x_ends_total", "x_wait_seconds", "x_stage_seconds"}
        self.assertEqual(self.scrape().names, names)

    def test_asked_again(self) -> None:
        """Nothing is cached: the page shows the current state."""
        self.scrape()
        self.sample.value = 5
        self.assertEqual(self.scrape()("x_things_total"), 5)

    def test_two_services_share_nothing(self) -> None:
        other = Metrics()
        self.assertEqual(other.text(), b"")
        other.add(Sample())
        self.assertEqual(len(self.metrics.families()), len(other.families()))

    def ask(self, request: bytes) -> tuple[bytes, bytes]:
        site = metrics_site(self.metrics, Clock())
        site.doStart()
        self.addCleanup(site.doStop)
        channel = site.buildProtocol(None)
        wire = StringTransport()
        channel.makeConnection(wire)
        channel.dataReceived(request + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        head, _, body = wire.value().partition(b"\r\n\r\n")
        return head, body

    def test_a_port_of_its_own(self) -> None:
        head, body = self.ask(b"GET /metrics")
        self.assertTrue(head.startswith(b"HTTP/1.1 200"), head)
        self.assertIn(b"text/plain; version=0.0.4; charset=utf-8", head)
        self.assertEqual(body, self.metrics.text())
        self.assertEqual(self.ask(b"HEAD /metrics")[1], b"")
        for path in (b"/", b"/metrics/x", b"/health"):
            self.assertTrue(self.ask(b"GET " + path)[0].startswith(b"HTTP/1.1 404"), path)
        self.assertTrue(self.ask(b"POST /metrics")[0].startswith(b"HTTP/1.1 405"))


class ProcessTests(SynchronousTestCase):
    def test_lag(self) -> None:
        clock = Clock()
        lag = ReactorLag(clock, 0.1)
        lag.start()
        clock.advance(0.1)
        clock.advance(0.15)
        self.assertEqual(lag.seconds.count, 2)
        self.assertAlmostEqual(lag.seconds.sum, 0.05)
        lag.stop()
        lag.stop()
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_the_process(self) -> None:
        metrics = Metrics()
        metrics.add(ProcessMetrics("im", "1.2", ReactorLag(Clock())))
        page = Scraped(metrics.text().decode())
        self.assertEqual(page("xiaozhi_im_build_info", version="1.2"), 1)
        self.assertGreater(page("process_cpu_seconds_total"), 0)
        self.assertGreater(page("process_resident_memory_bytes"), 10_000_000)
        self.assertGreater(page("process_start_time_seconds"), 1_700_000_000)


class SettingsTests(SynchronousTestCase):
    def read(self, **values: object) -> MetricsSettings:
        return read_section(values, MetricsSettings, "metrics")

    def test_where_the_page_is(self) -> None:
        self.assertEqual((self.read().shared, self.read().separate), (True, None))
        own = self.read(listen="127.0.0.1:9100")
        self.assertEqual((own.shared, own.separate), (False, ("127.0.0.1", 9100)))
        self.assertEqual(self.read(listen="[::1]:9100").separate, ("::1", 9100))
        off = self.read(enabled=False, listen="127.0.0.1:9100")
        self.assertEqual((off.shared, off.separate), (False, None))

    def test_invalid_addresses(self) -> None:
        for listen in ("9100", "localhost", ":9100", "localhost:", "localhost:70000"):
            error = self.assertRaises(ConfigError, self.read, listen=listen)
            self.assertIn("metrics", str(error), listen)
