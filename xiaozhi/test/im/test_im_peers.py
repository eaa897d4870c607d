"""Rate limits by address, and their log lines."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec import ValidationError, convert
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.im.settings import GatewaySettings
from xiaozhi.web.limits.buckets import Buckets
from xiaozhi.web.limits.peers import Peers
from xiaozhi.web.limits.refusals import Refusals, Refused


class BucketsTests(SynchronousTestCase):
    def test_a_burst_and_then_the_rate(self) -> None:
        buckets = Buckets(rate=2, burst=3)
        self.assertEqual([buckets.take("a", 0) for _ in range(5)], [True] * 3 + [False] * 2)
        self.assertFalse(buckets.take("a", 0.4))
        self.assertTrue(buckets.take("a", 0.5))
        self.assertFalse(buckets.take("a", 0.9))
        self.assertEqual([buckets.take("a", 10) for _ in range(4)], [True] * 3 + [False])

    def test_each_key_has_its_own(self) -> None:
        buckets = Buckets(rate=1, burst=1)
        self.assertTrue(buckets.take("a", 0))
        self.assertTrue(buckets.take("b", 0))
        self.assertFalse(buckets.take("a", 0))

    def test_a_refusal_is_not_charged(self) -> None:
        """A retry loop does not extend its own lockout."""
        buckets = Buckets(rate=1, burst=1)
        let_in = sum(buckets.take("a", tick / 100) for tick in range(1001))
        self.assertEqual(let_in, 11)

    def test_full_ones_are_forgotten(self) -> None:
        buckets = Buckets(rate=1, burst=5)
        for number in range(100):
            buckets.take(str(number), 0)
        self.assertEqual(len(buckets), 100)
        for number in range(100):
            buckets.take("x", 10 + number)
        self.assertEqual(len(buckets), 1)

    def test_bounded(self) -> None:
        buckets = Buckets(rate=0.001, burst=1, most=10)
        for number in range(1000):
            self.assertTrue(buckets.take(str(number), 0))
            self.assertLessEqual(len(buckets), 10)
        self.assertFalse(buckets.take("999", 0))
        self.assertTrue(buckets.take("0", 0))

    @given(
        st.floats(0.1, 100),
        st.integers(1, 50),
        st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 5)), max_size=60),
    )
    def test_like_a_bucket(self, rate: float, burst: int, steps: list[tuple[str, float]]) -> None:
        """Compared with a model that really fills buckets."""
        buckets = Buckets(rate, burst)
        model: dict[str, tuple[float, float]] = {}
        now = 0.0
        for key, passed in steps:
            now += passed
            tokens, at = model.get(key, (float(burst), now))
            tokens = min(float(burst), tokens + (now - at) * rate)
            if abs(tokens - 1.0) < 1e-6:
                return  # either answer is right
            allowed = tokens >= 1.0
            model[key] = (tokens - allowed, now)
            self.assertEqual(buckets.take(key, now), allowed)


class PeersCase(SynchronousTestCase):
    def peers(self, **values: Any) -> Peers:
        self.clock = Clock()
        return Peers(convert(values, GatewaySettings), self.clock)


class KeyTests(PeersCase):
    def test_keys_of_addresses(self) -> None:
        peers = self.peers()
        for host, key in (
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:0:1:2::3", "2001:db8:0:1::/64"),
            ("2001:db8:0:1:ffff::", "2001:db8:0:1::/64"),
            ("fe80::1%eth0", "fe80::/64"),
            ("127.0.0.5", ""),
            ("::1", ""),
            ("", ""),
            ("/a/socket", ""),
        ):
            self.assertEqual(peers.key(host), key, host)

    def test_unlimited(self) -> None:
        peers = self.peers(unlimited=["192.0.2.0/24"])
        self.assertEqual(peers.key("192.0.2.9"), "")
        self.assertEqual(peers.key("127.0.0.1"), "127.0.0.1")

    def test_behind_a_proxy(self) -> None:
        peers = self.peers(trusted_proxies=["10.0.0.0/8", "fd00::/8"])
        self.assertTrue(peers.is_proxy("10.1.2.3"))
        self.assertTrue(peers.is_proxy("fd00::7"))
        for host in ("192.0.2.1", "", "x"):
            self.assertFalse(peers.is_proxy(host))
        self.assertEqual(peers.key("10.1.2.3"), "")
        for header, key in (
            ("", ""),
            ("X-Forwarded-For: 192.0.2.1", "192.0.2.1"),
            ("x-forwarded-for:192.0.2.1,10.0.0.2 , 10.0.0.3", "192.0.2.1"),
            # The client's own entries come first.
            ("X-Forwarded-For: 198.51.100.1, 192.0.2.1", "192.0.2.1"),
            ("X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-For: 192.0.2.1", "192.0.2.1"),
            ("X-Forwarded-For: 192.0.2.1:4711", "192.0.2.1"),
            ("X-Forwarded-For: [2001:db8::1]:4711", "2001:db8::/64"),
            ("X-Forwarded-For: 2001:db8::1", "2001:db8::/64"),
            ("X-Forwarded-For: 10.0.0.2", ""),
            ("X-Forwarded-For: 127.0.0.1", ""),
            ("X-Forwarded-For: 192.0.2.1, rubbish\xff", "nowhere"),
        ):
            head = f"GET /ws HTTP/1.1\r\nHost: x\r\n{header}\r\n".encode("latin-1")
            self.assertEqual(peers.forwarded(head), key, header)


class LimitTests(PeersCase):
    def test_at_once(self) -> None:
        peers = self.peers(max_per_address=2)
        self.assertEqual([peers.arrive("a") for _ in range(3)], ["", "", "address_full"])
        self.assertEqual(peers.arrive("b"), "")
        peers.leave("a")
        self.assertEqual([peers.arrive("a") for _ in range(2)], ["", "address_full"])

    def test_waiting(self) -> None:
        peers = self.peers(max_waiting_per_address=2)
        self.assertEqual([peers.arrive("a") for _ in range(3)], ["", "", "address_waiting"])
        self.assertEqual(peers.arrive("b"), "")
        peers.served("a")
        self.assertEqual([peers.arrive("a") for _ in range(2)], ["", "address_waiting"])

    def test_rate(self) -> None:
        peers = self.peers(address_rate=1, address_burst=2)
        self.assertEqual([peers.arrive("a") for _ in range(3)], ["", "", "address_rate"])
        self.assertEqual(peers.arrive("b"), "")
        self.clock.advance(1)
        self.assertEqual([peers.arrive("a") for _ in range(2)], ["", "address_rate"])

    def test_not_counted(self) -> None:
        peers = self.peers(max_per_address=1)
        for _ in range(3):
            self.assertEqual(peers.arrive(""), "")
        peers.served("")
        peers.leave("")
        self.assertEqual(peers.addresses, 0)

    def test_nothing_is_left_over(self) -> None:
        peers = self.peers()
        for key in "abab":
            peers.arrive(key)
        self.assertEqual(peers.addresses, 2)
        for key in "abab":
            peers.served(key)
            peers.leave(key)
        self.assertEqual(peers.addresses, 0)
        self.assertEqual((len(peers._there), len(peers._waiting)), (0, 0))

    def test_the_48_of_many_64s(self) -> None:
        """A /48 contains 65 536 /64; each limit holds for all of them together."""
        for setting, refused in (
            ({"max_per_site": 3}, "site_full"),
            ({"max_waiting_per_site": 3}, "site_waiting"),
            ({"site_rate": 0.001, "site_burst": 3}, "site_rate"),
        ):
            peers = self.peers(**setting)
            keys = [peers.key(f"2001:db8:7:{number:x}::1") for number in range(4)]
            self.assertEqual([peers.arrive(key) for key in keys], ["", "", "", refused])
            # Another site and an IPv4 address are not affected.
            for host in ("2001:db8:8::1", "192.0.2.1"):
                self.assertEqual(peers.arrive(peers.key(host)), "", refused)

    def test_a_48_has_room_again(self) -> None:
        peers = self.peers(max_per_site=2, max_waiting_per_site=1)
        one, two, three = (peers.key(f"2001:db8:7:{number}::1") for number in (1, 2, 3))
        self.assertEqual(peers.arrive(one), "")
        self.assertEqual(peers.arrive(two), "site_waiting")
        peers.served(one)
        self.assertEqual(peers.arrive(two), "")
        peers.served(two)
        self.assertEqual(peers.arrive(three), "site_full")
        peers.leave(one)
        self.assertEqual(peers.arrive(three), "")
        peers.served(three)
        for key in (two, three):
            peers.leave(key)
        left = (peers._sites, peers._there_by_site, peers._waiting_by_site)
        self.assertEqual([len(each) for each in left], [0, 0, 0])

    def test_networks_are_checked(self) -> None:
        for values in ({"trusted_proxies": ["10.0.0.0/33"]}, {"unlimited": ["localhost"]}):
            self.assertRaises(ValidationError, convert, values, GatewaySettings)


class RefusalsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.refusals = Refusals(self.clock, 10)

    def test_each_is_counted_and_a_burst_is_logged_once(self) -> None:
        with capturedLogs() as events:
            for number in range(50):
                self.refusals.add(Refused("bad_token", 401, f"192.0.2.{number}", f"d{number}"))
            self.refusals.add(Refused("address_rate", 0, "192.0.2.1"))
            self.clock.advance(10)
        self.assertEqual(self.refusals.counts, {"bad_token": 50, "address_rate": 1})
        self.assertEqual(
            [formatEvent(event) for event in events],
            [
                "refused: 401 bad_token, device d0, peer 192.0.2.0",
                "refused: dropped address_rate, device unknown, peer 192.0.2.1",
                "refused 49 times: 401 bad_token, the last of them device d49, peer 192.0.2.49",
            ],
        )

    def test_stop_keeps_nothing_back(self) -> None:
        with capturedLogs() as events:
            for _ in range(3):
                self.refusals.add(Refused("bad_token", 401, "192.0.2.1"))
            self.refusals.stop()
            self.refusals.stop()
        self.assertEqual(len(events), 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])
