"""The JSON-RPC client: answers in any order, limits, the peer's requests, hostile peers."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.tools.jsonrpc import (
    ErrorCode,
    Json,
    JsonRpcClient,
    JsonRpcError,
    JsonRpcLimits,
    JsonRpcPeer,
)


class Peer:
    """The other side: records messages and sends those of a test.

    :ivar sent: the client's messages, decoded.
    """

    def __init__(
        self, limits: JsonRpcLimits | None = None, peer: JsonRpcPeer | None = None
    ) -> None:
        self.clock = Clock()
        self.sent: list[Any] = []
        self.broken = False
        self.client = JsonRpcClient(self._take, self.clock, limits, peer)

    def _take(self, data: bytes) -> None:
        if self.broken:
            raise OSError("the pipe is broken")
        self.sent.append(json.loads(data))

    def say(self, message: Json) -> None:
        self.client.received(json.dumps(message).encode())

    def answer(self, number: Json, result: Json) -> None:
        self.say({"jsonrpc": "2.0", "id": number, "result": result})


class RequestTests(SynchronousTestCase):
    def error(self, waiting: Deferred[Json]) -> JsonRpcError:
        error = self.failureResultOf(waiting, JsonRpcError).value
        assert isinstance(error, JsonRpcError)
        return error

    def test_concurrent_requests_get_their_own_answers(self) -> None:
        peer = Peer()
        first = peer.client.request("a", {"x": 1}, 5)
        second = peer.client.request("b", None, 5)
        self.assertEqual(
            peer.sent,
            [
                {"jsonrpc": "2.0", "id": 1, "method": "a", "params": {"x": 1}},
                {"jsonrpc": "2.0", "id": 2, "method": "b"},
            ],
        )
        peer.answer(2, "two")
        self.assertNoResult(first)
        # Some peers return the id as text.
        peer.answer("1", {"one": 1})
        self.assertEqual(self.successResultOf(first), {"one": 1})
        self.assertEqual(self.successResultOf(second), "two")
        self.assertEqual(peer.client.pending, 0)
        self.assertEqual(peer.clock.getDelayedCalls(), [])

    def test_an_answer_that_repeats_the_method(self) -> None:
        peer = Peer()
        waiting = peer.client.request("a", None, 5)
        peer.say({"id": 1, "method": "a", "result": 7})
        self.assertEqual(self.successResultOf(waiting), 7)

    def test_timeout(self) -> None:
        peer = Peer()
        waiting = peer.client.request("slow", None, 2.5)
        peer.clock.advance(2.4)
        self.assertNoResult(waiting)
        peer.clock.advance(0.1)
        error = self.error(waiting)
        self.assertEqual((error.code, error.number), ("rpc_timeout", None))
        self.assertIn("slow", error.message)
        # Too late.
        peer.answer(1, "late")
        self.assertEqual(peer.client.dropped, 1)
        # No cancel_method: nothing is sent.
        self.assertEqual(len(peer.sent), 1)

    def test_error_objects(self) -> None:
        cases: list[tuple[Json, int | None, str, Json]] = [
            ({"code": -32602, "message": "bad", "data": [1]}, -32602, "bad", [1]),
            ({"message": "no code"}, None, "no code", None),
            ({"code": True, "message": "odd"}, None, "odd", None),
            ("only words", None, "only words", None),
            ({"code": 1, "message": "x" * 5000}, 1, "x" * 1000, None),
        ]
        for told, number, words, data in cases:
            peer = Peer()
            waiting = peer.client.request("a", None, 5)
            peer.say({"id": 1, "error": told})
            error = self.error(waiting)
            self.assertEqual(
                (error.code, error.number, error.message, error.data),
                ("rpc_error", number, words, data),
            )

    def test_cancelling_notifies_the_peer(self) -> None:
        peer = Peer(peer=JsonRpcPeer(cancel_method="notifications/cancelled"))
        waiting = peer.client.request("a", None, 5)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        late = peer.client.request("b", None, 5)
        peer.clock.advance(5)
        self.assertEqual(self.error(late).code, "rpc_timeout")
        told = [each["params"] for each in peer.sent if "id" not in each]
        self.assertEqual(
            told,
            [{"requestId": 1, "reason": "cancelled"}, {"requestId": 2, "reason": "timeout"}],
        )
        peer.answer(1, "too late")
        self.assertEqual((peer.client.pending, peer.client.dropped), (0, 1))
        self.assertEqual(peer.clock.getDelayedCalls(), [])

    def test_pending_requests_are_bounded(self) -> None:
        peer = Peer(JsonRpcLimits(pending=2))
        waiting = [peer.client.request("a", None, 5) for _ in range(3)]
        self.assertEqual(self.error(waiting[2]).code, "rpc_busy")
        self.assertEqual(len(peer.sent), 2)
        peer.answer(1, None)
        self.assertIsNone(self.successResultOf(waiting[0]))
        waiting.append(peer.client.request("a", None, 5))
        peer.client.close("over")
        for each in (waiting[1], waiting[3], peer.client.request("a", None, 5)):
            self.assertEqual(
                (self.error(each).code, peer.clock.getDelayedCalls()), ("rpc_closed", [])
            )
        self.assertRaises(JsonRpcError, peer.client.notify, "n")

    def test_size_is_bounded_both_ways(self) -> None:
        peer = Peer(JsonRpcLimits(message_bytes=100))
        large = peer.client.request("a", {"text": "x" * 100}, 5)
        self.assertEqual(self.error(large).code, "rpc_too_large")
        waiting = peer.client.request("a", None, 5)
        peer.answer(2, "x" * 100)
        self.assertNoResult(waiting)
        self.assertEqual(peer.client.dropped, 1)
        peer.answer(2, "small")
        self.assertEqual(self.successResultOf(waiting), "small")
        self.assertEqual(peer.clock.getDelayedCalls(), [])

    def test_unsendable_messages(self) -> None:
        peer = Peer()
        self.assertEqual(
            self.error(peer.client.request("a", {"x": float("nan")}, 5)).code, "rpc_unsent"
        )
        peer.broken = True
        self.assertEqual(self.error(peer.client.request("a", None, 5)).code, "rpc_unsent")
        self.assertEqual((peer.client.pending, peer.clock.getDelayedCalls()), (0, []))


class ServingTests(SynchronousTestCase):
    def serving(self, **methods: Any) -> Peer:
        return Peer(JsonRpcLimits(serving=2), JsonRpcPeer(methods))

    def test_requests_are_answered(self) -> None:
        later: Deferred[Json] = Deferred()
        peer = self.serving(ping=lambda _: {}, add=lambda p: p["a"] + p["b"], wait=lambda _: later)
        peer.say({"id": "x", "method": "wait"})
        peer.say({"id": "p", "method": "ping"})
        peer.say({"id": 7, "method": "add", "params": {"a": 1, "b": 2}})
        peer.say({"id": 8, "method": "roots/list"})
        later.callback("done")
        self.assertEqual(
            peer.sent,
            [
                {"jsonrpc": "2.0", "id": "p", "result": {}},
                {"jsonrpc": "2.0", "id": 7, "result": 3},
                {
                    "jsonrpc": "2.0",
                    "id": 8,
                    "error": {
                        "code": ErrorCode.METHOD_NOT_FOUND,
                        "message": "there is no such method",
                    },
                },
                {"jsonrpc": "2.0", "id": "x", "result": "done"},
            ],
        )

    def test_a_handler_that_refuses_or_breaks(self) -> None:
        def refuse(_: Json) -> Json:
            raise JsonRpcError("refused", "not for you", ErrorCode.INVALID_PARAMS)

        async def broken(_: Json) -> Json:
            raise RuntimeError("a secret")

        peer = self.serving(refuse=refuse, broken=broken)
        peer.say({"id": 1, "method": "refuse"})
        peer.say({"id": 2, "method": "broken"})
        peer.say({"id": [3], "method": "refuse"})
        self.assertEqual(
            [(each["id"], each["error"]["code"]) for each in peer.sent],
            [(1, -32602), (2, -32603), (None, -32600)],
        )
        self.assertNotIn("secret", json.dumps(peer.sent))
        (failure,) = self.flushLoggedErrors(RuntimeError)
        self.assertIn("secret", str(failure.value))

    def test_too_many_at_a_time(self) -> None:
        waiting: list[Deferred[Json]] = []
        cancelled: list[Deferred[Json]] = []

        def wait(_: Json) -> Awaitable[Json]:
            waiting.append(Deferred(cancelled.append))
            return waiting[-1]

        peer = self.serving(wait=wait)
        for number in range(3):
            peer.say({"id": number, "method": "wait"})
        self.assertEqual(
            [(each["id"], each["error"]["code"]) for each in peer.sent], [(2, ErrorCode.BUSY)]
        )
        waiting[0].callback(None)
        peer.say({"id": 4, "method": "wait"})
        self.assertEqual(len(waiting), 3)
        # Running requests are cancelled at the end of the connection, without an answer.
        peer.client.close()
        self.assertEqual(cancelled, waiting[1:])
        self.assertEqual(len(peer.sent), 2)

    def test_a_peer_whose_requests_are_ignored(self) -> None:
        peer = Peer()
        peer.say({"id": 1, "method": "ping"})
        self.assertEqual((peer.sent, peer.client.dropped), ([], 1))

    def test_notifications(self) -> None:
        heard: list[Json] = []

        def broken(_: Json) -> None:
            raise RuntimeError("no")

        peer = Peer(peer=JsonRpcPeer({}, {"changed": heard.append, "broken": broken}))
        peer.client.notify("ready", {"x": 1})
        self.assertEqual(peer.sent, [{"jsonrpc": "2.0", "method": "ready", "params": {"x": 1}}])
        peer.say({"method": "broken"})
        # Unknown ones are not answered either.
        peer.say({"method": "nobody's"})
        peer.say({"method": "changed", "params": [1]})
        self.assertEqual(heard, [[1]])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(len(peer.sent), 1)


class HostileTests(SynchronousTestCase):
    NONSENSE = (
        b"",
        b"{",
        b"\xff\xfe",
        b"null",
        b"7",
        b"[]",
        b'"text"',
        b"[" * 100_000,
        b'{"id": ' + b"9" * 5000 + b', "result": 1}',
        b'{"id": {}, "result": 1}',
        b'{"id": 1.0, "result": 1}',
        b'{"id": true, "result": 1}',
        b'{"id": null, "error": {"code": -1}}',
        b'{"id": 99, "result": 1}',
        b'{"method": 7, "id": 99}',
        b"[" + b",".join([b'{"id": 1, "result": 1}'] * 65) + b"]",
    )

    def test_invalid_messages_are_dropped(self) -> None:
        peer = Peer()
        waiting = peer.client.request("a", None, 5)
        for data in self.NONSENSE:
            before = peer.client.dropped
            peer.client.received(data)
            self.assertEqual(peer.client.dropped, before + 1, data[:40])
        self.assertNoResult(waiting)
        peer.client.close()
        self.failureResultOf(waiting, JsonRpcError)

    def test_a_batch(self) -> None:
        peer = Peer(peer=JsonRpcPeer({"ping": lambda _: {}}))
        waiting = peer.client.request("a", None, 5)
        peer.say([{"id": "p", "method": "ping"}, 7, {"id": 1, "result": "one"}])
        self.assertEqual(self.successResultOf(waiting), "one")
        self.assertEqual((peer.sent[-1]["id"], peer.client.dropped), ("p", 1))

    def test_an_answer_twice(self) -> None:
        peer = Peer()
        waiting = peer.client.request("a", None, 5)
        peer.answer(1, "first")
        peer.answer(1, "second")
        self.assertEqual(self.successResultOf(waiting), "first")


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("request"), st.integers(1, 20)),
        st.tuples(st.just("answer"), st.integers(1, 30)),
        st.tuples(st.just("refuse"), st.integers(1, 30)),
        st.tuples(st.just("cancel"), st.integers(1, 30)),
        st.tuples(st.just("wait"), st.integers(1, 8)),
        st.tuples(st.just("garbage"), st.integers(0, len(HostileTests.NONSENSE) - 1)),
        st.tuples(st.just("close"), st.just(0)),
    ),
    max_size=60,
)


class PropertyTests(SynchronousTestCase):
    @given(_STEPS)
    def test_each_request_ends_once_and_by_its_own_answer(
        self, steps: list[tuple[str, int]]
    ) -> None:
        peer = Peer(JsonRpcLimits(pending=4))
        waiting: dict[int, Deferred[Json]] = {}
        ended: dict[int, str] = {}
        expected: dict[int, str] = {}
        due: dict[int, float] = {}
        closed = False

        def outcome(number: int) -> None:
            def failed(failure: Any) -> None:
                error = failure.value
                ended[number] = error.code if isinstance(error, JsonRpcError) else "cancelled"

            def succeeded(result: Json) -> None:
                ended[number] = f"result {result}"

            waiting[number].addCallbacks(succeeded, failed)

        def ends(number: int, how: str) -> None:
            if number in due:
                del due[number]
                expected[number] = how

        for what, value in steps:
            if what == "request":
                number = max(waiting, default=0) + 1
                if closed or len(due) >= 4:
                    refused = peer.client.request("a", None, value)
                    error = self.failureResultOf(refused, JsonRpcError).value
                    self.assertEqual(error.code, "rpc_closed" if closed else "rpc_busy")
                    continue
                waiting[number] = peer.client.request("a", None, value)
                self.assertEqual(peer.sent[-1]["id"], number)
                due[number] = peer.clock.seconds() + value
                outcome(number)
            elif what == "answer":
                ends(value, f"result {value}")
                peer.answer(value, value)
            elif what == "refuse":
                ends(value, "rpc_error")
                peer.say({"id": value, "error": {"code": 1, "message": ""}})
            elif what == "cancel" and value in waiting:
                ends(value, "cancelled")
                waiting[value].cancel()
            elif what == "wait":
                for number, at in list(due.items()):
                    if at <= peer.clock.seconds() + value:
                        ends(number, "rpc_timeout")
                peer.clock.advance(value)
            elif what == "garbage":
                peer.client.received(HostileTests.NONSENSE[value])
            elif what == "close":
                closed = True
                for number in list(due):
                    ends(number, "rpc_closed")
                peer.client.close()
            self.assertEqual(ended, expected)
            self.assertEqual(peer.client.pending, len(due))
            self.assertEqual(len(peer.clock.getDelayedCalls()), len(due))

    @given(st.binary(max_size=200))
    def test_any_bytes(self, data: bytes) -> None:
        peer = Peer(peer=JsonRpcPeer({"ping": lambda _: {}}))
        peer.client.received(data)
        self.assertEqual(peer.client.pending, 0)
