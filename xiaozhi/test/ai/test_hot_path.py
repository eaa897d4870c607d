"""The number of calls that a packet of sound costs, from the device to the recogniser."""

from __future__ import annotations

import sys
from collections import Counter
from types import FrameType
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.audio import OpusEncoder
from xiaozhi.testing.edge import wire_of
from xiaozhi.testing.house import SPEECH, House

# Calls of our Python functions for a packet of 60 ms of speech: edge, bridge, session, listener. 8
# of them belong to the doubles and the bridge in memory.
MOST = 65


class UplinkTests(SynchronousTestCase):
    def calls(self) -> list[list[str]]:
        """Return the calls for each of some packets in the middle of an utterance."""
        house = House()
        self.addCleanup(house.close)
        browser = house.browse()
        browser.say(type="hello", version=1, transport="websocket")
        house.run(0.1)
        browser.say(type="listen", state="start", mode="realtime")
        house.run(0.1)
        packets = OpusEncoder(16000).encode(SPEECH)
        wire = wire_of(browser.link)
        for packet in packets[:8]:
            wire.binary_received(packet)
            house.run(0.06)
        counted = []
        for packet in packets[8:12]:
            calls: list[str] = []

            def count(frame: FrameType, event: str, argument: Any) -> None:
                module = frame.f_globals.get("__name__", "")
                if event == "call" and module.startswith("xiaozhi.") and ".test" not in module:
                    calls.append(f"{module}.{frame.f_code.co_name}")  # noqa: B023

            sys.setprofile(count)
            try:
                wire.binary_received(packet)
                house.clock.advance(0)
                house.clock.advance(0.01)
            finally:
                sys.setprofile(None)
            counted.append(calls)
        return counted

    def test_calls_for_a_packet(self) -> None:
        for calls in self.calls():
            self.assertIn("xiaozhi.providers.doubles.recognizer.feed", calls)
            self.assertLessEqual(len(calls), MOST, Counter(calls).most_common())

    def test_hops_within_the_session(self) -> None:
        for calls in self.calls():
            own = [call.rpartition(".")[2] for call in calls if ".ai.session." in call]
            heard = ["received", "put", "spend", "hear"]
            # The listener's `hear` follows: five hops.
            self.assertEqual([call for call in own if call in heard], heard)
            self.assertNotIn("offer", own)
