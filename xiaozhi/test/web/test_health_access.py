"""Health details require the token or loopback."""

from __future__ import annotations

import json
from typing import Any

from xiaozhi.im.settings import EdgeSettings, GatewaySettings
from xiaozhi.test.ai.test_http_ota import SiteCase
from xiaozhi.test.im.test_im_gateway import PortCase
from xiaozhi.testing.posting import admit
from xiaozhi.testing.vendors.httpwire import Wire, request
from xiaozhi.web.guards import FOR_ALL, Insiders

ADMIN = {"Authorization": "Bearer admin"}
WRONG = {"Authorization": "Bearer wrong"}

#: A request's address, its headers, and whether it may read details.
CASES: tuple[tuple[str, dict[str, str], bool], ...] = (
    ("127.0.0.1", {}, True),
    ("127.3.2.1", {}, True),
    ("127.0.0.1", WRONG, True),
    ("192.0.2.7", {}, False),
    ("192.0.2.7", ADMIN, True),
    ("192.0.2.7", {"Authorization": "bearer admin"}, False),
    ("192.0.2.7", WRONG, False),
    ("192.0.2.7", {"Authorization": ""}, False),
    ("10.0.0.1", {}, False),
    # A proxy on this machine.
    ("127.0.0.1", {"X-Forwarded-For": "192.0.2.7"}, False),
    ("127.0.0.1", {"X-Forwarded-For": "127.0.0.1"}, False),
    ("127.0.0.1", {"X-Real-IP": "127.0.0.1"}, False),
    ("127.0.0.1", {"Forwarded": "for=127.0.0.1"}, False),
    ("127.0.0.1", {"Via": "1.1 proxy"}, False),
    ("127.0.0.1", {"X-Forwarded-Proto": "https"}, False),
    ("127.0.0.1", {"X-Forwarded-For": "192.0.2.7", **ADMIN}, True),
    # A stranger's own claim proves nothing.
    ("192.0.2.7", {"X-Forwarded-For": "127.0.0.1"}, False),
    ("192.0.2.7", {"X-Real-IP": "127.0.0.1", "Host": "localhost"}, False),
)

#: With loopback among the trusted proxies, or not trusted.
CAREFUL: tuple[tuple[str, dict[str, str], bool], ...] = (
    ("127.0.0.1", {}, False),
    ("127.0.0.1", WRONG, False),
    ("127.0.0.1", ADMIN, True),
    ("192.0.2.7", {}, False),
    ("192.0.2.7", ADMIN, True),
)


class EdgeHealthTests(PortCase):
    settings = EdgeSettings(gateway=GatewaySettings(max_waiting=4))

    def ask(self, host: str, headers: dict[str, str]) -> dict[str, Any]:
        wire = self.dial(host)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        wire.feed(f"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n".encode())
        data = wire.take()
        wire.lose()
        health: dict[str, Any] = json.loads(data.partition(b"\r\n\r\n")[2])
        return health

    def check(self, cases: tuple[tuple[str, dict[str, str], bool], ...]) -> None:
        for host, headers, details in cases:
            health = self.ask(host, headers)
            if details:
                self.assertIn("node", health, (host, headers))
                self.assertIn("bridge", health, (host, headers))
            else:
                self.assertEqual(tuple(health), FOR_ALL, (host, headers))
                self.assertEqual(health["status"], "healthy")

    def test_access_to_details(self) -> None:
        self.check(CASES)

    def test_loopback_is_not_always_trusted(self) -> None:
        for insiders in (
            Insiders(admit, ("127.0.0.0/8",)),
            Insiders(admit, trust_loopback=False),
        ):
            self.insiders = insiders
            self.setUp()
            self.check(CAREFUL)


class AiHealthTests(SiteCase):
    health: dict[str, Any]

    def check(self, cases: tuple[tuple[str, dict[str, str], bool], ...]) -> None:
        self.health = {
            "status": "degraded",
            "version": "1.0",
            "connections": 2,
            "grpc_status": "connected",
            "providers": {"llm": []},
        }
        for host, headers, details in cases:
            wire = Wire(self.site, peer=host)
            wire.send(request("GET", "/health", headers))
            reply = wire.reply()
            self.assertEqual(reply.status, 200)
            expected = self.health if details else {name: self.health[name] for name in FOR_ALL}
            self.assertEqual(reply.json, expected, (host, headers))
            wire.disconnect()
        self.visitors.stop()

    def test_access_to_details(self) -> None:
        self.check(CASES)

    def test_loopback_is_not_always_trusted(self) -> None:
        for insiders in (
            Insiders(admit, ("127.0.0.0/8",)),
            Insiders(admit, trust_loopback=False),
        ):
            self.insiders = insiders
            self.build()
            self.check(CAREFUL)
