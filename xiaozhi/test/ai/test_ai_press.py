"""Button presses without speech (§4.4)."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from xiaozhi.agents.settings import ListenSettings, SessionSettings
from xiaozhi.ai.listening.press import Press
from xiaozhi.audio import OpusEncoder
from xiaozhi.base.values import Transcript
from xiaozhi.interfaces import IRecognition, IRecognizer, IVoiceActivity
from xiaozhi.testing.conversation import ConversationCase
from xiaozhi.testing.edge import wire_of
from xiaozhi.testing.house import SPEECH, Browser, House


def noise(seconds: float, loudness: int = 100) -> bytes:
    """Make noise below the speech threshold."""
    random = Random(1)
    samples = (random.randint(-loudness, loudness) for _ in range(int(seconds * 16000)))
    return b"".join(sample.to_bytes(2, "little", signed=True) for sample in samples)


def voice(seconds: float) -> bytes:
    return SPEECH[: int(seconds * 32000)]


def silence(seconds: float) -> bytes:
    return bytes(int(seconds * 32000))


@implementer(IRecognition)
class Heard:
    """:ivar sound: the recogniser's input."""

    def __init__(self) -> None:
        self.sound = bytearray()

    def feed(self, pcm: bytes) -> None:
        self.sound += pcm

    def finish(self) -> Deferred[Transcript]:
        return succeed(Transcript("hello", "en"))

    def cancel(self) -> None:
        """Do nothing: nothing runs."""


@implementer(IRecognizer)
class Recognizer:
    """:ivar asked: all recognitions."""

    def __init__(self) -> None:
        self.asked: list[Heard] = []

    def recognition(self, interim: Any = None) -> Heard:
        self.asked.append(Heard())
        return self.asked[-1]

    def close(self) -> Deferred[None]:
        return succeed(None)


class PressTests(ConversationCase):
    # Name; packets of the press; whether they reach the recogniser.
    TABLE: tuple[tuple[str, list[bytes], bool], ...] = (
        *((f"silence, {s} s", OpusEncoder(16000).encode(silence(s)), False)
          for s in (0.15, 0.3, 0.5, 1.0, 2.0)),
        *((f"noise, {s} s", OpusEncoder(16000).encode(noise(s)), False)
          for s in (0.15, 0.3, 0.5, 1.0, 2.0)),
        *((f"DTX, {s} s", [b"\x58"] * round(s / 0.06), False) for s in (0.15, 0.5, 1.0, 2.0)),
        ("nothing at all", [], False),
        ("broken packets", [b"\xff\xff\xff"] * 10, False),
        ("a click of the button", OpusEncoder(16000).encode(
            silence(0.3) + voice(0.08) + silence(0.5)), False),
        ("two clicks", OpusEncoder(16000).encode(
            voice(0.06) + silence(1) + voice(0.06)), False),
        ("a word", OpusEncoder(16000).encode(voice(0.3)), True),
        ("a word in a long press", OpusEncoder(16000).encode(
            silence(4) + voice(0.4) + silence(2)), True),
        ("a word with pauses", OpusEncoder(16000).encode(
            (voice(0.09) + silence(0.3)) * 4), True),
        ("a sentence in noise", OpusEncoder(16000).encode(noise(0.5) + voice(0.9)), True),
    )  # fmt: skip

    def press(self, browser: Browser, house: House, packets: list[bytes]) -> None:
        browser.say(type="listen", state="start", mode="manual")
        for packet in packets:
            wire_of(browser.link).binary_received(packet)
            house.run(0.06)
        house.run(0.05)
        browser.say(type="listen", state="stop")
        house.run(2)

    def test_only_a_voice_is_recognised(self) -> None:
        for name, packets, voiced in self.TABLE:
            recognizer = Recognizer()
            house = self.house(recognizer=recognizer)
            browser = house.browse()
            browser.say(type="hello", features={})
            self.press(browser, house, packets)
            self.assertEqual(len(recognizer.asked), int(voiced), name)
            kinds = [text["type"] for text in browser.texts]
            self.assertNotIn("alert", kinds, name)
            self.assertEqual("stt" in kinds, voiced, name)
            # The next press is heard.
            self.press(browser, house, OpusEncoder(16000).encode(voice(0.6)))
            self.assertEqual(len(recognizer.asked), 1 + voiced, name)
            # All of it, and the packet with the rest of the encoder's delay.
            self.assertGreaterEqual(len(recognizer.asked[-1].sound), 0.6 * 32000, name)

    def test_the_least_can_be_set(self) -> None:
        session = SessionSettings(listen=ListenSettings(min_speech=0.6))
        house = self.house(session=session)
        browser = house.browse()
        browser.say(type="hello", features={})
        for seconds, count in ((0.5, 0), (0.8, 1)):
            self.press(browser, house, OpusEncoder(16000).encode(voice(seconds)))
            self.assertEqual(len(browser.of("stt")), count)


class BoundTests(SynchronousTestCase):
    def test_sound_before_a_voice_is_bounded(self) -> None:
        @implementer(IVoiceActivity)
        class Loud:
            def is_speech(self, pcm: bytes) -> bool:
                return pcm[:1] == b"\x01"

        press = Press(Loud(), ListenSettings())
        for _ in range(100):
            self.assertEqual(press.feed(bytes(32000)), b"")
        sound = press.feed(b"\x01" * 640 * 10 + b"\x02" * 7)
        self.assertEqual(len(sound), 3 * 32000 + 7)
        self.assertEqual(press.feed(b"\x03" * 5), b"\x03" * 5)
