"""Clients that exhaust the edge's sockets, on real sockets."""

from __future__ import annotations

import contextlib
import socket
import time

from twisted.trial.unittest import TestCase

from tests.rawsocket import RawSocket, firmware_head
from tests.services import Pair, get

MAC = "aa:bb:cc:dd:ee:2{}"

SETS = (
    "gateway.unlimited=[]",
    "gateway.trusted_proxies=[127.0.0.9]",
    "gateway.max_per_address=30",
    "gateway.max_waiting_per_address=20",
    "gateway.address_rate=5",
    "gateway.address_burst=100",
    "gateway.device_rate=0.01",
    "gateway.device_burst=4",
    "gateway.head_timeout=1",
    "gateway.log_interval=1",
    "link.ping_interval=0.5",
    "link.ping_timeout=0.5",
    "link.hello_timeout=2",
    "link.close_timeout=0.1",
)
# Addresses of this machine, which the limits treat as any others.
ABUSER, GUEST, PROXY = "127.0.0.7", "127.0.0.8", "127.0.0.9"


class AbuseTests(TestCase):
    timeout = 60

    def setUp(self) -> None:
        self.pair = Pair(SETS)
        self.addCleanup(self.pair.end)
        self.pair.im.start()
        self.pair.im.wait_for("/alive")

    def connect(self, source: str) -> socket.socket:
        connection = socket.create_connection(
            ("127.0.0.1", self.pair.edge_port), 5, source_address=(source, 0)
        )
        self.addCleanup(connection.close)
        return connection

    def head(self, number: int = 0, **headers: str) -> bytes:
        mac = MAC.format(number)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        given |= {"Authorization": f"Bearer {self.pair.token(mac)}", "Device-Id": mac}
        return firmware_head("127.0.0.1", "/ws", given)

    def answer(self, connection: socket.socket, request: bytes) -> bytes:
        """Return the first data received; empty: the connection was closed."""
        with contextlib.suppress(ConnectionError):
            connection.sendall(request)
            return connection.recv(65536)
        return b""

    def assert_served(self, number: int = 0, source: str = GUEST) -> None:
        answer = self.answer(self.connect(source), self.head(number))
        self.assertTrue(answer.startswith(b"HTTP/1.1 101 "), answer)

    def refused(self) -> dict[str, int]:
        counts: dict[str, int] = get(self.pair.edge_port, "/health")[1]["refused"]
        return counts

    def until(self, closed: socket.socket, within: float) -> float:
        """Return the seconds until the server closes the connection."""
        begun = time.monotonic()
        closed.settimeout(within)
        with contextlib.suppress(ConnectionError):
            while closed.recv(65536):
                pass
        return time.monotonic() - begun

    def told(self, reason: str) -> list[str]:
        return [line for line in self.pair.im.output.splitlines() if reason in line]

    def test_flood_from_one_address(self) -> None:
        """Its connections are dropped; other addresses are served meanwhile."""
        flood = [self.connect(ABUSER) for _ in range(80)]
        self.assert_served()
        dropped = 0
        for connection in flood:
            connection.settimeout(0.02)
            with contextlib.suppress(TimeoutError):
                dropped += not self.answer(connection, b"")
        self.assertGreaterEqual(dropped, 60)
        refused = self.refused()
        # On a slow machine the first ones time out before the last ones connect.
        self.assertGreaterEqual(refused["address_waiting"] + refused.get("silent", 0), 60)
        self.assertLess(len(self.told("address_waiting")), 4, self.pair.im.output)
        self.assertIn(f"peer {ABUSER}", self.told("address_waiting")[0])

    def test_many_connections_in_a_row(self) -> None:
        probe = b"GET /alive HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        answered = 0
        for _ in range(300):
            connection = self.connect(ABUSER)
            answered += bool(self.answer(connection, probe))
            connection.close()
        self.assertGreaterEqual(answered, 100)
        self.assertEqual(self.refused(), {"address_rate": 300 - answered})
        self.assertGreater(300 - answered, 100)
        self.assert_served()

    def test_many_devices_from_one_address(self) -> None:
        """Devices behind a proxy get an answer; the limit applies to their own address."""
        answers = [
            self.answer(
                self.connect(PROXY), self.head(number, X_Forwarded_For=f"192.0.2.1, {PROXY}")
            )
            for number in range(34)
        ]
        for answer in answers[:30]:
            self.assertTrue(answer.startswith(b"HTTP/1.1 101 "), answer)
        for answer in answers[30:]:
            self.assertTrue(answer.startswith(b"HTTP/1.1 429 "), answer)
            self.assertIn(b'"error":"address_full"', answer)
        other = self.answer(self.connect(PROXY), self.head(40, X_Forwarded_For="192.0.2.2"))
        self.assertTrue(other.startswith(b"HTTP/1.1 101 "), other)
        self.assertEqual(self.refused(), {"address_full": 4})

    def test_a_reconnecting_device(self) -> None:
        for _ in range(4):
            self.assert_served()
        for _ in range(3):
            answer = self.answer(self.connect(GUEST), self.head())
            self.assertTrue(answer.startswith(b"HTTP/1.1 429 "), answer)
            self.assertIn(b"\r\nRetry-After: ", answer)
        self.assert_served(1)
        self.assertEqual(self.refused(), {"device_rate": 3})

    def drip(self, connection: socket.socket, data: bytes) -> float:
        """Send a byte every 50 ms. :return: seconds until the server closed the connection."""
        begun = time.monotonic()
        connection.settimeout(0.05)
        for octet in data:
            try:
                connection.sendall(bytes([octet]))
                # The server's answer, then the end.
                while connection.recv(65536):
                    pass
                break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        else:
            self.fail("it was not cut")
        return time.monotonic() - begun

    def test_slow_head(self) -> None:
        loris = self.connect(ABUSER)
        self.assertLess(self.drip(loris, b"GET /ws HTTP/1.1\r\nX: " + b"x" * 200), 4)
        self.assertEqual(self.refused(), {"request_timeout": 1})
        self.assert_served()

    def test_slow_body(self) -> None:
        loris = self.connect(ABUSER)
        loris.sendall(b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n")
        self.assertLess(self.drip(loris, b"x" * 200), 4)
        self.assertEqual(self.refused(), {"slow_request": 1})

    def test_slow_frame(self) -> None:
        """Single bytes of a message do not postpone its timeout."""
        device = RawSocket(self.pair.edge_port, self.head())
        self.addCleanup(device.close)
        device.hello()
        device.send_bytes(b"\x82\xfe\x40\x00\0\0\0\0")
        self.assertLess(self.drip(device._socket, b"x" * 200), 5)

    def test_silence(self) -> None:
        """Dead connections: before and after the request, after the hello."""
        silent = self.connect(ABUSER)
        upgraded = self.connect(ABUSER)
        upgraded.sendall(self.head(1))
        device = RawSocket(self.pair.edge_port, self.head(2))
        self.addCleanup(device.close)
        device.hello()
        self.assertLess(self.until(silent, 5), 3)
        self.assertLess(self.until(upgraded, 5), 4)
        self.assertEqual(device.until_close(), (1011, "ping_timeout"))
        self.assertEqual(get(self.pair.edge_port, "/health")[1]["connections"], 0)
        self.assertEqual(self.refused(), {"silent": 1})
