"""Limits by address, slow clients and the access log of the AI service's HTTP port."""

from __future__ import annotations

import msgspec
from twisted.logger import capturedLogs

from xiaozhi.ai.http.settings import HttpSettings
from xiaozhi.test.ai.test_http_ota import FIRMWARE, REPORT, SiteCase
from xiaozhi.testing.vendors.httpwire import Reply, Wire, request

ASK = request("GET", "/health")
PROXY, STRANGER, OTHER = "10.0.0.9", "192.0.2.7", "192.0.2.8"
V6, SAME_NETWORK, OTHER_NETWORK = "2001:db8::1", "2001:db8::2", "2001:db8:ffff::1"


class VisitorCase(SiteCase):
    def tearDown(self) -> None:
        self.visitors.stop()

    def dial(self, peer: str = STRANGER) -> Wire | None:
        """Make a connection; None: it was closed at once."""
        try:
            return Wire(self.site, peer=peer)
        except AttributeError:  # no protocol was built
            return None

    def ask(self, wire: Wire, **headers: str) -> Reply:
        wire.send(request("GET", "/health", headers))
        return wire.reply()

    def refused(self) -> dict[str, int]:
        return dict(self.visitors.refusals.counts)


class AddressTests(VisitorCase):
    def test_connections_of_one_address(self) -> None:
        for peers, taken in (
            ((STRANGER,) * 3, 2),
            ((STRANGER, OTHER) * 2, 4),
            ((STRANGER, f"::ffff:{STRANGER}", STRANGER), 2),
            ((V6, SAME_NETWORK, V6), 2),
            ((V6, OTHER_NETWORK) * 2, 4),
            (("127.0.0.1",) * 5, 5),
            (("::1",) * 5, 5),
        ):
            self.build(max_per_address=2)
            wires = [self.dial(peer) for peer in peers]
            self.assertEqual(sum(wire is not None for wire in wires), taken, peers)
            for wire in wires:
                if wire is not None:
                    wire.disconnect()
            self.assertIsNotNone(self.dial(peers[0]))  # there is a free place again
            if taken < len(peers):
                self.assertEqual(self.refused(), {"address_full": len(peers) - taken})
            self.visitors.stop()

    def test_all_networks_of_one_site(self) -> None:
        """An IPv6 /48 contains 65 536 networks."""
        self.build(max_per_site=3, site_rate=1, site_burst=2)
        wires = [self.dial(f"2001:db8:0:{number:x}::1") for number in range(5)]
        self.assertEqual([wire is not None for wire in wires], [True] * 3 + [False] * 2)
        self.assertIsNotNone(self.dial(OTHER_NETWORK))
        statuses = [self.ask(wire).status for wire in wires if wire is not None]
        self.assertEqual(statuses, [200, 200, 429])

    def test_connections_that_say_nothing(self) -> None:
        self.build(max_waiting_per_address=2)
        first, second = self.dial(), self.dial()
        self.assertIsNone(self.dial())
        self.assertIsNotNone(self.dial(OTHER))
        assert first is not None and second is not None
        self.assertEqual(self.ask(first).status, 200)
        self.assertIsNotNone(self.dial())
        second.send(ASK[:20])  # half a head does not count
        self.assertIsNone(self.dial())
        self.assertEqual(self.refused(), {"address_waiting": 2})

    def test_requests_of_one_address(self) -> None:
        self.build(address_rate=0.5, address_burst=3)
        wire, second, other = self.dial(), self.dial(), self.dial(OTHER)
        assert wire is not None and second is not None and other is not None
        statuses = [self.ask(wire).status for _ in range(3)]
        self.assertEqual(statuses, [200] * 3)
        for each in (wire, second):  # another connection does not help
            reply = self.ask(each)
            self.assertEqual((reply.status, reply.json["error"]), (429, "too_many_requests"))
            self.assertEqual(reply.headers["retry-after"], "2")
        self.assertEqual(self.ask(other).status, 200)
        self.clock.advance(1.9)
        self.assertEqual(self.ask(wire).headers["retry-after"], "1")
        self.clock.advance(0.2)
        self.assertEqual(self.ask(wire).status, 200)
        self.assertEqual(self.ask(wire).status, 429)
        self.assertEqual(self.refused(), {"request_rate": 4})

    def test_every_path_counts(self) -> None:
        self.build(address_rate=1, address_burst=1)
        for path in ("/xiaozhi/ota/", "/api/vision", "/mcp/vision/explain", "/nowhere", "/health"):
            self.clock.advance(2)
            wire = self.dial()
            assert wire is not None
            wire.send(request("GET", path))
            self.assertNotEqual(wire.reply().status, 429, path)
            wire.send(request("POST", "/xiaozhi/ota/", FIRMWARE, REPORT))
            self.assertEqual(wire.reply().status, 429, path)
            wire.disconnect()

    def test_a_refused_body_is_not_kept(self) -> None:
        self.build(address_rate=1, address_burst=1)
        wire = self.dial()
        assert wire is not None
        self.assertEqual(self.ask(wire).status, 200)
        whole = request("POST", "/xiaozhi/ota/", FIRMWARE, b"x" * 60_000)
        wire.send(whole[:40_000])
        self.assertEqual(self.site.held, 0)
        wire.send(whole[40_000:])
        self.assertEqual(wire.reply().status, 429)

    def test_behind_a_proxy(self) -> None:
        self.build(address_rate=1, address_burst=2, trusted_proxies=["10.0.0.0/8"])
        wire = self.dial(PROXY)
        assert wire is not None
        for named, status in (
            (STRANGER, 200),
            (STRANGER, 200),
            (STRANGER, 429),
            (OTHER, 200),
            (f"{OTHER}, {STRANGER}", 429),  # earlier entries may be invented
            (f"{STRANGER}, 10.1.1.1", 429),
            (f"{STRANGER}:4711", 429),
            (f"::ffff:{STRANGER}", 429),
            ("127.0.0.1", 200),
            ("127.0.0.1", 200),
            ("127.0.0.1", 200),
            ("rubbish", 200),
            ("other rubbish", 200),
            ("more rubbish", 429),
        ):
            self.assertEqual(self.ask(wire, **{"X-Forwarded-For": named}).status, status, named)
        for _ in range(5):
            self.assertEqual(self.ask(wire).status, 200)  # the proxy itself
        stranger = self.dial("192.0.2.50")
        assert stranger is not None
        for number in range(4):  # other peers are not believed
            reply = self.ask(stranger, **{"X-Forwarded-For": f"203.0.113.{number}"})
            self.assertEqual(reply.status, 200 if number < 2 else 429)

    def test_requests_at_once_behind_a_proxy(self) -> None:
        self.build(max_per_address=2, trusted_proxies=[PROXY])
        wires = [self.dial(PROXY) for _ in range(4)]
        head = request("POST", "/xiaozhi/ota/", {"X-Forwarded-For": STRANGER}, b"x" * 10)[:-5]
        for wire in wires[:3]:
            assert wire is not None
            wire.send(head)
        third = wires[2]
        assert third is not None
        third.send(b"xxxxx")
        self.assertEqual(third.reply().status, 429)
        self.assertEqual(self.refused(), {"address_full": 1})
        first = wires[0]
        assert first is not None
        first.send(b"xxxxx")
        first.reply()
        last = wires[3]
        assert last is not None
        last.send(head, b"xxxxx")
        self.assertNotEqual(last.reply().status, 429)

    def test_nothing_is_left_over(self) -> None:
        self.build(trusted_proxies=[PROXY])
        for peer, headers in ((STRANGER, {}), (PROXY, {"X-Forwarded-For": STRANGER})):
            for pieces in ((), (b"GET",), (ASK[:-2],), (request("GET", "/health", headers),)):
                wire = self.dial(peer)
                assert wire is not None
                wire.send(*pieces)
                wire.disconnect()
        self.assertEqual(self.visitors.addresses, 0)
        self.assertEqual(self.site.connections, 0)
        self.visitors.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_settings_are_checked(self) -> None:
        for wrong in ({"trusted_proxies": ["10.0.0.0/33"]}, {"unlimited": ["localhost"]}):
            self.assertRaises(msgspec.ValidationError, msgspec.convert, wrong, HttpSettings)


class SlowTests(VisitorCase):
    def test_slow_clients(self) -> None:
        """A client's data, its duration, and the outcome."""
        post = request("POST", "/xiaozhi/ota/", FIRMWARE, b"x" * 1000)
        body_at = post.index(b"\r\n\r\n") + 4
        for name, pieces, step, ends_at, status in (
            ("nothing at all", [], 1.0, 10, 0),
            ("one byte", [b"G"], 1.0, 10, 408),
            ("a head by the byte", [post[at : at + 1] for at in range(40)], 1.0, 10, 408),
            ("headers without end", [b"GET / HTTP/1.1\r\n"] + [b"X: y\r\n"] * 60, 1.0, 10, 408),
            ("a head just in time", [post[:50]] * 1, 9.0, 10, 408),
            (
                "a body by the byte",
                [post[:body_at], *(post[at : at + 1] for at in range(body_at, body_at + 100))],
                1.0,
                60,
                0,
            ),
        ):
            self.build(head_timeout=10, request_time=60)
            wire = self.dial()
            assert wire is not None
            began = self.clock.seconds()
            waiting = list(pieces)
            while not wire.closed:
                if waiting:
                    wire.send(waiting.pop(0))
                self.clock.advance(step)
                self.assertLess(self.clock.seconds() - began, 200, name)
            took = self.clock.seconds() - began
            self.assertLessEqual(abs(took - ends_at), step, name)
            if status:
                self.assertEqual(wire.reply().status, status, name)
            wire.disconnect()
            self.assertEqual(sum(self.refused().values()), 1, name)
            self.visitors.stop()
            self.assertEqual(self.clock.getDelayedCalls(), [], name)

    def test_the_next_request_of_a_connection(self) -> None:
        self.build(head_timeout=10, request_time=60)
        wire = self.dial()
        assert wire is not None
        self.assertEqual(self.ask(wire).status, 200)
        self.clock.advance(59)  # between two requests
        wire.send(b"GET /health")
        self.clock.advance(9.9)
        self.assertFalse(wire.closed)
        self.clock.advance(0.2)
        self.assertEqual(wire.reply().status, 408)
        self.assertTrue(wire.closed)

    def test_a_slow_answer_is_nobodys_fault(self) -> None:
        """The time of a vision model does not count against the client."""
        self.build(head_timeout=10, request_time=60)
        wire = self.dial()
        assert wire is not None
        post = request("POST", "/xiaozhi/ota/", FIRMWARE, REPORT)
        wire.send(post[:-10])
        self.clock.advance(50)
        wire.send(post[-10:])
        self.assertEqual(wire.reply().status, 200)


class LogTests(VisitorCase):
    def lines(self, requests: int, path: str = "/xiaozhi/ota/") -> list[str]:
        with capturedLogs() as events:
            for _ in range(requests):
                wire = self.dial()
                assert wire is not None
                wire.send(request("POST", path, FIRMWARE, REPORT))
                wire.reply()
                wire.disconnect()
            self.clock.advance(10)
        return [
            str(event["log_format"])
            for event in events
            if event.get("log_namespace", "").endswith("Visitors")
        ]

    def test_a_few_requests_have_a_line_each(self) -> None:
        self.assertEqual(len(self.lines(5)), 5)

    def test_a_flood_has_a_few_lines(self) -> None:
        """The first requests of a flood have a line each, the others one for a burst."""
        for path in ("/xiaozhi/ota/", "/nowhere", "/api/vision"):
            self.build()
            self.assertLess(len(self.lines(500, path)), 25, path)

    def test_the_count_is_logged(self) -> None:
        with capturedLogs() as events:
            self.lines(500)
        counts = [event["count"] for event in events if "more request" in str(event["log_format"])]
        self.assertEqual(20 + sum(counts), 500)
