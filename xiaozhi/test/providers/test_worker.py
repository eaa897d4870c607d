"""Workers on a reactor that starts no processes, and the child's loop over pipes."""

from __future__ import annotations

import json
import os
import threading
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.base.errors import ProviderError
from xiaozhi.providers.kit.process import request as request_module
from xiaozhi.providers.kit.process.request import WorkRequest
from xiaozhi.providers.kit.process.worker import Worker, WorkerOptions
from xiaozhi.providers.kit.process.worker_child import (
    CANCEL,
    DATA,
    DONE,
    END,
    ERROR,
    OPEN,
    Channel,
    FrameReader,
    Service,
    WorkRefused,
    pack,
    serve,
)


class FakeProcess:
    """The transport of a process protocol."""

    pid = 4711

    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol
        self.frames: list[tuple[int, int, bytes]] = []
        self.input_closed = False
        self.signals: list[str] = []
        self.gone = False
        self._reader = FrameReader()
        protocol.makeConnection(self)

    def write(self, data: bytes) -> None:
        self.frames += self._reader.feed(data)

    def closeStdin(self) -> None:
        self.input_closed = True

    def signalProcess(self, name: str) -> None:
        if self.gone:
            raise ProcessExitedAlready()
        self.signals.append(name)

    def answer(self, request_id: int, kind: int, payload: bytes = b"") -> None:
        self.protocol.outReceived(pack(request_id, kind, payload))

    def end(self) -> None:
        self.gone = True
        self.protocol.processEnded(Failure(ProcessTerminated(1)))


class FakeReactor(Clock):
    """A clock with simulated processes."""

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[FakeProcess] = []
        self.commands: list[list[str]] = []

    def spawnProcess(self, protocol: Any, executable: str, args: list[str], env: Any) -> None:
        self.commands.append(args)
        self.processes.append(FakeProcess(protocol))


class WorkerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.worker = Worker(
            self.reactor,
            "some.module",
            ["argument"],
            WorkerOptions(concurrency=2, waiting=2, timeout=5.0, backoff=(1.0, 4.0)),
        )

    @property
    def child(self) -> FakeProcess:
        return self.reactor.processes[-1]

    def collect(self, request: WorkRequest) -> Deferred[list[bytes]]:
        async def take() -> list[bytes]:
            return [piece async for piece in request.pieces()]

        return Deferred.fromCoroutine(take())

    def failed(self, deferred: Deferred[Any], code: str, retryable: bool = True) -> None:
        error = self.failureResultOf(deferred, ProviderError).value
        self.assertEqual((error.code, error.retryable), (code, retryable))

    def complete(self, payload: bytes = b"") -> WorkRequest:
        request = self.worker.request(payload)
        request.end()
        return request

    def idle(self, seconds: float) -> None:
        """Make a worker that unloads its child."""
        options = WorkerOptions(concurrency=1, timeout=5.0, idle=seconds)
        self.worker = Worker(self.reactor, "some.module", options=options)

    def test_an_idle_child_is_unloaded_and_started_again(self) -> None:
        self.idle(60.0)
        for number in (1, 2):
            request = self.complete()
            self.child.answer(request.request_id, DONE)
            self.reactor.advance(59.9)
            self.assertFalse(self.child.input_closed)
            self.reactor.advance(0.2)
            self.assertTrue(self.child.input_closed)
            self.assertIsNone(self.worker.pid)
            self.child.end()
            self.assertEqual(len(self.reactor.processes), number)
        # A requested end is not a crash.
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_work_keeps_a_child(self) -> None:
        self.idle(60.0)
        first = self.complete()
        self.child.answer(first.request_id, DONE)
        self.reactor.advance(50)
        second = self.worker.request(b"")
        self.reactor.advance(50)
        self.assertFalse(self.child.input_closed)
        second.cancel()
        self.worker.close()

    def test_an_unloaded_child_that_does_not_end_is_killed(self) -> None:
        self.idle(60.0)
        request = self.complete()
        former = self.child
        former.answer(request.request_id, DONE)
        self.reactor.advance(60.1)
        # Work for the next child does not wait for it.
        self.complete()
        self.assertEqual(len(self.reactor.processes), 2)
        self.reactor.advance(2.1)
        self.assertEqual(former.signals, ["KILL"])
        closed = self.worker.close()
        self.assertNoResult(closed)
        former.end()
        self.assertNoResult(closed)
        self.child.end()
        self.successResultOf(closed)

    def test_child_is_started_when_needed_and_once(self) -> None:
        self.assertEqual(self.reactor.processes, [])
        self.complete(b"one")
        self.complete(b"two")
        self.assertEqual(len(self.reactor.processes), 1)
        self.assertEqual(self.reactor.commands[0][1:], ["-m", "some.module", "argument"])
        self.assertEqual(
            self.child.frames, [(1, OPEN, b"one"), (1, END, b""), (2, OPEN, b"two"), (2, END, b"")]
        )
        self.assertEqual(self.worker.pid, 4711)

    def test_child_can_be_started_ahead(self) -> None:
        self.worker.prepare()
        self.worker.prepare()
        self.complete()
        self.assertEqual(len(self.reactor.processes), 1)
        self.assertEqual(self.child.frames, [(1, OPEN, b""), (1, END, b"")])

    def test_result(self) -> None:
        result = self.complete().result()
        self.assertNoResult(result)
        self.child.answer(1, DATA, b"ignored")
        self.child.answer(1, DONE, b"the end")
        self.assertEqual(self.successResultOf(result), b"the end")
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_result_read_late(self) -> None:
        request = self.complete()
        self.child.answer(1, DONE, b"x")
        self.assertEqual(self.successResultOf(request.result()), b"x")

    def test_pieces(self) -> None:
        request = self.worker.request(b"")
        pieces = self.collect(request)
        request.send(b"more")
        request.end()
        self.child.answer(1, DATA, b"a")
        self.child.answer(1, DATA, b"b")
        self.assertNoResult(pieces)
        self.child.answer(1, DONE)
        self.assertEqual(self.successResultOf(pieces), [b"a", b"b"])
        self.assertNotIn((1, CANCEL, b""), self.child.frames)

    def test_refusal_comes_through(self) -> None:
        result = self.complete().result()
        body = {"code": "no_voice", "message": "none", "retryable": False}
        self.child.answer(1, ERROR, json.dumps(body).encode())
        self.failed(result, "no_voice", retryable=False)

    def test_requests_wait_for_their_turn_and_beyond_the_bound_fail(self) -> None:
        requests = [self.complete(b"%d" % number) for number in range(5)]
        self.assertEqual([f[0] for f in self.child.frames if f[1] == OPEN], [1, 2])
        self.failed(requests[4].result(), "busy")
        self.child.answer(2, DONE)
        self.assertEqual([f[0] for f in self.child.frames if f[1] == OPEN], [1, 2, 3])

    def test_data_sent_while_waiting_keeps_its_order(self) -> None:
        self.complete()
        self.complete()
        request = self.worker.request(b"open")
        request.send(b"a")
        self.child.answer(1, DONE)
        request.send(b"b")
        request.end()
        self.assertEqual(
            [frame for frame in self.child.frames if frame[0] == 3],
            [(3, OPEN, b"open"), (3, DATA, b"a"), (3, DATA, b"b"), (3, END, b"")],
        )

    def test_cancel_notifies_the_child_once(self) -> None:
        request = self.complete()
        result = request.result()
        request.cancel()
        request.cancel()
        self.failureResultOf(result, CancelledError)
        self.assertEqual(self.child.frames.count((1, CANCEL, b"")), 1)
        self.child.answer(1, DATA, b"late")
        self.child.answer(1, DONE)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_cancelling_the_deferred_cancels_the_request(self) -> None:
        result = self.complete().result()
        result.cancel()
        self.failureResultOf(result, CancelledError)
        self.assertIn((1, CANCEL, b""), self.child.frames)

    def test_cancelling_the_iteration_cancels_the_request(self) -> None:
        pieces = self.collect(self.complete())
        self.child.answer(1, DATA, b"a")
        pieces.cancel()
        self.failureResultOf(pieces, CancelledError)
        self.assertIn((1, CANCEL, b""), self.child.frames)

    def test_cancelled_while_waiting_never_reaches_the_child(self) -> None:
        requests = [self.complete() for _ in range(3)]
        requests[2].cancel()
        self.child.answer(1, DONE)
        self.assertNotIn(3, {frame[0] for frame in self.child.frames})

    def test_timeout_kills_the_child(self) -> None:
        result = self.complete().result()
        other = self.worker.request(b"").result()
        self.reactor.advance(4.9)
        self.assertNoResult(result)
        self.reactor.advance(0.2)
        self.failed(result, "timeout")
        self.assertEqual(self.child.signals, ["KILL"])
        self.child.end()
        self.failed(other, "crashed")

    def test_a_hanging_child_is_killed_without_a_waiting_request(self) -> None:
        request = self.complete()
        self.reactor.advance(4)
        request.cancel()
        self.reactor.advance(4.9)
        self.assertEqual(self.child.signals, [])
        self.reactor.advance(0.2)
        self.assertEqual(self.child.signals, ["KILL"])
        self.child.end()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_a_child_that_has_too_much_to_do_lives(self) -> None:
        """Killing it would fail its other requests."""
        busy, late = self.complete(), self.complete()
        result = late.result()
        self.reactor.advance(4)
        self.child.answer(busy.request_id, DONE)
        self.reactor.advance(1)
        self.failed(result, "timeout")
        self.assertEqual(self.child.signals, [])
        self.assertEqual(self.child.frames[-1], (late.request_id, CANCEL, b""))
        # It has to confirm that one too, and gets time as long as it works.
        other = self.complete()
        self.reactor.advance(4)
        self.child.answer(other.request_id, DONE)
        self.reactor.advance(4)
        self.assertEqual(self.child.signals, [])
        self.reactor.advance(5)
        self.assertEqual(self.child.signals, ["KILL"])
        self.child.end()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_a_child_that_confirms_a_cancellation_lives(self) -> None:
        request = self.complete()
        request.cancel()
        self.child.answer(1, DATA, b"on its way")
        self.child.answer(1, DONE)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_time_runs_from_the_end_and_anew_with_each_piece(self) -> None:
        request = self.worker.request(b"")
        result = request.result()
        self.reactor.advance(100)
        request.end()
        self.reactor.advance(4)
        self.child.answer(1, DATA, b"a")
        self.reactor.advance(4)
        self.assertNoResult(result)
        self.reactor.advance(1.1)
        self.failed(result, "timeout")

    def test_timeout_while_waiting_spares_the_child(self) -> None:
        self.worker.request(b"")
        self.worker.request(b"")
        waiting = self.complete().result()
        self.reactor.advance(5.1)
        self.failed(waiting, "timeout")
        self.assertEqual(self.child.signals, [])

    def test_a_crash_fails_running_requests_and_the_next_starts_a_child(self) -> None:
        running = [self.complete().result(), self.complete().result()]
        waiting = self.complete(b"third").result()
        self.child.end()
        for result in running:
            self.failed(result, "crashed")
        self.assertEqual(len(self.reactor.processes), 2)
        self.assertEqual(self.child.frames[0], (3, OPEN, b"third"))
        self.child.answer(3, DONE, b"fine")
        self.assertEqual(self.successResultOf(waiting), b"fine")

    def test_repeated_crashes_wait_longer_until_one_succeeds(self) -> None:
        delays = []
        for _ in range(5):
            self.complete()
            waited = 0.0
            before = len(self.reactor.processes)
            while not self.reactor.processes or self.child.gone:
                self.reactor.advance(0.5)
                waited += 0.5
            delays.append(waited if before else 0.0)
            self.child.end()
        self.assertEqual(delays, [0.0, 0.0, 1.0, 2.0, 4.0])
        result = self.complete().result()
        self.reactor.advance(4.0)
        self.child.answer(self.child.frames[0][0], DONE)
        self.successResultOf(result)
        self.child.end()
        before = len(self.reactor.processes)
        self.complete()
        self.assertEqual(len(self.reactor.processes), before + 1)

    def test_close(self) -> None:
        running = self.complete().result()
        closed, again = self.worker.close(), self.worker.close()
        self.failed(running, "closed", retryable=False)
        self.assertTrue(self.child.input_closed)
        self.assertNoResult(closed)
        self.child.end()
        self.successResultOf(closed)
        self.successResultOf(again)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.failed(self.complete().result(), "closed", retryable=False)

    def test_close_kills_a_child_that_stays(self) -> None:
        self.complete()
        closed = self.worker.close()
        self.reactor.advance(2.1)
        self.assertEqual(self.child.signals, ["KILL"])
        self.child.end()
        self.successResultOf(closed)

    def test_close_without_a_child(self) -> None:
        self.successResultOf(self.worker.close())

    def test_unread_answers_are_bounded(self) -> None:
        self.patch(request_module, "MAX_WAITING_REPLY", 10)
        request = self.complete()
        self.child.answer(1, DATA, b"12345678")
        self.child.answer(1, DATA, b"12345678")
        self.assertIn((1, CANCEL, b""), self.child.frames)
        self.failed(self.collect(request), "too_long", retryable=False)

    def test_child_out_of_step_is_killed(self) -> None:
        self.complete()
        self.child.protocol.outReceived(b"\xff" * 9)
        self.assertEqual(self.child.signals, ["KILL"])

    def test_stderr_is_logged_by_lines(self) -> None:
        events: list[LogEvent] = []
        observer = cast("ILogObserver", events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.complete()
        self.child.protocol.errReceived(b"first\nsec")
        self.child.protocol.errReceived(b"ond\nlast")
        self.child.end()
        self.assertEqual(
            [event["line"] for event in events if "line" in event], ["first", "second", "last"]
        )

    def test_cannot_start(self) -> None:
        def refuse(*_: Any, **__: Any) -> None:
            raise OSError("no more processes")

        self.patch(self.reactor, "spawnProcess", refuse)
        self.failed(self.complete().result(), "crashed")


class Echo(Service):
    """Sends data back in pieces; refuses and crashes on request."""

    def data(self, request_id: int, payload: bytes) -> None:
        if payload == b"refuse":
            raise WorkRefused("refused", "as told")
        self.channel.send(request_id, DATA, payload.upper())

    def ended(self, request_id: int) -> None:
        self.channel.send(request_id, DONE)


class ChildTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.source, self.feed = os.pipe()
        self.answers, self.sink = os.pipe()
        self.channel = Channel(self.source, self.sink)

    def tearDown(self) -> None:
        for descriptor in (self.source, self.answers, self.sink):
            os.close(descriptor)

    def served(self, *frames: bytes) -> list[tuple[int, int, bytes]]:
        os.write(self.feed, b"".join(frames))
        thread = threading.Thread(target=serve, args=(Echo(self.channel),))
        thread.start()
        reader = FrameReader()
        answers: list[tuple[int, int, bytes]] = []
        while not any(answer[1] == DONE for answer in answers):
            answers += reader.feed(os.read(self.answers, 65536))
        os.close(self.feed)
        thread.join(5)
        self.assertFalse(thread.is_alive())
        return answers

    def test_serves_until_the_parent_goes(self) -> None:
        self.assertEqual(
            self.served(pack(7, OPEN), pack(7, DATA, b"abc"), pack(7, END)),
            [(7, DATA, b"ABC"), (7, DONE, b"")],
        )

    def test_refusal_ends_a_request_not_the_child(self) -> None:
        answers = self.served(pack(1, DATA, b"refuse"), pack(2, END))
        self.assertEqual([answer[:2] for answer in answers], [(1, ERROR), (2, DONE)])
        self.assertEqual(json.loads(answers[0][2])["code"], "refused")

    def test_a_cancellation_is_confirmed(self) -> None:
        self.assertEqual(self.served(pack(1, OPEN), pack(1, CANCEL)), [(1, DONE, b"")])

    def test_cancelled_is_seen_without_waiting(self) -> None:
        self.addCleanup(os.close, self.feed)
        self.assertFalse(self.channel.cancelled(1))
        os.write(self.feed, pack(1, CANCEL))
        self.assertFalse(self.channel.cancelled(2))
        self.assertTrue(self.channel.cancelled(1))

    def test_a_parent_that_went_cancels_everything(self) -> None:
        os.close(self.feed)
        self.assertTrue(self.channel.cancelled(1))
        self.assertIsNone(self.channel.next())

    @settings(max_examples=60)
    @given(
        st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 255), st.binary())),
        st.integers(1, 50),
    )
    def test_frames_survive_any_cutting(
        self, frames: list[tuple[int, int, bytes]], size: int
    ) -> None:
        data = b"".join(pack(*frame) for frame in frames)
        reader = FrameReader()
        out = [
            frame for at in range(0, len(data), size) for frame in reader.feed(data[at : at + size])
        ]
        self.assertEqual(out, frames)
