"""Call contexts: entered by sessions, read by adapters."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.base import trace
from xiaozhi.base.call import CallContext, calling, current_call


class CallContextTests(SynchronousTestCase):
    def test_outside_any_session_it_is_empty(self) -> None:
        self.assertEqual(current_call(), CallContext())

    def test_coroutines_started_within_keep_it(self) -> None:
        """Also after the block, beside another session's coroutine."""
        seen: dict[str, list[CallContext]] = {"a": [], "b": []}
        gates: dict[str, Deferred[None]] = {"a": Deferred(), "b": Deferred()}

        async def work(name: str) -> None:
            seen[name].append(current_call())
            await gates[name]
            seen[name].append(current_call())

        running = []
        for name in seen:
            with calling(CallContext(agent_id=name)):
                running.append(Deferred.fromCoroutine(work(name)))
        self.assertEqual(current_call(), CallContext())
        for name in ("b", "a"):
            gates[name].callback(None)
        for each in running:
            self.successResultOf(each)
        for name in seen:
            self.assertEqual(seen[name], [CallContext(agent_id=name)] * 2)

    def test_nested_and_left_by_an_error(self) -> None:
        outer, inner = CallContext(agent_id="outer"), CallContext(agent_id="inner")
        with calling(outer):
            try:
                with calling(inner):
                    self.assertEqual(current_call(), inner)
                    raise KeyError
            except KeyError:
                pass
            self.assertEqual(current_call(), outer)

    def test_the_request_is_that_of_the_message(self) -> None:
        message = trace.TracedMessage("s1", 7)
        with calling(CallContext(session_id="s1")):
            self.assertEqual(current_call().request_id, "")
            with trace.working_for(message):
                self.assertEqual(current_call(), CallContext(session_id="s1", request_id="s1-7"))
                with calling(CallContext(request_id="own")):
                    self.assertEqual(current_call().request_id, "own")
