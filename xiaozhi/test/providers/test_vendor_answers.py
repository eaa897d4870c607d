"""A vendor's answer of any form is spoken once, or is an ordinary error."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.base.errors import ProviderError
from xiaozhi.base.values import Role, TextDelta, ToolCall, ToolSpec, Utterance
from xiaozhi.providers.openai.chat import ChatSettings, OpenAIChat
from xiaozhi.test.providers.fake_vendor import Reading
from xiaozhi.testing.vendors.answers import BODIES, CALLS, CHUNKS, CUTS, ENDS, Row, plain, say
from xiaozhi.testing.vendors.network import Network
from xiaozhi.testing.vendors.octets import DONE, choice, event, whole
from xiaozhi.testing.vendors.refusals import REFUSALS, Refusal
from xiaozhi.testing.vendors.vendor import ScriptedVendor, Step

ASKED = [Utterance(Role.USER, "Hi")]
TOOLS = [ToolSpec(name, name, {"type": "object"}) for name in ("set_volume", "get_time")]


class ScriptedCase(SynchronousTestCase):
    """A chat with a vendor that sends a test's script, on virtual time."""

    def setUp(self) -> None:
        self.network = Network()
        self.vendor = ScriptedVendor(self.network)
        self.network.listen(8000, self.vendor)
        self.asked: list[Utterance] = ASKED
        self.chat = self.make()

    def make(self, **settings: Any) -> OpenAIChat:
        settings = {"base_url": "http://127.0.0.1:8000/v1", "model": "m", **settings}
        return OpenAIChat(ChatSettings(**settings), self.network, Random(1))

    def tearDown(self) -> None:
        closing = self.chat.close()
        self.vendor.hang_up()
        self.network.settle()
        self.successResultOf(closing)
        self.assertEqual(self.network.getDelayedCalls(), [])

    def ask(
        self, seconds: float = 0.0, tools: Sequence[ToolSpec] = TOOLS
    ) -> tuple[str, list[ToolCall], str]:
        """Ask. :return: the spoken text, the calls, and the error as text, if there is one."""
        reading = Reading(self.chat.reply(self.asked, tools))
        self.network.settle()
        for _ in range(round(seconds / 0.05)):
            if not reading.done.called:
                self.network.advance(0.05)
        self.assertTrue(reading.done.called, f"not over within {seconds} s")
        failures: list[Any] = []
        reading.done.addErrback(failures.append)
        if failures:
            self.error = failures[0].value
            self.assertIsInstance(self.error, ProviderError, failures[0].getTraceback())
        said = "".join(delta.text for delta in reading.items if isinstance(delta, TextDelta))
        calls = [delta for delta in reading.items if isinstance(delta, ToolCall)]
        return said, calls, str(self.error.code) if failures else ""


class AnswerTests(ScriptedCase):
    """The tables of :mod:`xiaozhi.testing.vendors.answers`."""

    def check(self, rows: Sequence[Row]) -> None:
        for row in rows:
            with self.subTest(row.name):
                self.vendor.play(row.steps)
                said, calls, error = self.ask(max(row.within, row.seconds + 0.5))
                told = tuple((call.name, call.arguments) for call in calls)
                self.assertEqual((said, told, error), (row.text, row.calls, row.error), row.name)
                self.assertEqual(len({call.call_id for call in calls}), len(calls))

    def test_when_it_is_over(self) -> None:
        self.check(ENDS)

    def test_cut_answers_and_other_errors(self) -> None:
        self.check(CUTS)

    def test_labels_and_borders(self) -> None:
        self.check(BODIES)

    def test_chunks(self) -> None:
        self.check(CHUNKS)

    def test_tool_calls(self) -> None:
        self.check(CALLS)


class RefusalTests(ScriptedCase):
    """Errors with status 200 reach the log with the vendor's text."""

    def check(self, refusal: Refusal, *steps: Step) -> None:
        self.vendor.play([*steps])
        _, _, code = self.ask()
        about = repr(refusal.body)
        self.assertEqual(code, refusal.code, about)
        self.assertEqual(self.error.retryable, refusal.retryable, about)
        self.assertIn(refusal.words, self.error.message, about)
        self.assertIn("http://127.0.0.1:8000/v1", self.error.message)

    def test_instead_of_an_answer(self) -> None:
        for refusal in REFUSALS:
            self.check(refusal, *whole(refusal.body))

    def test_called_a_stream(self) -> None:
        for refusal in REFUSALS:
            self.check(refusal, *whole(refusal.body, "text/event-stream"))

    def test_in_the_stream(self) -> None:
        for refusal in REFUSALS:
            self.check(refusal, *plain(say("Hello."), event(refusal.body)))
            self.check(refusal, *plain(event(refusal.body, field=b"event: error\ndata: "), DONE))

    def test_in_the_stream_without_data(self) -> None:
        for refusal in REFUSALS:
            if isinstance(refusal.body, dict):
                self.check(refusal, *plain(say("Hello."), event(refusal.body, field=b"")))

    def test_nothing_of_the_talk_is_logged(self) -> None:
        for body in (
            {"code": 7, "message": "bad", "input": "SECRET", "messages": [{"content": "SECRET"}]},
            {"error": {"message": "bad", "input": "SECRET"}},
            {"result": "SECRET", "code": 7, "message": "bad"},
            {"choices": [{"message": {"content": "SECRET"}}], "error": "bad"},
        ):
            self.vendor.play([*whole(body)])
            self.ask()
            self.assertIn("bad", self.error.message)
            self.assertNotIn("SECRET", self.error.message)

    def test_statuses_with_a_more_precise_text(self) -> None:
        for status, words, code in (
            (400, "Access denied, please make sure your account is in good standing. Arrearage",
             "unpaid"),
            (400, "API key not valid. Please pass a valid API key.", "unauthorized"),
            (403, "AccountOverdueError: the account has an overdue balance", "unpaid"),
            (429, "You exceeded your current quota, please check your plan and billing", "unpaid"),
            (429, "slow down", "rate_limited"),
            (400, "data_inspection_failed", "refused"),
            (400, "messages: field required", "bad_request"),
            (404, "API key", "not_found"),
            (500, "invalid", "vendor_error"),
        ):  # fmt: skip
            self.vendor.play([*whole({"error": {"message": words}}, status=status)])
            self.assertEqual(self.ask()[2], code, words)


class RedactionTests(ScriptedCase):
    """A key is removed from a vendor's text, which stays legible."""

    def test_keys(self) -> None:
        words = "a bad x in the index; any key will do"
        for key, told, logged in (
            ("x", words, words),
            ("a", words, words),
            ("any", words, words),
            (".", "no. really.", "no. really."),
            ("EMPTY", "the list is EMPTY", "the list is EMPTY"),
            ("x", "bad API key: x", "bad API key: ***"),
            ("x", "Bearer x is wrong, x.", "Bearer *** is wrong, x."),
            ("abc", 'api_key="abc" is wrong', 'api_key="***" is wrong'),
            ("abc", "token abcdef", "token abcdef"),
            ("s3cr3t-key", "wrong: s3cr3t-key.", "wrong: ***."),
            ("s3cr3t-key", "s3cr3t-keys3cr3t-key", "******"),
            ("x", "Incorrect API key provided: sk-abcdefgh", "Incorrect API key provided: ***"),
        ):
            closing = self.chat.close()
            self.network.settle()
            self.successResultOf(closing)
            self.chat = self.make(api_key=key)
            self.vendor.play([*whole({"error": {"message": told}}, status=400)])
            self.ask()
            self.assertTrue(self.error.message.endswith(f"400: {logged}"), self.error.message)


class CompressionTests(ScriptedCase):
    """A compressed answer is neither requested nor accepted: it may inflate without end."""

    def test_not_asked_for(self) -> None:
        self.vendor.play(plain(say("Hi."), DONE))
        self.assertEqual(self.ask(), ("Hi.", [], ""))
        self.assertEqual(self.vendor.last.headers["accept-encoding"], "identity")

    def test_not_accepted(self) -> None:
        bomb = gzip.compress(event(choice({"content": "x" * 50_000_000})))
        for coding in ("gzip", "GZIP", "x-gzip", "deflate", "br", "zstd", "identity, gzip"):
            self.vendor.play(plain(bomb, headers={"Content-Encoding": coding}))
            said, _, code = self.ask()
            self.assertEqual((said, code), ("", "bad_answer"), coding)
            self.assertIn("Content-Encoding", self.error.message)
            self.assertTrue(self.network.sockets[-1].aborted)

    def test_not_accepted_with_an_error(self) -> None:
        bomb = gzip.compress(bytes(50_000_000))
        steps = whole(bomb, status=429, headers={"Content-Encoding": "gzip"})
        self.vendor.play([*steps])
        self.assertEqual(self.ask()[2], "rate_limited")

    def test_not_compressed_at_all(self) -> None:
        for coding in ("identity", "Identity", "none", ""):
            self.vendor.play(plain(say("Hi."), DONE, headers={"Content-Encoding": coding}))
            self.assertEqual(self.ask(), ("Hi.", [], ""))
