"""Interruptions and a stopping edge, with real services and sockets."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

from tests.guests import AI_SETS, IM_SETS, ServiceCase
from tests.rawsocket import BINARY, CLOSE, TEXT, Frame, RawSocket
from tests.services import Pair
from xiaozhi.audio import OpusEncoder
from xiaozhi.testing.house import SPEECH

AUTO: dict[str, Any] = {"type": "listen", "state": "start", "mode": "auto"}
PRESS = {**AUTO, "mode": "manual"}
RELEASE = {"type": "listen", "state": "stop"}

# From here on, playback is in real time: 20 ms for a character.
FABLE = {"type": "listen", "state": "detect", "text": "a fable"}
WAKE = {"type": "listen", "state": "detect", "text": "你好小智"}
GREETING = "Here I am to do what you want and to listen."


class TurnCase(ServiceCase):
    def pair(self, *ai: str) -> Pair:
        pair = Pair(IM_SETS, (*AI_SETS, *ai))
        self.addCleanup(pair.end)
        pair.start()
        return pair

    def speak(self, device: RawSocket, pcm: bytes, pace: float = 0.06) -> None:
        for packet in OpusEncoder(16000).encode(pcm):
            device.send(BINARY, packet)
            time.sleep(pace)

    def to_the_end(self, device: RawSocket, over: Callable[[Frame], bool]) -> list[str]:
        """Collect types of texts, states and words of ``tts``, and ``sound`` once for all of it."""
        story: list[str] = []
        while True:
            frame = device.receive()
            if frame.opcode == TEXT:
                text = frame.json
                story.append(text.get("text") or text.get("state") or text["type"])
            elif frame.opcode == BINARY and story[-1:] != ["sound"]:
                story.append("sound")
            elif frame.opcode == CLOSE:
                story.append(f"{frame.close[0]}")
            if over(frame):
                return story


def stopped(frame: Frame) -> bool:
    return frame.opcode == TEXT and frame.json.get("state") == "stop"


def closed(frame: Frame) -> bool:
    return frame.opcode == CLOSE


class InterruptionTests(TurnCase):
    def test_automatic_starts_and_a_press(self) -> None:
        pair = self.pair(f"session.wake.greeting={GREETING}", "session.announce.again=0.3")
        with self.subTest("a greeting, and the start behind its detect"):
            for number, after in enumerate((0.0, 0.3, 0.5)):
                device = self.raw(pair, f"aa:00:00:00:02:0{number}")
                device.hello()
                device.text(**WAKE)
                time.sleep(after)
                device.text(**AUTO)
                began = time.monotonic()
                story = self.to_the_end(device, stopped)
                self.assertEqual(story[-1], "stop")
                self.assertGreater(time.monotonic() - began + after, 0.02 * len(GREETING))
                device.close()
        with self.subTest("a press over an answer, as py-xiaozhi does it"):
            device = self.raw(pair, "aa:00:00:00:02:10")
            device.hello()
            device.text(**PRESS)
            device.text(**RELEASE)
            device.text(**FABLE)
            device.until(lambda frame: frame.opcode == BINARY)
            device.text(**PRESS)
            self.speak(device, SPEECH)
            # So far no stop, and soon no sound either.
            frames = device.for_a_while(0.3)
            self.assertFalse([frame for frame in frames if stopped(frame)])
            self.assertEqual(device.for_a_while(0.5), [])
            device.text(**RELEASE)
            story = self.to_the_end(device, lambda frame: frame.opcode == BINARY)
            self.assertEqual(story[0], "stop")
            self.assertIn("hello", story)
            self.assertEqual(self.to_the_end(device, stopped)[-1], "stop")
        self.assert_clean(pair)


class StopTests(TurnCase):
    def test_the_current_sentence_is_the_last(self) -> None:
        pair = self.pair()
        device, speaker = (self.raw(pair, f"aa:00:00:00:03:0{n}") for n in range(2))
        for each in (device, speaker):
            each.hello()
            each.text(**AUTO)
        device.text(type="listen", state="detect", text="a story")
        device.until(lambda frame: frame.opcode == BINARY)
        self.speak(speaker, SPEECH[: 32 * 400])
        os.kill(pair.im.pid, signal.SIGTERM)
        # A person in the middle of an utterance finishes it.
        self.speak(speaker, SPEECH[: 32 * 400] + bytes(32 * 500))
        story = self.to_the_end(device, closed)
        self.assertEqual(story[-2:], ["stop", "1001"])
        self.assertEqual([words for words in story if "Once upon" in words][1:], [])
        story = self.to_the_end(speaker, closed)
        self.assertIn("hello", story)
        self.assertEqual(story[-3:], ["sound", "stop", "1001"])
        self.assertEqual(pair.im.ended(), 0)
        self.assert_clean(pair)
