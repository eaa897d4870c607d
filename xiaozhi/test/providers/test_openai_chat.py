"""Chat: requests, streams as vendors send them, errors, time, closing."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost, ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseFailed, ResponseNeverReceived
from zope.interface.verify import verifyObject

from xiaozhi.base import trace, usage
from xiaozhi.base.errors import ProviderError
from xiaozhi.base.values import Role, TextDelta, ToolCall, ToolSpec, Utterance
from xiaozhi.interfaces import ILanguageModel
from xiaozhi.providers.openai.chat import ChatSettings, OpenAIChat
from xiaozhi.test.providers.fake_vendor import FakeResponse, FakeVendor, Reading
from xiaozhi.testing.logs import LogLines

KEY = "sk-verysecret123"
ASKED = [Utterance(Role.SYSTEM, "Be kind."), Utterance(Role.USER, "Hi")]


def event(delta: dict[str, Any] | None = None, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


def say(text: str) -> bytes:
    return event({"content": text})


class ChatCase(SynchronousTestCase):
    """A chat with a vendor that the test controls."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.vendor = FakeVendor()
        self.chat = self.make()

    def tearDown(self) -> None:
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def make(self, **settings: Any) -> OpenAIChat:
        settings = {"base_url": "http://vendor/v1/", "api_key": f"{KEY}\n", "model": "m"} | settings
        return OpenAIChat(ChatSettings(**settings), self.clock, Random(1), self.vendor)

    def ask(self, *tools: ToolSpec) -> Reading:
        self.generator = self.chat.reply(ASKED, tools)
        return Reading(self.generator)

    def begun(self, *chunks: bytes) -> tuple[Reading, FakeResponse]:
        reading = self.ask()
        response = self.vendor.last.answer()
        response.send(*chunks)
        return reading, response

    def error(self, reading: Reading) -> ProviderError:
        error = self.failureResultOf(reading.done, ProviderError).value
        assert isinstance(error, ProviderError)
        self.assertNotIn(KEY, str(error))
        return error

    def text(self, reading: Reading) -> str:
        return "".join(d.text for d in reading.items if isinstance(d, TextDelta))


class RequestTests(ChatCase):
    """Requests."""

    def test_provides_its_interface(self) -> None:
        verifyObject(ILanguageModel, self.chat)
        self.assertEqual(self.chat.model, "m")

    def test_plain(self) -> None:
        reading = self.ask()
        request = self.vendor.last
        self.assertEqual(
            (request.method, request.url), (b"POST", b"http://vendor/v1/chat/completions")
        )
        self.assertEqual(request.headers.getRawHeaders("authorization"), [f"Bearer {KEY}"])
        self.assertEqual(request.headers.getRawHeaders("content-type"), ["application/json"])
        self.assertIsNone(request.headers.getRawHeaders("x-request-id"))
        messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
        asked = {"model": "m", "messages": messages, "stream": True}
        asked["stream_options"] = {"include_usage": True}
        self.assertEqual(request.json(), asked)
        reading.done.cancel()
        self.failureResultOf(reading.done, CancelledError)

    def test_for_which_message(self) -> None:
        """The vendor's log can be searched for our ids."""
        with trace.working_for(trace.TracedMessage("session", 7)):
            _, response = self.begun(say("Hi"), event(finish="stop"))
        sent = self.vendor.last.headers.getRawHeaders("x-request-id")
        self.assertEqual(sent, ["session-7"])
        response.end()

    def test_everything(self) -> None:
        call = ToolCall("c1", "get_time", '{"zone": "x"}')
        dialogue = [
            *ASKED,
            Utterance(Role.ASSISTANT, "", (call,)),
            Utterance(Role.TOOL, "15:42", call_id="c1"),
        ]
        self.chat = self.make(
            api_key="", temperature=0.5, max_tokens=9, extra={"top_k": 3, "stream": None}
        )
        tool = ToolSpec("get_time", "The time.", {"type": "object"})
        reading = Reading(self.chat.reply(dialogue, [tool]))
        request = self.vendor.last
        self.assertIsNone(request.headers.getRawHeaders("authorization"))
        sent = request.json()
        self.assertEqual(
            sent["messages"][2:],
            [
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [
                        {
                            "id": "c1",
                            "type": "function",
                            "function": {"name": "get_time", "arguments": '{"zone": "x"}'},
                        }
                    ],
                },
                {"role": "tool", "content": "15:42", "tool_call_id": "c1"},
            ],
        )
        function = {
            "name": "get_time",
            "description": "The time.",
            "parameters": {"type": "object"},
        }
        self.assertEqual(sent["tools"], [{"type": "function", "function": function}])
        self.assertEqual((sent["temperature"], sent["max_tokens"], sent["top_k"]), (0.5, 9, 3))
        self.assertNotIn("stream", sent)
        self.assertNotIn("stream_options", sent)
        reading.done.cancel()
        self.failureResultOf(reading.done, CancelledError)

    def test_settings_are_checked(self) -> None:
        for wrong in (
            {"base_url": "vendor"},
            {"model": ""},
            {"temperature": 3},
            {"total_timeout": 0},
            {"unknown": 1},
        ):
            with self.assertRaises(msgspec.ValidationError):
                msgspec.convert({"model": "m"} | wrong, ChatSettings)

    def test_settings_hide_the_key(self) -> None:
        self.assertNotIn(KEY, repr(ChatSettings(model="m", api_key=KEY)))


class UsageTests(ChatCase):
    """Token usage."""

    def setUp(self) -> None:
        super().setUp()
        self.used_tokens: list[tuple[int, int]] = []

    def by(self, kind: str, provider: str, model: str) -> None:
        raise AssertionError("a provider does not know what it is called")

    def used(self, tokens_in: int, tokens_out: int) -> None:
        self.used_tokens.append((tokens_in, tokens_out))

    def asked(self) -> Reading:
        with usage.noting(self):
            return self.ask()

    def usage(self, tokens_in: Any, tokens_out: Any) -> bytes:
        told = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out}
        return b"data: " + json.dumps({"choices": [], "usage": told}).encode() + b"\n\n"

    def test_usage_after_the_end(self) -> None:
        reading = self.asked()
        response = self.vendor.last.answer()
        response.send(say("Hi"), event(finish="stop"), self.usage(12, 3), b"data: [DONE]\n\n")
        response.end()
        self.successResultOf(reading.done)
        self.assertEqual((self.text(reading), self.used_tokens), ("Hi", [(12, 3)]))

    def test_usage_with_each_piece(self) -> None:
        reading = self.asked()
        response = self.vendor.last.answer()
        response.send(self.usage(12, 1), say("Hi"), self.usage(12, 2), event(finish="stop"))
        response.end()
        self.successResultOf(reading.done)
        self.assertEqual(self.used_tokens, [(12, 2)])

    def test_no_usage(self) -> None:
        for nonsense in (b"", self.usage("12", 3), self.usage(None, None), self.usage(-1, 3)):
            reading = self.asked()
            response = self.vendor.last.answer()
            response.send(say("Hi"), event(finish="stop"), nonsense)
            response.end()
            self.successResultOf(reading.done)
        self.assertEqual(self.used_tokens, [])

    def test_a_vendor_that_refuses_to_be_asked(self) -> None:
        reading = self.asked()
        refusal = b'{"detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"]}]}'
        self.vendor.last.whole(refusal, code=422)
        self.assertNotIn("stream_options", self.vendor.last.json())
        response = self.vendor.last.answer()
        response.send(say("Hi"), event(finish="stop"))
        response.end()
        self.successResultOf(reading.done)
        self.assertEqual(self.text(reading), "Hi")
        self.begun(say("Hi"), event(finish="stop"))[1].end()
        self.assertNotIn("stream_options", self.vendor.last.json(), "nor the next time")

    def test_a_refusal_is_remembered_and_logged_once(self) -> None:
        """At the first delta of the answer without it, or at its end if there is none."""
        for said, over in ((say("Hi"), False), (say("<think>hm</think>"), True)):
            log = LogLines(self)
            self.chat = self.make()
            reading = self.ask(ToolSpec("f", "", {"type": "object"}))
            self.vendor.last.whole(b'{"error": "tools are not supported"}', code=400)
            self.vendor.last.whole(b'{"detail": [{"loc": ["body", "stream_options"]}]}', code=422)
            response = self.vendor.last.answer()
            response.send(said)
            if over:
                response.send(event(finish="stop"))
                response.end()
                self.successResultOf(reading.done)
            else:
                self.successResultOf(self.chat.close())
                self.assertEqual(self.error(reading).code, "closed")
            self.assertEqual(self.chat.refused, ("tools",))
            self.assertEqual(log.count("m rejects tools"), 1)
            self.assertEqual(log.count("m does not report token usage"), 1)

    def test_nothing_refused_nothing_logged(self) -> None:
        log = LogLines(self)
        self.begun(say("Hi"), event(finish="stop"))[1].end()
        self.assertEqual(log.count("does not"), 0)
        self.assertEqual(log.count("max_tokens"), 0)
        self.begun(say("Hi"), event(finish="length"))[1].end()
        self.assertEqual(log.count("m stopped at max_tokens"), 1)

    def test_refused_for_another_reason(self) -> None:
        reading = self.asked()
        self.vendor.last.whole(b'{"error": "no such tool"}', code=400)
        self.assertEqual(self.error(reading).code, "bad_request")

    def test_not_asked(self) -> None:
        self.chat = self.make(usage=False)
        self.begun(say("Hi"), event(finish="stop"))[1].end()
        self.assertNotIn("stream_options", self.vendor.last.json())


class StreamTests(ChatCase):
    """Answers."""

    def test_text_comes_as_it_arrives(self) -> None:
        reading, response = self.begun(event({"role": "assistant", "content": ""}), say("Hel"))
        self.assertEqual(reading.items, [TextDelta("Hel")])
        response.send(say("lo"), event(finish="stop"), b"data: [DONE]\n\n")
        response.end()
        self.successResultOf(reading.done)
        self.assertEqual(reading.items, [TextDelta("Hel"), TextDelta("lo")])
        self.assertFalse(response.transport.aborted)

    def test_tool_calls(self) -> None:
        first = {"index": 0, "id": "c1", "function": {"name": "f", "arguments": '{"a"'}}
        second = {"index": 0, "function": {"arguments": ": 1}"}}
        reading, response = self.begun(
            say("Wait."), event({"tool_calls": [first]}), event({"tool_calls": [second]})
        )
        self.assertEqual(len(reading.items), 1)
        response.send(event(finish="tool_calls"))
        self.assertEqual(reading.items[1:], [ToolCall("c1", "f", '{"a": 1}')])
        response.end()
        self.successResultOf(reading.done)

    def test_thoughts_are_not_said(self) -> None:
        reading, response = self.begun(
            event({"reasoning_content": "hm", "content": None}),
            say("<th"),
            say("ink>hm</thi"),
            say("nk>\n\nYes"),
            b": keep-alive\r\n\r\n",
            event(finish="stop").replace(b"\n", b"\r\n").replace(b"data: ", b"data:"),
        )
        response.end()
        self.successResultOf(reading.done)
        self.assertEqual(self.text(reading), "Yes")

    def test_reasoning_whose_opening_tag_is_in_the_prompt(self) -> None:
        self.chat = self.make(thinks_first=True)
        reading, response = self.begun(say("hm</th"), say("ink>\n\nYes"), event(finish="stop"))
        response.end()
        self.successResultOf(reading.done)
        self.assertEqual(self.text(reading), "Yes")

    def test_every_byte_alone(self) -> None:
        stream = say("日本") + event(finish="stop") + b"data: [DONE]\n\n"
        reading, response = self.begun(*(bytes([byte]) for byte in stream))
        response.end()
        self.successResultOf(reading.done)
        self.assertEqual(self.text(reading), "日本")

    def test_usage_and_empty_choices(self) -> None:
        reading, response = self.begun(
            b'data: {"choices": []}\n\n',
            say("a"),
            event(finish="stop"),
            b'data: {"choices": [], "usage": {"total_tokens": 3}}\n\n',
        )
        response.end()
        self.successResultOf(reading.done)
        self.assertEqual(self.text(reading), "a")

    def test_a_vendor_that_does_not_stream(self) -> None:
        reading = self.ask()
        call = {"id": "", "function": {"name": "f", "arguments": {}}}
        message = {"content": [{"type": "text", "text": "Hi"}], "tool_calls": [call]}
        body = {"choices": [{"message": message, "finish_reason": "stop"}]}
        self.vendor.last.whole(json.dumps(body).encode())
        self.successResultOf(reading.done)
        self.assertEqual(reading.items[0], TextDelta("Hi"))
        self.assertRegex(reading.items[1].call_id, "^call_[0-9a-f]{16}$")
        self.assertEqual(reading.items[1].arguments, "{}")

    def test_a_vendor_that_does_not_hang_up(self) -> None:
        reading, response = self.begun(say("a"), event(finish="stop"))
        self.assertNoResult(reading.done)
        self.clock.advance(0.25)
        self.successResultOf(reading.done)
        self.assertTrue(response.transport.aborted)

    def test_filtered(self) -> None:
        reading, response = self.begun(event(finish="content_filter"))
        response.end()
        self.assertEqual(self.error(reading).code, "refused")

    def test_a_slow_reader_holds_the_vendor_back(self) -> None:
        generator = self.chat.reply(ASKED, [])
        first = Deferred.fromCoroutine(anext(generator))
        response = self.vendor.last.answer()
        response.send(say("a"))
        self.assertEqual(self.successResultOf(first), TextDelta("a"))
        response.send(*[say("x" * 1000)] * 80)
        self.assertTrue(response.transport.paused)
        rest = Reading(generator)
        self.assertFalse(response.transport.paused)
        response.send(event(finish="stop"))
        response.end()
        self.successResultOf(rest.done)
        self.assertEqual(len(self.text(rest)), 80000)


class FailureTests(ChatCase):
    """Errors."""

    def test_statuses(self) -> None:
        for status, code, retryable in (
            (400, "bad_request", False),
            (401, "unauthorized", False),
            (403, "unauthorized", False),
            (402, "unpaid", False),
            (404, "not_found", False),
            (408, "timeout", True),
            (429, "rate_limited", True),
            (500, "vendor_error", True),
            (503, "vendor_error", True),
        ):
            reading = self.ask()
            body = {"error": {"message": f"no: {KEY} {'x' * 500}", "type": "t"}}
            self.vendor.last.whole(json.dumps(body).encode(), code=status)
            error = self.error(reading)
            self.assertEqual((error.code, error.retryable), (code, retryable), str(status))
            self.assertIn(f"answered {status}: no: *** xxx", error.message)
            self.assertLess(len(error.message), 260)

    def test_shapes_of_error_bodies(self) -> None:
        for body in (
            b'{"error": "bad thing"}',
            b'{"message": "bad thing"}',
            b'[{"error": {"message": "bad thing"}}]',
            b'{"detail": "bad thing"}',
            b"bad\n  thing",
        ):
            reading = self.ask()
            self.vendor.last.whole(body, code=400)
            self.assertTrue(self.error(reading).message.endswith("answered 400: bad thing"), body)

    def test_an_error_that_repeats_the_request(self) -> None:
        reading = self.ask()
        detail = {"loc": ["body", "messages", 0], "msg": "bad thing", "input": "what was said"}
        self.vendor.last.whole(json.dumps({"detail": [detail]}).encode(), code=422)
        message = self.error(reading).message
        self.assertTrue(message.endswith("answered 422: body.messages.0: bad thing"), message)

    def test_endless_error_body(self) -> None:
        reading = self.ask()
        response = self.vendor.last.answer(code=500)
        response.send(*[b"x" * 9000] * 2)
        self.assertEqual(self.error(reading).code, "vendor_error")
        self.assertTrue(response.transport.aborted)

    def test_unreachable_names_the_url(self) -> None:
        reading = self.ask()
        self.vendor.last.answered.errback(ConnectionRefusedError())
        error = self.error(reading)
        self.assertEqual((error.code, error.retryable), ("unreachable", True))
        self.assertIn("http://vendor/v1:", error.message)

    def test_no_password_in_errors(self) -> None:
        self.chat = self.make(base_url="http://me:secret@vendor/v1", api_key="")
        reading = self.ask()
        self.vendor.last.answered.errback(ConnectionRefusedError())
        self.assertIn("http://vendor/v1:", self.error(reading).message)

    def test_base_url_is_no_url(self) -> None:
        with self.assertRaises(ValueError):
            self.make(base_url="http://vendor:port/v1")

    def test_a_kept_connection_that_is_no_more_costs_nothing(self) -> None:
        """The vendor closes an idle connection just as it is used: the request is retried once."""
        reading = self.ask()
        gone = ResponseNeverReceived([Failure(ConnectionLost())])
        self.vendor.last.answered.errback(gone)
        first, second = self.vendor.requests
        self.assertEqual(first.body, second.body)
        second.answered.errback(gone)
        self.assertEqual(self.error(reading).code, "connection_lost")
        self.assertEqual(len(self.vendor.requests), 2)

    def test_asking_once_more_does_not_take_twice_the_time(self) -> None:
        reading = self.ask()
        self.clock.advance(20)
        self.vendor.last.answered.errback(ResponseNeverReceived([Failure(ConnectionLost())]))
        self.assertEqual(len(self.vendor.requests), 2)
        self.clock.advance(9)
        self.assertNoResult(reading.done)
        self.clock.advance(1)
        self.assertEqual(self.error(reading).code, "timeout")

    def test_the_connection_breaks(self) -> None:
        reading, response = self.begun(say("a"))
        response.end(ResponseFailed([]))
        error = self.error(reading)
        self.assertEqual((error.code, error.retryable), ("connection_lost", True))
        self.assertEqual(self.text(reading), "a")

    def test_the_answer_breaks_off(self) -> None:
        reading, response = self.begun(say("a"), b'data: {"choices": [{"delta": {"con')
        response.end()
        self.assertEqual(self.error(reading).code, "connection_lost")

    def test_a_break_after_the_end_does_not_matter(self) -> None:
        reading, response = self.begun(say("a"), event(finish="stop"))
        response.end(ConnectionLost())
        self.successResultOf(reading.done)

    def test_errors_inside_the_stream(self) -> None:
        for inside, code, retryable in (
            ({"message": "overloaded", "type": "server_error"}, "vendor_error", True),
            ({"message": "bad key", "type": "invalid_request_error"}, "bad_request", False),
            ({"message": "slow down", "code": 429}, "rate_limited", True),
            ("overloaded", "vendor_error", True),
        ):
            reading, response = self.begun(
                b"data: " + json.dumps({"error": inside}).encode() + b"\n\n"
            )
            error = self.error(reading)
            self.assertEqual((error.code, error.retryable), (code, retryable))
            words = inside["message"] if isinstance(inside, dict) else inside
            self.assertIn(str(words), error.message)
            self.assertTrue(response.transport.aborted)

    def test_not_json(self) -> None:
        reading, _ = self.begun(b"data: {oops\n\n")
        self.assertEqual(self.error(reading).code, "bad_answer")

    def test_endless_calls(self) -> None:
        arguments = {"index": 0, "function": {"name": "f", "arguments": "x" * 60000}}
        reading, response = self.begun(*[event({"tool_calls": [arguments]})] * 20)
        self.assertEqual(self.error(reading).code, "bad_answer")
        self.assertTrue(response.transport.aborted)

    def test_endless_event(self) -> None:
        reading, _ = self.begun(*[b"data: " + b"x" * 60000] * 20)
        self.assertEqual(self.error(reading).code, "bad_answer")


class TimeTests(ChatCase):
    """Every limit, on a virtual clock."""

    def setUp(self) -> None:
        super().setUp()
        self.chat = self.make(first_byte_timeout=10, idle_timeout=3, total_timeout=20)

    def check(self, reading: Reading) -> None:
        error = self.error(reading)
        self.assertEqual((error.code, error.retryable), ("timeout", True))

    def test_no_head(self) -> None:
        reading = self.ask()
        self.clock.advance(9.9)
        self.assertNoResult(reading.done)
        self.clock.advance(0.1)
        self.check(reading)
        self.assertEqual(self.vendor.last.cancelled, [True])

    def test_no_first_byte(self) -> None:
        reading = self.ask()
        self.clock.advance(6)
        response = self.vendor.last.answer()
        self.clock.advance(3.9)
        self.assertNoResult(reading.done)
        self.clock.advance(0.1)
        self.check(reading)
        self.assertTrue(response.transport.aborted)

    def test_silence_between_pieces(self) -> None:
        reading, response = self.begun(say("a"))
        self.clock.advance(2.5)
        response.send(say("b"))
        self.clock.advance(2.5)
        self.assertNoResult(reading.done)
        self.clock.advance(0.5)
        self.check(reading)
        self.assertTrue(response.transport.aborted)

    def test_total_limit(self) -> None:
        reading, response = self.begun()
        for _ in range(10):
            self.assertNoResult(reading.done)
            response.send(b": keep-alive\n\n")
            self.clock.advance(2)
        self.check(reading)

    def test_a_slow_reader_has_all_the_time(self) -> None:
        """A long answer is read as fast as the device plays it."""
        generator = self.chat.reply(ASKED, [])
        first = Deferred.fromCoroutine(anext(generator))
        response = self.vendor.last.answer()
        response.send(say("One."))
        self.assertEqual(self.successResultOf(first), TextDelta("One."))
        self.clock.advance(1000)
        second = Deferred.fromCoroutine(anext(generator))
        self.clock.advance(1)
        self.assertNoResult(second)
        response.send(say("Two."))
        self.assertEqual(self.successResultOf(second), TextDelta("Two."))
        self.successResultOf(Deferred.fromCoroutine(generator.aclose()))

    def test_connect_timeout_is_the_agents(self) -> None:
        from twisted.internet.testing import MemoryReactorClock

        reactor = MemoryReactorClock()
        settings = ChatSettings(base_url="http://127.0.0.1:1/v1", model="m", connect_timeout=2)
        chat = OpenAIChat(settings, reactor, Random(1))
        reading = Reading(chat.reply(ASKED, []))
        self.assertEqual([client[3] for client in reactor.tcpClients], [2])
        reading.done.cancel()
        self.failureResultOf(reading.done, CancelledError)
        self.assertEqual(reactor.getDelayedCalls(), [])


class CloseTests(ChatCase):
    """Ending early."""

    def test_closing_the_generator_drops_the_connection(self) -> None:
        generator = self.chat.reply(ASKED, [])
        first = Deferred.fromCoroutine(anext(generator))
        response = self.vendor.last.answer()
        response.send(say("a"))
        self.successResultOf(first)
        self.assertFalse(response.transport.aborted)
        self.successResultOf(Deferred.fromCoroutine(generator.aclose()))
        self.assertTrue(response.transport.aborted)

    def test_cancelling_while_waiting_for_the_head(self) -> None:
        reading = self.ask()
        reading.done.cancel()
        self.failureResultOf(reading.done, CancelledError)
        self.assertEqual(self.vendor.last.cancelled, [True])

    def test_cancelling_while_waiting_for_more(self) -> None:
        reading, response = self.begun(say("a"))
        reading.done.cancel()
        self.failureResultOf(reading.done, CancelledError)
        self.assertTrue(response.transport.aborted)

    def test_closing_the_provider(self) -> None:
        waiting = self.ask()
        reading, response = self.begun(say("a"))
        self.successResultOf(self.chat.close())
        self.assertEqual(self.error(waiting).code, "closed")
        self.assertEqual(self.error(reading).code, "closed")
        self.assertTrue(response.transport.aborted)
        self.assertEqual(self.error(self.ask()).code, "closed")
