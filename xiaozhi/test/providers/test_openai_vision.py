"""Vision: the vendor and the stand-in."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from xiaozhi.base.errors import ProviderError
from xiaozhi.base.values import Picture
from xiaozhi.interfaces import IVisionModel
from xiaozhi.providers.offline.no_vision import StandInVision
from xiaozhi.providers.openai.vision import OpenAIVision, OpenAIVisionSettings
from xiaozhi.test.providers.fake_vendor import FakeVendor

PICTURE = Picture(b"\xff\xd8abc", "image/jpeg", 320, 240)


def at_once(function: Any, /, *args: Any) -> Deferred[Any]:
    return succeed(function(*args))


class VisionTests(SynchronousTestCase):
    """:class:`OpenAIVision`."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.vendor = FakeVendor()
        settings = OpenAIVisionSettings(base_url="http://vendor/v1", model="m", detail="low")
        self.vision = OpenAIVision(settings, self.clock, at_once, self.vendor)

    def tearDown(self) -> None:
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_picture(self) -> None:
        verifyObject(IVisionModel, self.vision)
        result = self.vision.describe(PICTURE, "What is it?")
        sent = json.loads(self.vendor.last.body)
        self.assertEqual(sent["messages"][0]["role"], "system")
        self.assertEqual(
            sent["messages"][1]["content"],
            [
                {"type": "text", "text": "What is it?"},
                {
                    "type": "image_url",
                    "image_url": {"url": "data:image/jpeg;base64,/9hhYmM=", "detail": "low"},
                },
            ],
        )
        message = {"content": "<think>hm</think>\n A cup. "}
        self.vendor.last.whole(json.dumps({"choices": [{"message": message}]}).encode())
        self.assertEqual(self.successResultOf(result), "A cup.")

    def test_bad_answers(self) -> None:
        for body in (
            b"[]",
            b"oops",
            b'{"choices": []}',
            b'{"choices": [{"message": {"content": ""}}]}',
            b'data: {"choices": []}',
        ):
            result = self.vision.describe(PICTURE, "?")
            self.vendor.last.whole(body)
            error = self.failureResultOf(result, ProviderError).value
            self.assertEqual(error.code, "bad_answer")

    def test_answers_in_other_forms(self) -> None:
        parts = [{"type": "text", "text": "A "}, {"type": "text", "text": "cup."}]
        pieces = [{"choices": [{"delta": {"content": text}}]} for text in ("A ", "cup.")]
        stream = b"".join(b"data: " + json.dumps(piece).encode() + b"\n\n" for piece in pieces)
        for body in (
            json.dumps({"choices": [{"message": {"content": parts}}]}).encode(),
            b"\xef\xbb\xbf"
            + json.dumps({"choices": [{"message": {"content": "A cup."}}]}).encode(),
            stream,
            stream + b"data: [DONE]\n\n",
        ):
            result = self.vision.describe(PICTURE, "?")
            self.vendor.last.whole(body)
            self.assertEqual(self.successResultOf(result), "A cup.")

    def test_reported_errors(self) -> None:
        for body, code in (
            (b'{"error": {"message": "no such key", "code": 401}}', "unauthorized"),
            (b'{"base_resp": {"status_code": 1008, "status_msg": "x"}}', "unpaid"),
            (b'{"a":' * 100_000, "bad_answer"),
            (b'{"choices": [{"finish_reason": "content_filter"}]}', "refused"),
        ):
            result = self.vision.describe(PICTURE, "?")
            self.vendor.last.whole(body)
            error = self.failureResultOf(result, ProviderError).value
            self.assertEqual(error.code, code)

    def test_cancel(self) -> None:
        result = self.vision.describe(PICTURE, "?")
        result.cancel()
        self.failureResultOf(result, CancelledError)
        self.assertEqual(self.vendor.last.cancelled, [True])

    def test_times_out(self) -> None:
        result = self.vision.describe(PICTURE, "?")
        self.clock.advance(30)
        self.assertEqual(self.failureResultOf(result, ProviderError).value.code, "timeout")


class StandInTests(SynchronousTestCase):
    """:class:`StandInVision`."""

    def test_describes_the_picture_in_the_language_of_the_question(self) -> None:
        vision = StandInVision()
        verifyObject(IVisionModel, vision)
        english = self.successResultOf(vision.describe(PICTURE, "What is it?"))
        for part in ("JPEG", "320 by 240", "5 bytes", "No vision model"):
            self.assertIn(part, english)
        chinese = self.successResultOf(vision.describe(PICTURE, "这是什么"))
        for part in ("JPEG", "320", "240", "5字节", "没有配置视觉模型"):
            self.assertIn(part, chinese)
        self.successResultOf(vision.close())
