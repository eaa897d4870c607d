"""Calls that end in the middle, and their connections: our client and Twisted's web server,
connected in memory.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.test import iosim
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from xiaozhi.base.errors import ProviderError
from xiaozhi.providers.openai.audio import OpenAISpeech, OpenAISpeechSettings
from xiaozhi.test.providers.fake_vendor import Reading

# Samples, since text would not be sound.
OLD, NEW = b"\0OLD" * 4, b"\0NEW" * 4


class _Vendor(Resource):
    """Keeps every request until the test answers it."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Request] = []

    def render_POST(self, request: Request) -> int:
        request.setHeader("content-type", "audio/pcm")
        self.requests.append(request)
        return NOT_DONE_YET


class _Line:
    """One connection; records how its client's end was closed."""

    def __init__(self, factory: Any, site: Site, reactor: Any) -> None:
        client, server = factory.buildProtocol(None), site.buildProtocol(None)
        self.end, far_end = iosim.makeFakeClient(client), iosim.makeFakeServer(server)
        self.aborted = False
        self.end.abortConnection = self._abort
        self._pump = iosim.connect(server, far_end, client, self.end, clock=reactor)

    def flush(self) -> bool:
        return bool(self._pump.flush())

    def _abort(self) -> None:
        self.aborted = True
        self.end.loseConnection()


class ConnectionTests(SynchronousTestCase):
    """No sound of a finished turn appears in the next one."""

    def setUp(self) -> None:
        reactor: Any = MemoryReactorClock  # not annotated
        self.reactor = reactor()
        self.vendor = _Vendor()
        site: Any = Site
        self.site = site(self.vendor, reactor=self.reactor, timeout=None)
        self.lines: list[_Line] = []
        settings = OpenAISpeechSettings(base_url="http://127.0.0.1:8000/v1", idle_timeout=5)
        self.speech = OpenAISpeech(settings, self.reactor)

    def tearDown(self) -> None:
        closing = self.speech.close()
        self.flush()
        self.successResultOf(closing)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def flush(self) -> None:
        """Let everything arrive."""
        while True:
            clients, self.reactor.tcpClients = self.reactor.tcpClients, []
            self.lines += [_Line(each[2], self.site, self.reactor) for each in clients]
            if not clients and not [line for line in self.lines if line.flush()]:
                return

    def speak(self) -> Reading:
        reading = Reading(self.speech.synthesize("Hello.", "en"))
        self.flush()
        return reading

    def send(self, request: Any, *data: bytes, end: bool = False) -> None:
        for piece in data:
            request.write(piece)
        if end:
            request.finish()
        self.flush()

    def interrupt(self, reading: Reading) -> None:
        reading.done.cancel()
        self.failureResultOf(reading.done, CancelledError)

    def assert_next(self, connections: int) -> None:
        """Check that the next sentence has this sound and nothing else."""
        reading = self.speak()
        self.send(self.vendor.requests[-1], NEW, end=True)
        self.successResultOf(reading.done)
        self.assertEqual(b"".join(reading.items), NEW)
        self.assertEqual(len(self.lines), connections)

    def test_an_answer_that_was_fetched(self) -> None:
        reading = self.speak()
        self.send(self.vendor.requests[0], OLD, end=True)
        self.successResultOf(reading.done)
        self.assert_next(connections=1)

    def test_a_vendor_that_closes_without_notification(self) -> None:
        """Over TLS both sides normally announce their close."""
        self.assert_next(connections=1)
        self.lines[0].end.loseConnection = lambda: None
        closing = self.speech.close()
        self.assertNoResult(closing)
        self.reactor.advance(1)
        self.successResultOf(closing)

    def test_in_the_middle_of_an_answer(self) -> None:
        reading = self.speak()
        old = self.vendor.requests[0]
        self.send(old, OLD)
        # In flight when the person interrupts.
        old.write(OLD)
        self.interrupt(reading)
        self.assertTrue(self.lines[0].aborted)
        self.flush()
        self.assertEqual(reading.items, [OLD])
        self.assertTrue(old._disconnected)
        self.assert_next(connections=2)

    def test_before_an_answer(self) -> None:
        reading = self.speak()
        self.interrupt(reading)
        self.assertTrue(self.lines[0].aborted)
        self.send(self.vendor.requests[0], OLD, end=True)
        self.assert_next(connections=2)

    def test_an_answer_that_is_there_and_was_not_fetched(self) -> None:
        generator = self.speech.synthesize("Hello.", "en")
        first = Deferred.fromCoroutine(anext(generator))
        self.flush()
        self.send(self.vendor.requests[0], OLD)
        self.assertEqual(self.successResultOf(first), OLD)
        self.send(self.vendor.requests[0], OLD, OLD, end=True)
        self.successResultOf(Deferred.fromCoroutine(generator.aclose()))
        self.assertFalse(self.lines[0].aborted, "all of it has come: the connection is free")
        self.assert_next(connections=1)

    def test_an_answer_that_floods(self) -> None:
        """The vendor is paused, and dropped in the middle of it."""
        generator = self.speech.synthesize("Hello.", "en")
        first = Deferred.fromCoroutine(anext(generator))
        self.flush()
        self.send(self.vendor.requests[0], *[OLD * 5000] * 10)
        self.successResultOf(first)
        self.successResultOf(Deferred.fromCoroutine(generator.aclose()))
        self.assertTrue(self.lines[0].aborted)
        self.assert_next(connections=2)

    def test_an_answer_that_hangs(self) -> None:
        reading = self.speak()
        self.send(self.vendor.requests[0], OLD)
        self.reactor.advance(5)
        self.assertEqual(self.failureResultOf(reading.done, ProviderError).value.code, "timeout")
        self.assertTrue(self.lines[0].aborted)
        self.send(self.vendor.requests[0], OLD, end=True)
        self.assert_next(connections=2)

    def test_one_that_never_answers(self) -> None:
        reading = self.speak()
        self.reactor.advance(30)
        self.assertEqual(self.failureResultOf(reading.done, ProviderError).value.code, "timeout")
        self.assertTrue(self.lines[0].aborted)
        self.assert_next(connections=2)
