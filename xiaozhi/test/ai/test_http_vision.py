"""Picture upload by devices and browsers."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from xiaozhi.ai.http.settings import HttpSettings
from xiaozhi.ai.http.site import SiteParts, make_site
from xiaozhi.auth import AuthSettings, JwtTokens, load_keys, make_tokens
from xiaozhi.base.call import CallContext, current_call
from xiaozhi.base.errors import ProviderError
from xiaozhi.base.values import Picture
from xiaozhi.interfaces import IDeviceTokens, IVisionModel
from xiaozhi.test.ai.test_pictures import jpeg, png
from xiaozhi.testing.posting import insiders, posting
from xiaozhi.testing.vendors.httpwire import Reply, Wire, chunk, chunked_request, form, request
from xiaozhi.wire.messages import Device

MAC = "aa:bb:cc:dd:ee:ff"
DEVICE = Device(device_id=MAC, client_id="c", user_id="u")
PHOTO = jpeg(640, 480) + bytes(range(256)) * 30 + b"\r\n------ESP32\r\n--"
BOUNDARY = "multipart/form-data; boundary=----ESP32_CAMERA_BOUNDARY"


@implementer(IVisionModel)
class ScriptedVision:
    """A vision model with scripted answers; records requests and call contexts."""

    def __init__(self) -> None:
        self.calls: list[CallContext] = []
        self.asked: list[tuple[Picture, str]] = []
        self.answer: Deferred[str] = succeed("a cat")

    def describe(self, picture: Picture, question: str) -> Deferred[str]:
        self.asked.append((picture, question))
        self.calls.append(current_call())
        return self.answer

    def close(self) -> Deferred[None]:
        return succeed(None)


class VisionCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_790_000_000)
        auth = AuthSettings(key="k" * 40)
        self.tokens = JwtTokens(load_keys(auth), auth, self.clock)
        self.model: ScriptedVision | None = ScriptedVision()
        self.token = self.tokens.issue(DEVICE, "vision", 3600)
        self.build()

    def build(self, tokens: IDeviceTokens | None = None, **vision: Any) -> None:
        chosen = msgspec.convert({"vision": vision}, HttpSettings)
        parts = SiteParts(
            tokens=tokens or self.tokens,
            model=lambda: self.model,
            health=dict,
            posting=posting(None),
            insiders=insiders(),
        )
        built = make_site(chosen, parts, self.clock)
        self.site, self.visitors = built.site, built.visitors

    def headers(self, **more: str) -> dict[str, str]:
        """Return headers as the firmware sends them."""
        return {
            "Device-Id": MAC,
            "Client-Id": "c",
            "Authorization": f"Bearer {self.token}",
            "Content-Type": BOUNDARY,
            "Connection": "close",
            **{name.replace("_", "-"): value for name, value in more.items()},
        }

    def upload(
        self, parts: Any = (("question", b"what?"), ("file", PHOTO)), **headers: str
    ) -> Reply:
        body = form(parts)
        return self.exchange(request("POST", "/api/vision", self.headers(**headers), body))

    def exchange(self, *pieces: bytes) -> Reply:
        wire = Wire(self.site)
        wire.send(*pieces)
        reply = wire.reply()
        wire.disconnect()
        self.visitors.stop()
        self.assertEqual((self.site.held, self.clock.getDelayedCalls()), (0, []))
        self.assertNotIn("transfer-encoding", reply.headers)
        self.assertLess(len(reply.body), 6100)
        return reply

    @property
    def asked(self) -> list[tuple[Picture, str]]:
        assert self.model is not None
        return self.model.asked


class UploadTests(VisionCase):
    def test_as_the_firmware_sends_it(self) -> None:
        whole = form([("question", "这是什么?".encode()), ("file", PHOTO)])
        chunks = [whole[at : at + 512] for at in range(0, len(whole), 512)]
        for path in ("/mcp/vision/explain", "/api/vision"):
            reply = self.exchange(chunked_request(path, self.headers(), chunks))
            self.assertEqual(reply.status, 200)
            self.assertEqual(
                reply.json,
                {
                    "success": True,
                    "action": "RESPONSE",
                    "response": "a cat",
                    "text": "a cat",
                    "result": "a cat",
                },
            )
            picture, question = self.asked.pop()
            self.assertEqual(question, "这是什么?")
            self.assertEqual(picture, Picture(PHOTO, "image/jpeg", 640, 480))

    @settings(max_examples=60)
    @given(st.data())
    def test_chunks_and_segments_of_any_size(self, data: st.DataObject) -> None:
        """The picture arrives byte-exact in any segmentation."""
        photo = jpeg(64, 48) + data.draw(st.binary(max_size=400))
        whole = form([("question", b"q"), ("file", photo)])
        cuts = sorted(data.draw(st.sets(st.integers(1, len(whole) - 1), max_size=8)))
        chunks = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
        sent = chunked_request("/api/vision", self.headers(), chunks)
        step = data.draw(st.integers(1, 700))
        reply = self.exchange(*[sent[at : at + step] for at in range(0, len(sent), step)])
        self.assertEqual(reply.status, 200)
        self.assertEqual(self.asked.pop()[0].data, photo)

    def test_the_model_gets_the_call_context(self) -> None:
        """So each device's own agent describes its pictures."""
        self.upload()
        assert self.model is not None
        (call,) = self.model.calls
        self.assertEqual((call.device_id, call.client_id, call.user_id), (MAC, "c", "u"))

    def test_with_length_and_as_browsers_do(self) -> None:
        self.assertTrue(self.upload().json["success"])
        self.assertTrue(self.upload([("image", png(5, 5)), ("question", b"q")]).json["success"])
        self.assertEqual(self.asked[1][0].media_type, "image/png")

    def test_questions(self) -> None:
        self.build(max_question=10)
        for sent, heard in (
            (b"", "What is in this picture?"),
            (b"  \n", "What is in this picture?"),
            (b"x" * 50, "x" * 10),
            (b"\xff?", "\ufffd?"),
        ):
            self.upload([("question", sent), ("file", PHOTO)])
            self.assertEqual(self.asked.pop()[1], heard)
        self.upload([("file", PHOTO)])
        self.assertEqual(self.asked.pop()[1], "What is in this picture?")

    def test_long_answers_are_cut(self) -> None:
        assert self.model is not None
        for words in ("a" * 20_000, "猫" * 2000, "\x00" * 2000, '"' * 1500, "\ud800" * 3000):
            self.model.answer = succeed(words)
            reply = self.upload()
            said = reply.json["response"]
            self.assertTrue(said.endswith(" … (cut)"))
            self.assertGreater(len(reply.body), 5000)
            self.assertLessEqual(len(reply.body), 6000)
        self.model.answer = succeed("a" * 1900)
        self.assertEqual(self.upload().json["response"], "a" * 1900)

    def test_get(self) -> None:
        reply = self.exchange(request("GET", "/api/vision"))
        self.assertEqual(reply.status, 200)
        self.assertIn(b"vision", reply.body)


class RefusalTests(VisionCase):
    def test_tokens(self) -> None:
        other = Device(device_id="other", client_id="", user_id="u")
        for token, status, code in (
            ("", 401, "missing_token"),
            ("Bearer None", 401, "missing_token"),
            ("Bearer x", 401, "bad_token"),
            (self.tokens.issue(other, "vision", 60), 403, "wrong_device"),
            (self.tokens.issue(other, "device", 60), 403, "wrong_device"),
            (self.tokens.issue(DEVICE, "admin", 60), 403, "wrong_scope"),
        ):
            reply = self.upload(Authorization=token)
            self.assertEqual((reply.status, reply.json["error"]), (status, code))
            self.assertFalse(reply.json["success"])
        self.assertEqual(self.asked, [])
        self.assertEqual(self.upload(Device_Id="").json["error"], "missing_device_id")

    def test_the_devices_own_token_does(self) -> None:
        token = self.tokens.issue(DEVICE, "device", 60)
        self.assertTrue(self.upload(Authorization=token).json["success"])

    def test_without_authentication(self) -> None:
        self.build(make_tokens(AuthSettings(key="k" * 40, required=False), self.clock))
        self.assertTrue(self.upload(Authorization="").json["success"])

    def test_nothing_is_kept_of_strangers(self) -> None:
        wire = Wire(self.site)
        headers = self.headers(Authorization="Bearer x", Transfer_Encoding="chunked")
        wire.send(request("POST", "/api/vision", headers))
        for _ in range(10):
            wire.send(chunk(b"x" * 50_000))
            self.assertEqual(self.site.held, 0)
        self.assertEqual(wire.transport.value(), b"")
        wire.send(b"0\r\n\r\n")
        self.assertEqual(wire.reply().status, 401)
        wire.disconnect()

    def test_too_many_bytes(self) -> None:
        self.build(max_bytes=2048)
        self.assertEqual(self.upload().status, 413)
        whole = form([("file", PHOTO)])
        reply = self.exchange(chunked_request("/api/vision", self.headers(), [whole]))
        self.assertEqual((reply.status, reply.json["error"]), (413, "too_large"))

    def test_bad_pictures_are_explained_with_200(self) -> None:
        for parts, code in (
            ([("file", b"<svg/>")], "not_a_picture"),
            ([("file", png(100_000, 100_000))], "picture_too_large"),
            ([("file", jpeg(5, 5)[:20])], "bad_picture"),
            ([("question", b"q")], "no_picture"),
            ([("file", b"")], "no_picture"),
        ):
            reply = self.upload(parts)
            self.assertEqual((reply.status, reply.json["error"]), (200, code))
            self.assertFalse(reply.json["success"])
            self.assertTrue(reply.json["message"])
        reply = self.upload(Content_Type="text/plain")
        self.assertEqual((reply.status, reply.json["error"]), (200, "bad_form"))
        self.assertEqual(self.asked, [])


class ModelTests(VisionCase):
    def begin(self) -> Wire:
        assert self.model is not None
        self.model.answer = Deferred()
        wire = Wire(self.site)
        wire.send(request("POST", "/api/vision", self.headers(), form([("file", PHOTO)])))
        self.assertEqual(wire.transport.value(), b"")
        return wire

    def test_time_limit(self) -> None:
        self.build(timeout=20)
        wire = self.begin()
        self.clock.advance(19.9)
        self.assertEqual(wire.transport.value(), b"")
        self.clock.advance(0.2)
        reply = wire.reply()
        self.assertEqual((reply.status, reply.json["error"]), (200, "vision_timeout"))
        wire.disconnect()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_client_that_leaves_ends_the_work(self) -> None:
        wire = self.begin()
        assert self.model is not None
        cancelled = self.model.answer
        wire.disconnect()
        self.assertTrue(cancelled.called)
        self.assertEqual((self.site.held, self.clock.getDelayedCalls()), (0, []))
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_only_so_many_at_a_time(self) -> None:
        self.build(concurrent=1)
        first = self.begin()
        assert self.model is not None
        waiting = self.model.answer
        second = Wire(self.site)
        second.send(request("POST", "/api/vision", self.headers(), form([("file", PHOTO)])))
        self.assertEqual(second.reply().json["error"], "busy")
        waiting.callback("done")
        self.assertEqual(first.reply().json["text"], "done")
        first.disconnect()
        second.disconnect()
        self.model.answer = succeed("again")
        self.assertEqual(self.upload().json["text"], "again")

    def test_failures(self) -> None:
        wire = self.begin()
        assert self.model is not None
        self.model.answer.errback(ProviderError("quota", "the quota is used up", retryable=False))
        reply = wire.reply()
        self.assertEqual((reply.status, reply.json["error"]), (200, "quota"))
        self.assertEqual(reply.json["message"], "the quota is used up")
        wire.disconnect()

    def test_bugs_are_logged_and_not_shown(self) -> None:
        wire = self.begin()
        assert self.model is not None
        self.model.answer.errback(ZeroDivisionError("secret"))
        reply = wire.reply()
        self.assertEqual((reply.status, reply.json["error"]), (200, "vision_failed"))
        self.assertNotIn(b"secret", reply.body)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        wire.disconnect()

    def test_no_model(self) -> None:
        self.model = None
        self.assertEqual(self.upload().json["error"], "no_vision_model")
        self.assertIn(b"no vision model", self.exchange(request("GET", "/api/vision")).body)

    def test_nothing_private_is_logged(self) -> None:
        with capturedLogs() as events:
            self.upload([("question", b"my secret question"), ("file", PHOTO)])
            self.upload([("question", b"my secret question"), ("file", b"")])
        logged = json.dumps([str(event) for event in events])
        for private in ("secret question", "a cat", self.token):
            self.assertNotIn(private, logged)
