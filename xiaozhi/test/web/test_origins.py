"""Web pages that may use the two services (docs/quirks.md, Security at the edge)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.ai.http.settings import HttpSettings
from xiaozhi.base.errors import ConfigError
from xiaozhi.im.settings import EdgeSettings, GatewaySettings
from xiaozhi.runtime.config import read_section
from xiaozhi.test.ai.test_http_ota import SiteCase
from xiaozhi.test.im.test_im_gateway import FIRMWARE, MAC, PortCase
from xiaozhi.testing.vendors.httpwire import request
from xiaozhi.web.limits.origins import Origins

# The list, the browser's header (None: no header), whether it is admitted.
TABLE: tuple[tuple[tuple[str, ...], str | None, bool], ...] = (
    ((), None, True),
    ((), "http://demo.example.org:8006", False),
    ((), "null", False),
    ((), "*", False),
    ((), "", False),
    (("http://demo.example.org:8006",), None, True),
    (("http://demo.example.org:8006",), "http://demo.example.org:8006", True),
    (("http://demo.example.org:8006/",), "http://demo.example.org:8006", True),
    (("HTTP://Demo.Example.ORG:8006",), "http://demo.example.org:8006", True),
    (("http://demo.example.org:8006",), "HTTP://DEMO.example.org:8006/", True),
    (("http://demo.example.org:80",), "http://demo.example.org", True),
    (("https://demo.example.org",), "https://demo.example.org:443", True),
    (("https://demo.example.org",), "https://demo.example.org:80", False),
    (("https://demo.example.org",), "http://demo.example.org", False),
    (("http://demo.example.org",), "http://demo.example.org:8006", False),
    (("http://demo.example.org",), "http://demo.example.org.evil.example", False),
    (("http://demo.example.org",), "http://evil.example/demo.example.org", False),
    (("http://demo.example.org",), "http://demo.example.org@evil.example", False),
    (("http://demo.example.org",), "http://demo.example.org http://evil.example", False),
    (("http://demo.example.org",), "http://demo.example.org, http://evil.example", False),
    (("http://demo.example.org",), "http://xdemo.example.org", False),
    (("http://demo.example.org",), "http://demo.example.org:99999", False),
    (("http://demo.example.org",), "http://demo.example.org:x", False),
    (("http://demo.example.org",), "null", False),
    (("http://demo.example.org",), "", False),
    (("http://demo.example.org",), "http://", False),
    (("http://demo.example.org",), "://", False),
    (("http://demo.example.org",), "http://[::1", False),
    (("http://[::1]:8006",), "http://[::1]:8006", True),
    (("http://192.0.2.7:8006",), "http://192.0.2.7:8006", True),
    (("http://münchen.example",), "http://xn--mnchen-3ya.example", True),
    (("capacitor://localhost",), "capacitor://localhost", True),
    (("chrome-extension://abcdef",), "chrome-extension://abcdef", True),
    (("null",), "null", True),
    (("NULL",), "null", True),
    (("null",), "file://", True),
    (("null",), "http://demo.example.org", False),
    (("*",), "http://anything.example", True),
    (("*",), "null", True),
    (("*",), "", True),
    (("http://a.example", "http://b.example"), "http://b.example", True),
)

FAULTY = (
    "demo.example.org",
    "demo.example.org:8006",
    "",
    "http://",
    "http://demo.example.org/page",
    "http://demo.example.org?x",
    "http://demo.example.org:99999",
    "http://demo.example.org:",
    "http://user@demo.example.org",
    "http://*.example.org",
    "http://a.example http://b.example",
    "http://a.example\r\nX: y",
)


class ListTests(SynchronousTestCase):
    def test_table(self) -> None:
        for listed, origin, allowed in TABLE:
            with self.subTest(listed=listed, origin=origin):
                self.assertIs(Origins(listed).allows(origin), allowed)

    def test_faulty_entries(self) -> None:
        for entry in FAULTY:
            with self.subTest(entry=entry):
                told = self.assertRaises(ValueError, Origins, (entry,))
                self.assertIn(f"origins: {entry!r}", str(told))


class SettingsTests(SynchronousTestCase):
    def test_a_faulty_entry_stops_the_start_by_its_key(self) -> None:
        for kind, key in ((GatewaySettings, "gateway"), (HttpSettings, "http")):
            given = {"origins": ["demo.example.org"]}
            error = self.assertRaises(ConfigError, read_section, given, kind, key)
            self.assertIn(f"{key}.origins: 'demo.example.org'", str(error))


class WebSocketTests(PortCase):
    """The edge, with an upgrade and with a page."""

    def listing(self, *origins: str) -> None:
        self.settings = EdgeSettings(gateway=GatewaySettings(origins=origins))
        self.setUp()

    def test_upgrades(self) -> None:
        for listed, origin, allowed in TABLE:
            with self.subTest(listed=listed, origin=origin):
                self.listing(*listed)
                line = b"" if origin is None else b"Origin: %s\r\n" % origin.encode()
                head = FIRMWARE.replace(b"Sec-WebSocket-Key", line + b"Sec-WebSocket-Key")
                if allowed and origin:
                    self.connect(head)
                elif not allowed:
                    status, _headers, body = self.request(head)
                    self.assertEqual((status, body["error"]), (403, "origin_not_allowed"), origin)
                    self.assertEqual(self.authenticator.asked, [])

    def test_two_origins(self) -> None:
        self.listing("http://a.example")
        head = FIRMWARE.replace(
            b"Upgrade: ", b"Origin: http://a.example\r\nOrigin: http://b.example\r\nUpgrade: "
        )
        self.assertEqual(self.request(head)[0], 403)

    def test_pages(self) -> None:
        for listed, origin, allowed in TABLE:
            with self.subTest(listed=listed, origin=origin):
                self.listing(*listed)
                line = "" if origin is None else f"Origin: {origin}\r\n"
                for method, usual in (("GET", 200), ("OPTIONS", 405)):
                    wire = self.dial()
                    wire.feed(
                        f"{method} /alive HTTP/1.1\r\nConnection: close\r\n{line}\r\n".encode()
                    )
                    self.clock.advance(0)
                    top = wire.take().partition(b"\r\n\r\n")[0].lower()
                    shown = allowed and origin is not None
                    self.assertEqual(b"access-control-allow-origin" in top, shown)
                    status = 204 if shown and method == "OPTIONS" else usual
                    self.assertIn(b"http/1.1 %d" % status, top)

    def test_a_token_does_not_help_a_page_that_is_not_listed(self) -> None:
        head = FIRMWARE.replace(b"/xiaozhi/v1/", b"/ws?device-id=" + MAC.encode())
        head = head.replace(b"Upgrade: ", b"Origin: http://evil.example\r\nUpgrade: ")
        self.assertEqual(self.request(head)[0], 403)


class BrainTests(SiteCase):
    """The AI service's HTTP port."""

    def test_table(self) -> None:
        for listed, origin, allowed in TABLE:
            with self.subTest(listed=listed, origin=origin):
                self.build(origins=list(listed))
                headers = {} if origin is None else {"Origin": origin}
                for method, status in (("GET", 200), ("OPTIONS", 204)):
                    reply = self.exchange(request(method, "/health", headers))
                    self.assertEqual(reply.status, status)
                    shown = allowed and origin is not None
                    self.assertEqual("access-control-allow-origin" in reply.headers, shown)
                    self.assertEqual("access-control-allow-headers" in reply.headers, shown)
