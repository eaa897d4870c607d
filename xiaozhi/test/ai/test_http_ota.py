"""OTA, and the web site's own behaviour."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.ai.http.addresses import device_url
from xiaozhi.ai.http.edge import EdgeCheck
from xiaozhi.ai.http.ota import OtaHandlers, OtaReport, read_report
from xiaozhi.ai.http.registration import OpenRegistrar
from xiaozhi.ai.http.settings import HttpSettings, OtaSettings
from xiaozhi.ai.http.site import SiteParts, make_site, site_of
from xiaozhi.auth import AuthSettings, JwtTokens, load_keys
from xiaozhi.base.errors import ConfigError
from xiaozhi.testing.posting import AcceptingInbox, insiders, posting
from xiaozhi.testing.vendors.httpwire import Reply, Wire, chunk, chunked_request, request
from xiaozhi.web.limits.visitors import Visitors
from xiaozhi.web.pages import health_page
from xiaozhi.web.routes import Routes
from xiaozhi.wire.mail import Mail
from xiaozhi.wire.messages import Device

NOW = 1_790_000_000.25
MAC = "aa:bb:cc:dd:ee:ff"
FIRMWARE = {
    "Activation-Version": "1",
    "Client-Id": "11111111-2222-4333-8444-555555555555",
    "Device-Id": MAC,
    "User-Agent": "bread-compact-wifi/2.4.2",
    "Accept-Language": "zh-CN",
    "Content-Type": "application/json",
}
REPORT = json.dumps({"mac_address": MAC, "application": {"name": "x", "version": "2.4.2"}}).encode()


class SiteCase(SynchronousTestCase):
    insiders = insiders()

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        auth = AuthSettings(key="k" * 40)
        self.tokens = JwtTokens(load_keys(auth), auth, self.clock)
        self.inbox: AcceptingInbox | None = AcceptingInbox()
        self.health: dict[str, Any] = {"status": "healthy", "sessions": 2}
        self.build()

    def build(self, ota: dict[str, Any] | None = None, **http: Any) -> None:
        chosen = msgspec.convert({"ota": {"edge_check": "", **(ota or {})}, **http}, HttpSettings)
        parts = SiteParts(
            tokens=self.tokens,
            model=lambda: None,
            health=lambda: self.health,
            posting=posting(self.inbox),
            insiders=self.insiders,
        )
        built = make_site(chosen, parts, self.clock)
        self.site, self.visitors, self.offer = built.site, built.visitors, built.offer

    def serve(self, routes: Routes) -> None:
        """Serve other routes under the same limits."""
        settings = HttpSettings()
        self.visitors = Visitors(settings, self.clock)
        self.site = site_of(routes, settings, self.visitors, self.clock)

    def exchange(self, *pieces: bytes) -> Reply:
        wire = Wire(self.site)
        wire.send(*pieces)
        reply = wire.reply()
        wire.disconnect()
        self.visitors.stop()
        self.assertEqual((self.site.held, self.site.connections), (0, 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        return reply

    def configure(
        self,
        path: str = "/xiaozhi/ota/",
        body: bytes = REPORT,
        without: tuple[str, ...] = (),
        **more: str,
    ) -> Reply:
        headers = {name: value for name, value in FIRMWARE.items() if name not in without}
        extra = {name.replace("_", "-"): value for name, value in more.items()}
        return self.exchange(request("POST", path, {**headers, **extra}, body))


class OtaTests(SiteCase):
    def test_configuration(self) -> None:
        reply = self.configure()
        self.assertEqual(reply.status, 200)
        self.assertEqual(set(reply.json), {"server_time", "websocket", "firmware"})
        self.assertEqual(reply.json["server_time"]["timestamp"], 1_790_000_000_250)
        self.assertIsInstance(reply.json["server_time"]["timezone_offset"], int)
        self.assertEqual(reply.json["firmware"], {"version": "2.4.2", "url": ""})
        websocket = reply.json["websocket"]
        self.assertEqual(websocket["url"], "ws://192.0.2.1:8000/xiaozhi/v1/")
        self.assertEqual(websocket["version"], 1)
        device = self.tokens.authenticate(websocket["token"], MAC, FIRMWARE["Client-Id"])
        self.assertEqual(device.user_id, f"open:{MAC}")
        self.assertNotIn(b"null", reply.body)
        self.assertLess(len(reply.body), 6000)
        self.assertEqual(reply.headers["content-length"], str(len(reply.body)))
        self.assertNotIn("transfer-encoding", reply.headers)

    def test_paths(self) -> None:
        for path in ("/xiaozhi/ota", "/xiaozhi/ota/", "/api/ota", "/api/ota/?x=1"):
            self.assertEqual(self.configure(path).status, 200, path)

    def test_members_fit_the_devices_memory(self) -> None:
        """§7.5: names of at most 15 characters, strings under 4000 bytes."""
        websocket = self.configure(Device_Id="x" * 255, Client_Id="y" * 255).json["websocket"]
        self.assertEqual(set(websocket), {"url", "token", "version"})
        self.assertLess(len(websocket["token"]), 3000)

    def test_bad_bodies(self) -> None:
        for body in (b"", b"{", b'{"board":{"ssid":"a"b"}}', b"[" * 5000, b"\xff", b"[1]", b"1"):
            reply = self.configure(body=body)
            self.assertEqual(reply.status, 200, body[:20])
            self.assertEqual(reply.json["firmware"]["version"], "0.0.0")

    def test_versions_a_device_cannot_compare(self) -> None:
        for version in ("v2.4", "2.4-beta", "", "2.", "9999999999", None, 2, ["1"], "1.2\n"):
            body = json.dumps({"application": {"version": version}}).encode()
            self.assertEqual(self.configure(body=body).json["firmware"]["version"], "0.0.0")
        self.assertEqual(read_report(b'{"application":"x"}'), OtaReport())
        self.assertEqual(
            read_report(b'{"application":{"version":"2.1"},"uuid":"u","mac_address":7}'),
            OtaReport("", "u", "2.1"),
        )

    @settings(max_examples=100)
    @given(
        st.one_of(st.binary(max_size=60), st.text('{}[]":,version1.mac_application', max_size=80))
    )
    def test_any_body(self, body: bytes | str) -> None:
        read_report(body.encode() if isinstance(body, str) else body)

    def test_identity(self) -> None:
        reply = self.configure(without=("Device-Id", "Client-Id"))
        self.tokens.authenticate(reply.json["websocket"]["token"], MAC, "any")
        reply = self.configure(without=("Device-Id",), body=b"{}")
        self.assertEqual((reply.status, reply.json["error"]), (400, "missing_device_id"))
        for bad in ("a b", "x" * 256, "\u00e4"):
            reply = self.configure(Device_Id=bad)
            self.assertEqual((reply.status, reply.json["error"]), (400, "bad_device_id"))
        reply = self.configure("/api/ota/?device-id=web-1&client-id=c", without=("Device-Id",))
        self.tokens.authenticate(reply.json["websocket"]["token"], "web-1", "")

    def test_settings(self) -> None:
        self.build({"framing": 3, "timezone_offset": -90, "token_ttl": 600, "edge_port": 9000})
        answer = self.configure().json
        self.assertEqual(answer["websocket"]["version"], 3)
        self.assertEqual(answer["websocket"]["url"], "ws://192.0.2.1:9000/xiaozhi/v1/")
        self.assertEqual(answer["server_time"]["timezone_offset"], -90)
        claims = self.tokens.claims(answer["websocket"]["token"])
        self.assertEqual(claims["exp"] - claims["iat"], 600)

    def test_host(self) -> None:
        for host, url in (
            ("voice.local", "ws://voice.local:8000/xiaozhi/v1/"),
            ("voice.local:8080", "ws://voice.local:8000/xiaozhi/v1/"),
            ("[::1]:8080", "ws://192.0.2.1:8000/xiaozhi/v1/"),
            ("a/b", "ws://192.0.2.1:8000/xiaozhi/v1/"),
            ("a:b", "ws://192.0.2.1:8000/xiaozhi/v1/"),
            ("", "ws://192.0.2.1:8000/xiaozhi/v1/"),
        ):
            sent = request("POST", "/api/ota/", FIRMWARE, REPORT)
            reply = self.exchange(sent.replace(b"Host: 192.0.2.1", b"Host: " + host.encode()))
            self.assertEqual(reply.json["websocket"]["url"], url, host)

    def test_only_trusted_proxies_are_believed(self) -> None:
        proxy: dict[str, Any] = {
            "X_Forwarded_Proto": "https",
            "X_Forwarded_Host": "voice.example.org",
        }
        self.assertIn("192.0.2.1", self.configure(**proxy).json["websocket"]["url"])
        self.build({"trust_proxy": True})
        url = self.configure(**proxy).json["websocket"]["url"]
        self.assertEqual(url, "wss://voice.example.org:443/xiaozhi/v1/")
        url = self.configure(**proxy, X_Forwarded_Port="8443").json["websocket"]["url"]
        self.assertEqual(url, "wss://voice.example.org:8443/xiaozhi/v1/")

    def test_given_url(self) -> None:
        self.build({"websocket_url": "wss://voice.example.org"})
        url = self.configure().json["websocket"]["url"]
        self.assertEqual(url, "wss://voice.example.org:443/xiaozhi/v1/")
        for bad in ("http://a/", "ws://[::1]:80/", "ws://a:0/", "ws://a:x/", "ws://a/b:c", "ws://",
                    "ws://u:p@a/", "ws://a/?x=1:2", "ws://a:70000/"):  # fmt: skip
            with self.assertRaises(ConfigError) as caught:
                self.build({"websocket_url": bad})
            self.assertIn("http.ota.websocket_url", str(caught.exception))

    @settings(max_examples=100)
    @given(st.text("ws:/a.b1@?#[]-0", max_size=20))
    def test_an_accepted_url_has_one_colon_and_a_port(self, tail: str) -> None:
        try:
            url = device_url("ws://" + tail, "key", ("ws", "wss"))
        except ConfigError:
            return
        self.assertRegex(url, r"\Aws://[^:/]+:[1-9][0-9]*/[^:]*\Z")

    def test_activate(self) -> None:
        for path in ("/xiaozhi/ota/activate", "/api/ota/activate/"):
            reply = self.configure(path, b'{"Payload":{}}')
            self.assertEqual((reply.status, reply.json["success"]), (200, True))


class DiagnosisTests(SiteCase):
    def test_page(self) -> None:
        reply = self.exchange(request("GET", "/xiaozhi/ota/"))
        self.assertEqual(reply.status, 200)
        self.assertTrue(reply.headers["content-type"].startswith("text/plain"))
        text = reply.body.decode()
        self.assertIn("ws://192.0.2.1:8000/xiaozhi/v1/", text)
        self.assertIn("http://192.0.2.1:8080/xiaozhi/ota/", text)
        self.assertIn("2026-09-", text)
        self.assertIn("not checked", text)

    def test_head(self) -> None:
        wire = Wire(self.site)
        wire.send(request("HEAD", "/xiaozhi/ota/"))
        head, _, body = wire.transport.value().partition(b"\r\n\r\n")
        self.assertIn(b"200 OK", head)
        self.assertEqual(body, b"")
        wire.disconnect()

    def test_the_edge(self) -> None:
        async def check() -> str:
            return "answers"

        ota = OtaHandlers(OtaSettings(), self.tokens, OpenRegistrar(), self.clock, check)
        routes = Routes()
        ota.add_to(routes, "/o")
        self.serve(routes)
        self.assertIn(b"The edge: answers\n", self.exchange(request("GET", "/o")).body)

    def test_an_edge_that_hangs(self) -> None:
        asked: list[bytes] = []

        class Silent:
            def request(self, method: bytes, uri: bytes) -> Deferred[Any]:
                asked.append(uri)
                return Deferred()

        agent: Any = Silent()
        check = EdgeCheck(self.clock, "http://127.0.0.1:1/alive", timeout=2, fresh=5, agent=agent)
        first = Deferred.fromCoroutine(check())
        self.clock.advance(1.9)
        self.assertNoResult(first)
        self.clock.advance(0.2)
        self.assertIn("does NOT answer", self.successResultOf(first))
        self.successResultOf(Deferred.fromCoroutine(check()))
        self.assertEqual(asked, [b"http://127.0.0.1:1/alive"])
        self.clock.advance(5)
        self.assertNoResult(Deferred.fromCoroutine(check()))
        self.assertEqual(len(asked), 2)
        self.clock.advance(2)


class SiteTests(SiteCase):
    def test_health(self) -> None:
        reply = self.exchange(request("GET", "/health", {"Authorization": "Bearer admin"}))
        self.assertEqual((reply.status, reply.json), (200, self.health))
        self.health["status"] = "unhealthy"
        self.assertEqual(self.exchange(request("GET", "/health/")).status, 503)

    def test_no_such_path_or_method(self) -> None:
        reply = self.exchange(request("GET", "/nowhere"))
        self.assertEqual((reply.status, reply.json["error"]), (404, "not_found"))
        reply = self.exchange(request("PUT", "/api/ota/", {}, b"x"))
        self.assertEqual((reply.status, reply.json["error"]), (405, "method_not_allowed"))
        self.assertEqual(reply.headers["allow"], "GET, HEAD, POST, OPTIONS")

    def test_browsers(self) -> None:
        self.build(origins=["http://x"])
        reply = self.exchange(request("OPTIONS", "/api/ota/", {"Origin": "http://x"}))
        self.assertEqual((reply.status, reply.body), (204, b""))
        self.assertEqual(reply.headers["access-control-allow-origin"], "http://x")
        allowed = reply.headers["access-control-allow-headers"]
        self.assertEqual(allowed, "client-id, content-type, device-id, authorization")
        self.assertNotIn("access-control-allow-origin", self.configure().headers)

    def test_a_body_too_large_is_dropped_as_it_comes(self) -> None:
        self.build(max_body=2048)
        wire = Wire(self.site)
        wire.send(request("POST", "/api/ota/", {**FIRMWARE, "Transfer-Encoding": "chunked"}))
        for _ in range(20):
            wire.send(chunk(b"x" * 1000))
            self.assertLessEqual(self.site.held, 2048)
        self.assertEqual(wire.transport.value(), b"")
        wire.send(b"0\r\n\r\n")
        self.assertEqual((wire.reply().status, self.site.held), (413, 0))
        wire.send(request("GET", "/health"))  # the connection continues
        self.assertEqual(wire.reply().status, 200)
        wire.disconnect()

    def test_a_length_too_large_is_refused_unread(self) -> None:
        self.build(max_body=2048)
        reply = self.configure(body=b"x" * 2049)
        self.assertEqual((reply.status, reply.json["error"]), (413, "too_large"))

    def test_a_body_without_end_is_cut_off(self) -> None:
        self.build(max_body=2048)
        wire = Wire(self.site)
        wire.send(request("POST", "/api/ota/", {**FIRMWARE, "Transfer-Encoding": "chunked"}))
        endless = chunk(b"x" * 65536) * 4
        for _ in range(8):
            wire.send(endless)
        self.assertEqual(wire.reply().status, 413)
        self.clock.advance(2)
        self.assertTrue(wire.closed)
        wire.disconnect()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_all_bodies_together_are_bounded(self) -> None:
        self.build(max_held=3000)
        wires = [Wire(self.site) for _ in range(3)]
        head = request("POST", "/api/ota/", {**FIRMWARE, "Transfer-Encoding": "chunked"})
        for wire in wires:
            wire.send(head, chunk(b"x" * 1400))
        self.assertEqual(self.site.held, 2800)
        for wire in wires:
            wire.send(b"0\r\n\r\n")
        self.assertEqual([wire.reply().status for wire in wires], [200, 200, 503])
        self.assertEqual(self.site.held, 0)
        for wire in wires:
            wire.disconnect()

    def test_clients_that_leave_are_forgotten(self) -> None:
        wire = Wire(self.site)
        wire.send(request("POST", "/api/ota/", {**FIRMWARE, "Transfer-Encoding": "chunked"}))
        wire.send(chunk(b"x" * 100))
        self.assertEqual(self.site.held, 100)
        wire.disconnect()
        self.visitors.stop()
        self.assertEqual((self.site.held, self.site.connections), (0, 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_trickle_is_cut_off(self) -> None:
        self.build(head_timeout=10)
        wire = Wire(self.site)
        wire.send(b"GET /health HTTP/1.1\r\n")
        for _ in range(9):
            self.clock.advance(1)
            wire.send(b"X: y\r\n")
        self.assertFalse(wire.closed)
        self.clock.advance(1)
        self.assertTrue(wire.closed)
        wire.disconnect()
        self.visitors.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_connections_are_bounded(self) -> None:
        self.build(max_connections=1)
        wire = Wire(self.site)
        self.assertIsNone(self.site.buildProtocol(wire.transport.getPeer()))
        wire.disconnect()
        self.assertIsNotNone(self.site.buildProtocol(wire.transport.getPeer()))

    def test_an_exception_is_answered(self) -> None:
        def broken() -> dict[str, Any]:
            raise ZeroDivisionError("secret")

        routes = Routes()
        routes.get("/health", health_page(broken, insiders()))
        self.serve(routes)
        reply = self.exchange(request("GET", "/health"))
        self.assertEqual((reply.status, reply.json["error"]), (500, "internal"))
        self.assertNotIn(b"secret", reply.body)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_access_log_without_tokens(self) -> None:
        with capturedLogs() as events:
            self.exchange(request("GET", "/health?authorization=Bearer%20sesame"))
            reply = self.configure()
        lines = [event for event in events if event.get("log_namespace", "").endswith("Visitors")]
        self.assertEqual(
            [(e["path"], e["status"]) for e in lines], [("/health", 200), ("/xiaozhi/ota/", 200)]
        )
        self.assertNotIn("sesame", str(lines))
        self.assertNotIn(reply.json["websocket"]["token"], str(events))

    def test_requests_cannot_forge_log_lines(self) -> None:
        with capturedLogs() as events:
            self.exchange(request("GET", "/" + "a" * 200, {"User-Agent": "x\ty\x9b"}))
        self.assertEqual(events[-1]["path"], "/" + "a" * 119)
        self.assertEqual(events[-1]["agent"], "x?y?")

    def test_split_anywhere(self) -> None:
        whole = request("POST", "/api/ota/", FIRMWARE, REPORT)
        for at in range(1, len(whole)):
            self.assertEqual(self.exchange(whole[:at], whole[at:]).status, 200)


class PostTests(SiteCase):
    """``POST /api/devices/{device_id}/messages`` at the AI service."""

    path = "/api/devices/AA:bb:cc:dd:ee:ff/messages"

    def post(self, body: bytes, token: str = "admin", path: str = "") -> Reply:
        headers = {"Authorization": f"Bearer {token}", "Connection": "close"}
        return self.exchange(request("POST", path or self.path, headers, body))

    def test_posted(self) -> None:
        reply = self.post(b'{"say": "Tea is ready."}')
        self.assertEqual((reply.status, reply.json), (200, {"delivered": True, "node": "im-1"}))
        assert self.inbox is not None
        self.assertEqual(
            self.inbox.posted, [("aa:bb:cc:dd:ee:ff", Mail(say="Tea is ready."), 3600)]
        )

    def test_refused(self) -> None:
        for reply, status, code in (
            (self.post(b'{"say": "Tea"}', "secret"), 401, "bad_token"),
            (self.post(b" " * 301, "secret"), 401, "bad_token"),
            (self.post(b" " * 301), 413, "too_large"),
            (self.post(b"{}"), 400, "bad_field"),
            (self.post(b"{}", path="/api/devices/x"), 404, "not_found"),
            (self.post(b"{}", path="/api/devices"), 404, "not_found"),
        ):
            self.assertEqual(reply.status, status)
            self.assertIn(code, (reply.json.get("error"), reply.json.get("code")))

    def test_without_redis(self) -> None:
        self.inbox = None
        self.build()
        reply = self.post(b'{"say": "Tea"}')
        self.assertEqual((reply.status, reply.json["error"]), (501, "no_presence"))

    def test_degraded_is_no_failure(self) -> None:
        for status, expected in (("degraded", 200), ("unhealthy", 503)):
            self.health["status"] = status
            reply = self.exchange(request("GET", "/health", {"Connection": "close"}))
            self.assertEqual((reply.status, reply.json["status"]), (expected, status))


class ClosingTests(SiteCase):
    """§13: the firmware's client must close first."""

    closing = request("GET", "/health", {"Connection": "close"})

    def test_the_client_closes_first(self) -> None:
        wire = Wire(self.site)
        wire.send(self.closing)
        self.assertEqual(wire.reply().headers["connection"], "close")
        self.assertFalse(wire.closed)
        self.assertEqual(self.site.lingering, 1)
        self.clock.advance(1.9)
        self.assertFalse(wire.closed)
        wire.disconnect()
        self.assertEqual((self.site.lingering, self.clock.getDelayedCalls()), (0, []))

    def test_a_client_that_waits_for_us(self) -> None:
        wire = Wire(self.site)
        wire.send(self.closing)
        self.clock.advance(2)
        self.assertTrue(wire.closed)
        self.assertEqual(self.site.lingering, 0)
        wire.disconnect()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nothing_more_is_read(self) -> None:
        wire = Wire(self.site)
        wire.send(self.closing)
        wire.reply()
        wire.send(request("GET", "/health"), b"x" * 100_000)
        self.assertEqual(wire.transport.value(), b"")
        wire.disconnect()

    def test_old_clients_wait_for_the_end_of_the_connection(self) -> None:
        wire = Wire(self.site)
        wire.send(self.closing.replace(b"HTTP/1.1", b"HTTP/1.0"))
        self.assertTrue(wire.closed)
        wire.disconnect()

    def test_few_linger_at_a_time(self) -> None:
        self.build(max_lingering=1)
        first, second = Wire(self.site), Wire(self.site)
        first.send(self.closing)
        second.send(self.closing)
        self.assertEqual((first.closed, second.closed), (False, True))
        first.disconnect()
        second.disconnect()

    def test_switched_off(self) -> None:
        self.build(linger=0)
        wire = Wire(self.site)
        wire.send(self.closing)
        self.assertTrue(wire.closed)
        wire.disconnect()

    def test_refusals_linger_too(self) -> None:
        self.build(max_body=1024)
        wire = Wire(self.site)
        headers = {**FIRMWARE, "Connection": "close"}
        wire.send(chunked_request("/api/ota/", headers, [b"x" * 2000]))
        self.assertEqual(wire.reply().status, 413)
        self.assertFalse(wire.closed)
        wire.disconnect()


#: Heads of OTA requests that anyone can send for a device.
FORGED: tuple[dict[str, str], ...] = (
    {"Host": "evil.example"},
    {"Host": "evil.example:81"},
    {"Host": "203.0.113.66"},
    {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"},
    {"X-Forwarded-Host": "evil.example, voice.local", "X-Forwarded-Port": "666"},
    {"Forwarded": "host=evil.example;proto=https"},
    {"Host": "evil.example", "Device-Id": MAC.upper()},
    {"Host": "evil.example", "Client-Id": "somebody-else"},
)


class VisionOfferTests(SiteCase):
    device = Device(device_id=MAC, client_id="c", user_id="u")

    def test_the_host_of_the_devices_own_connection(self) -> None:
        self.assertEqual(self.offer(self.device, ""), ("", ""))
        url, token = self.offer(self.device, "192.0.2.7")
        self.assertEqual(url, "http://192.0.2.7:8080/api/vision")
        self.assertEqual(self.tokens.verify(token, MAC, "vision"), self.device)

    def test_ota_teaches_nothing(self) -> None:
        """Otherwise an unauthenticated request could divert another device's photos."""
        for trusting in (False, True):
            for configured in ("", "https://v.example.org/look"):
                self.build({"trust_proxy": trusting}, vision={"url": configured})
                before = [self.offer(self.device, host)[0] for host in ("", "192.0.2.7")]
                for head in FORGED:
                    sent = request("POST", "/api/ota/", {**FIRMWARE, **head}, REPORT)
                    if "Host" in head:
                        sent = sent.replace(b"Host: 192.0.2.1\r\n", b"", 1)
                    self.exchange(sent)
                    after = [self.offer(self.device, host)[0] for host in ("", "192.0.2.7")]
                    self.assertEqual(after, before, head)
                    self.assertFalse(any("evil" in url or "666" in url for url in after))

    def test_given(self) -> None:
        self.build(vision={"url": "https://v.example.org/look"})
        self.assertEqual(self.offer(self.device, "")[0], "https://v.example.org:443/look")
        with self.assertRaises(ConfigError):
            self.build(vision={"url": "ftp://v"})

    def test_a_proxy_without_an_address_for_photos_is_warned_of(self) -> None:
        for ota, url, warned in (
            ({}, "", False),
            ({"trust_proxy": True}, "", True),
            ({"websocket_url": "wss://voice.example.org"}, "", True),
            ({"trust_proxy": True}, "https://v.example.org/look", False),
        ):
            with capturedLogs() as events:
                self.build(dict(ota), vision={"url": url})
            told = [e for e in events if "http.vision.url" in (e.get("log_format") or "")]
            self.assertEqual(bool(told), warned, ota)
