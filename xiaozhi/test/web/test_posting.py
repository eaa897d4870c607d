"""Messages posted to devices: parsing, answers, authorisation."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.auth import AdminToken, device_identity
from xiaozhi.base.errors import AuthError, ProtocolError, StoreError
from xiaozhi.base.values import Receipt
from xiaozhi.testing.posting import AcceptingInbox, admit
from xiaozhi.testing.vendors.httpwire import Reply, Wire, request
from xiaozhi.web.limits.visitors import BoundedVisitors
from xiaozhi.web.options import SiteLimits, SiteStyle
from xiaozhi.web.posting import Posting
from xiaozhi.web.routes import Routes
from xiaozhi.web.site import WebSite
from xiaozhi.wire import messages as m
from xiaozhi.wire.mail import Mail, meant, read_mail

PATH = "/api/devices/aa:bb:cc:dd:ee:ff/messages"


class ReadingTests(SynchronousTestCase):
    def test_words(self) -> None:
        self.assertEqual(read_mail(b'{"say": "Tea."}'), (Mail(say="Tea."), None))
        self.assertEqual(read_mail(b'{"say": "Tea.", "ttl": 5}'), (Mail(say="Tea."), 5))

    def test_a_message(self) -> None:
        mail, ttl = read_mail(b'{"ttl": 0.5, "message": {"type": "x",  "n": 1e2}}')
        self.assertEqual((mail, ttl), (Mail(message='{"type": "x",  "n": 1e2}'), 0.5))

    def test_refusals(self) -> None:
        deep = b'{"message":' + b'{"a":' * 40 + b"1" + b"}" * 41
        for body, code in (
            (b"", "bad_json"),
            (b"\xff", "bad_json"),
            (b"{", "bad_json"),
            (b"[]", "bad_field"),
            (b"{}", "bad_field"),
            (b'{"say": "x", "message": {}}', "bad_field"),
            (b'{"say": 1}', "bad_field"),
            (b'{"say": " "}', "bad_field"),
            (b'{"say": "x", "ttl": -1}', "bad_field"),
            (b'{"say": "x", "ttl": "1"}', "bad_field"),
            (b'{"say": "x", "ttl": 1e400}', "bad_field"),
            (b'{"say": "x", "ttl": 1' + b"0" * 400 + b"}", "bad_field"),
            (b'{"say": "x", "ttl": -1' + b"0" * 400 + b"}", "bad_field"),
            (b'{"say": "x", "ttl": 1' + b"0" * 5000 + b"}", "bad_field"),
            (b'{"say": "x", "ttl": NaN}', "bad_json"),
            (b'{"say": "x", "ttl": Infinity}', "bad_json"),
            (b'{"say": "x", "ttl": true}', "bad_field"),
            (b'{"say": "x", "to": "y"}', "bad_field"),
            (b'{"message": "x"}', "bad_field"),
            (b'{"message": [1]}', "bad_field"),
            (b'{"message": {"type": 1}}', "bad_field"),
            (b'{"message": {"type": "stt", "text": 1}}', "bad_field"),
            (b'{"message": {"type": "tts", "state": "start"}}', "not_deliverable"),
            (b'{"message": {"type": "hello"}}', "not_deliverable"),
            (b'{"message": {"type": "tts", "data": {"state": "stop"}}}', "not_deliverable"),
            # Firmware reads member names in any case and takes the first.
            (b'{"message": {"type": "x", "type": "x"}}', "bad_field"),
            (b'{"message": {"type": "tts", "type": "x"}}', "bad_field"),
            (b'{"message": {"type": "x", "type": "tts"}}', "bad_field"),
            (b'{"message": {"Type": "x"}}', "bad_field"),
            (b'{"message": {"TYPE": "tts", "type": "x"}}', "bad_field"),
            (b'{"message": {"type": "x", "tYpE": "tts"}}', "bad_field"),
            (b'{"message": {"type": "alert", "Type": "tts", "state": "stop"}}', "bad_field"),
            (b'{"message": {"\\u0054ype": "tts", "type": "x"}}', "bad_field"),
            (b'{"message": {"type\\u0000x": "tts", "type": "x"}}', "bad_field"),
            (b'{"message": {"type": null, "type": "x"}}', "bad_field"),
            (b'{"message": {"type": ["tts"], "type": "x"}}', "bad_field"),
            (b'{"message": {"n": 1' + b"0" * 5000 + b', "Type": "tts"}}', "bad_json"),
            (b'{"message": {"type": "TTS", "state": "stop"}}', "not_deliverable"),
            (b'{"message": {"type": "tts\\u0000x", "state": "stop"}}', "not_deliverable"),
            (b'{"message": {"type": " Hello "}}', "not_deliverable"),
            (deep, "too_deep"),
        ):
            error = self.assertRaises(ProtocolError, read_mail, body)
            self.assertEqual(error.code, code, body)

    @given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
    def test_nothing_breaks_it(self, body: bytes) -> None:
        try:
            mail, _ = read_mail(body)
        except ProtocolError:
            return
        meant(mail)

    def test_other_members_may_be_called_anything(self) -> None:
        for message in (
            '{"type": "x", "types": 1, "data": {"type": "tts", "Type": "y"}}',
            '{"type": "x", "prototype": "tts", "a": 1, "A": 2, "a": 3}',
            '{"a": 1}',
        ):
            body = f'{{"message": {message}}}'.encode()
            self.assertEqual(read_mail(body), (Mail(message=message), None))

    def test_messages_of_a_mail(self) -> None:
        for message, expected in (
            ('{"type":"alert","status":"s","message":"m"}', m.Alert("s", "m", "")),
            ('{"type":"system","data":{"command":"reboot"}}', m.System("reboot")),
            ('{"type":"weather", "sun":true}', '{"type":"weather", "sun":true}'),
            ('{"no":"type"}', '{"no":"type"}'),
        ):
            self.assertEqual(meant(Mail(message=message)), expected)
        self.assertEqual(meant(Mail(say="Tea.")), m.Say("Tea."))

    def test_errors_do_not_quote_the_text(self) -> None:
        self.assertNotIn("Tea", repr(Mail(say="Tea.")))


class AnswerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.inbox = AcceptingInbox()

    def ask(
        self,
        body: Any = None,
        *,
        path: str = PATH,
        token: str | None = "Bearer admin",
        inbox: bool = True,
    ) -> Reply:
        posting = Posting(
            self.inbox if inbox else None,
            admit,
            device_identity,
            ttl=3600,
            max_ttl=7200,
            max_bytes=100,
        )
        routes = Routes()
        posting.add_to(routes, "messages")
        site = WebSite(routes, BoundedVisitors(1), Clock(), SiteLimits(), SiteStyle())
        wire = Wire(site)
        data = json.dumps({"say": "Tea."} if body is None else body).encode()
        wire.send(request("POST", path, {"Authorization": token} if token else {}, data))
        reply = wire.reply()
        wire.disconnect()
        return reply

    def expect(self, reply: Reply, status: int, body: dict[str, Any]) -> None:
        self.assertEqual((reply.status, reply.json), (status, body))

    def test_delivered(self) -> None:
        self.expect(self.ask(), 200, {"delivered": True, "node": "im-1"})
        self.assertEqual(self.inbox.posted, [("aa:bb:cc:dd:ee:ff", Mail(say="Tea."), 3600)])

    def test_kept(self) -> None:
        self.inbox.receipt = Receipt(False, expires=1790000000.12345)
        self.expect(
            self.ask({"say": "Tea.", "ttl": 7200}),
            202,
            {"delivered": False, "kept": True, "expires": 1790000000.123},
        )

    def test_neither(self) -> None:
        self.inbox.receipt = Receipt(False)
        reply = self.ask({"say": "Tea.", "ttl": 0})
        self.assertEqual((reply.status, reply.json["error"]), (404, "not_connected"))

    def test_the_device(self) -> None:
        for name, device in (
            ("AA%3abb:cc:dd:ee:FF", "aa:bb:cc:dd:ee:ff"),
            ("a%2Fb", "a/b"),
            ("x/messages", None),
            ("%20", None),
            ("caf%C3%A9", None),
            ("%00", None),
            ("x" * 256, None),
        ):
            reply = self.ask(path="/api/devices/" + name + "/messages")
            if device is None:
                self.assertIn(reply.status, (400, 404), name)
            else:
                self.assertEqual(self.inbox.posted[-1][0], device)

    def test_mistakes(self) -> None:
        for body, status, code in (
            ({}, 400, "bad_field"),
            ({"say": "x", "ttl": 7201}, 400, "bad_field"),
            ({"say": "x", "ttl": 1e308}, 400, "bad_field"),
            ({"say": "x", "ttl": 2**63}, 400, "bad_field"),
            ({"say": "x" * 100}, 413, "too_large"),
        ):
            reply = self.ask(body)
            self.assertEqual((reply.status, reply.json["error"]), (status, code))

    def test_not_taken(self) -> None:
        for code, status in (
            ("inbox_full", 429),
            ("inboxes_full", 503),
            ("presence_unavailable", 503),
        ):
            self.inbox.broken = StoreError(code, "no")
            reply = self.ask()
            self.assertEqual((reply.status, reply.json["error"]), (status, code))

    def test_the_token_before_all_else(self) -> None:
        for path in (PATH, "/api/devices/x"):
            for token in (None, "Bearer wrong"):
                self.assertEqual(self.ask({"bad": 1}, path=path, token=token).status, 401)

    def test_without_a_reachable_device(self) -> None:
        reply = self.ask(inbox=False)
        self.assertEqual((reply.status, reply.json["error"]), (501, "no_presence"))
        self.assertIn("presence.url", reply.json["message"])


class AdminTokenTests(SynchronousTestCase):
    def test_check(self) -> None:
        admin = AdminToken("a-good-long-token")
        admin.check("Bearer a-good-long-token")
        admin.check("a-good-long-token")
        for shown, code in (
            (None, "missing_token"),
            ("", "missing_token"),
            ("Bearer ", "missing_token"),
            ("Bearer a-good-long-toke", "bad_token"),
            ("Bearer a-good-long-token2", "bad_token"),
            ("Bearer \u00e9\ud800", "bad_token"),
        ):
            error = self.assertRaises(AuthError, admin.check, shown)
            self.assertEqual((error.code, error.status), (code, 401))
        self.assertNotIn("good", repr(admin))
