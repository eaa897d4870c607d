"""One chat answer, event by event: its text, and the detection of its end."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.base.errors import ProviderError
from xiaozhi.base.modeltext.reasoning import ThoughtFilter
from xiaozhi.base.values import Delta, TextDelta
from xiaozhi.providers.kit.http.client import VendorClient
from xiaozhi.providers.openai.body import DONE, BadBody, CutBody
from xiaozhi.providers.openai.completion import Completion, bad_answer, words_of
from xiaozhi.providers.openai.settings import VendorSettings
from xiaozhi.test.providers.fake_vendor import FakeVendor


def chunk(text: str | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """Make one event; ``text`` is a delta's, ``message`` a whole answer."""
    delta = {} if text is None else {"content": text}
    return {"choices": [{"delta": delta, "finish_reason": finish, **more}]}


def message(text: str | None, finish: str | None = None) -> dict[str, Any]:
    return chunk(None, finish, message={"content": text})


class CompletionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.client = VendorClient(
            VendorSettings(base_url="http://vendor/v1"), Clock(), FakeVendor()
        )

    def make(self) -> Completion:
        return Completion(self.client, str, ThoughtFilter(calls=True))

    def said(self, *events: Any) -> str:
        completion, deltas = self.make(), list[Delta]()
        for event in events:
            deltas += completion.feed(event)
        deltas += completion.finish()
        return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))

    def test_how_long_more_may_come(self) -> None:
        """Events with :attr:`Completion.over` and :attr:`Completion.patience`."""
        for events, over, patience in (
            ([], False, None),
            ([chunk("Hi")], False, None),
            ([chunk("Hi"), chunk(None, "stop")], True, 0.25),
            ([DONE], True, 0.25),
            # The first chunk has a reason: others may follow.
            ([chunk("Hi", "stop")], True, 2.0),
            ([chunk(None, "stop")], True, 2.0),
            ([chunk("Hi"), chunk(" you", "stop")], True, 2.0),
            # Many chunks with a reason.
            ([chunk("Hi", "stop"), chunk(" you", "stop")], True, 2.8),
            ([chunk("Hi", "stop"), chunk(" you", "stop"), chunk(None, "stop")], True, 2.8),
            # Content after the end.
            ([chunk("Hi", "stop"), chunk(" you")], False, None),
            ([chunk("Hi", "stop"), chunk(" you"), chunk(None, "stop")], True, 0.25),
            ([chunk("Hi", "stop"), chunk("  ")], True, 2.0),
            ([chunk("Hi", "stop"), chunk(" you", "stop"), DONE], True, 0.25),
        ):
            with self.subTest(events):
                completion = self.make()
                for event in events:
                    list(completion.feed(event))
                self.assertEqual((completion.over, completion.patience), (over, patience))

    def test_repetitions(self) -> None:
        """A repetition of the whole answer at its end is dropped; short ones may be genuine."""
        for events, said in (
            # The shortest length that is not a coincidence, and one less.
            ([chunk("12345"), chunk("67890"), chunk("1234567890", "stop")], "1234567890"),
            ([chunk("12345"), chunk("6789"), chunk("123456789", "stop")], "123456789" * 2),
            ([chunk("ha"), chunk("ha", "stop")], "haha"),
            ([chunk("h"), chunk("a"), chunk("ha", "stop")], "haha"),
            ([chunk("1234567890"), chunk("1234567890", "stop")], "1234567890" * 2),
            ([chunk("12345"), chunk("67890"), chunk("1234567899", "stop")], "12345678901234567899"),
            ([chunk("12345"), chunk("67890"), chunk("1234567890")], "1234567890" * 2),
            # In a message.
            ([chunk("One"), message("One and two.", "stop")], "One and two."),
            ([message("One."), message("One.", "stop")], "One."),
            ([chunk("One.\n\nTwo."), message("One. Two.", "stop")], "One.\n\nTwo."),
            ([chunk("One."), message("Another.", "stop")], "One."),
            # Everything before the message was reasoning without an end.
            ([chunk("<think>hm"), message("Yes.", "stop")], "Yes."),
            # An empty message ends nothing.
            ([chunk("<think>hm"), message(""), chunk(" ho</think>Yes.")], "Yes."),
        ):
            with self.subTest(events):
                self.assertEqual(self.said(*events), said)

    def test_a_call_written_into_a_message_behind_thoughts(self) -> None:
        call = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'
        self.assertEqual(self.said(chunk("<think>hm"), message(call, "stop")), call)

    def test_an_incomplete_tag_is_text_at_the_end(self) -> None:
        for finish in ("stop", "content_filter"):
            self.assertEqual(self.said(chunk("<thi"), chunk(None, finish)), "<thi")

    def test_filtered(self) -> None:
        self.assertEqual(self.said(chunk("Hi"), chunk(None, "content_filter")), "Hi")
        with self.assertRaises(ProviderError) as caught:
            self.said(chunk("<think>hm</think>"), chunk(None, "content_filter"))
        self.assertEqual((caught.exception.code, caught.exception.retryable), ("refused", False))

    def test_usage(self) -> None:
        for asked, answered, usage in (
            (12, 3, (12, 3)),
            (12, 0, (12, 0)),
            (0, 0, (0, 0)),
            (-1, 3, None),
            (12, -1, None),
            (12.5, 3, None),
            (None, 3, None),
        ):
            completion = self.make()
            told = {"prompt_tokens": asked, "completion_tokens": answered}
            list(completion.feed({"choices": [], "usage": told}))
            self.assertEqual(completion.usage, usage)

    def test_errors_for_bodies_that_are_no_answers(self) -> None:
        for problem, code in ((CutBody("half"), "connection_lost"), (BadBody("no"), "bad_answer")):
            error = bad_answer(self.client, problem)
            self.assertEqual((error.code, error.retryable), (code, True))
            self.assertIn(str(problem), error.message)

    def test_whole_answers_without_words(self) -> None:
        for data, code, about in (
            (b"", "bad_answer", ""),
            (b"{oops", "connection_lost", ""),
            (b"<html>", "bad_answer", ""),
            (b'{"choices": [{"message": {"content": "<think>hm</think> "}}]}', "bad_answer",
             "no words"),
        ):  # fmt: skip
            with self.assertRaises(ProviderError) as caught:
                words_of(self.client, data)
            self.assertEqual(caught.exception.code, code, data)
            self.assertIn(about, caught.exception.message)
        said = b'{"choices": [{"message": {"content": "<think>hm</think> A cat. "}}]}'
        self.assertEqual(words_of(self.client, said), "A cat.")
