"""Classification of a device's messages at the edge, before they reach the AI service."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.base.values import LogDirection
from xiaozhi.im.session.answers import Awaited
from xiaozhi.testing.edge import EdgeBench, wire_of
from xiaozhi.wire import messages as m

AUTO: dict[str, Any] = {"type": "listen", "state": "start", "mode": "auto"}
PRESS = {**AUTO, "mode": "manual"}
RELEASE = {"type": "listen", "state": "stop"}
WAKE = {"type": "listen", "state": "detect", "text": "what time is it"}
CHAT = {"type": "chat", "text": "what time is it"}
IMAGE = {"type": "image", "text": "what is it", "data": "AAAA"}
MCP = {"type": "mcp", "payload": {"jsonrpc": "2.0", "id": 1, "result": {}}}
ABORT = {"type": "abort"}
PACKET = b"\x58opus"  # SILK, one frame of 60 ms


class IntakeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.bench = EdgeBench()
        self.link, self.transport = self.bench.link()
        self.say({"type": "hello", "audio_params": {"frame_duration": 60}})
        self.session = self.bench.bridge.sessions[-1]
        self.answers = self.link._answers

    def say(self, message: dict[str, Any]) -> None:
        self.link.text_received(json.dumps(message))

    def utterances(self) -> list[str | None]:
        rows = self.bench.log.rows(LogDirection.INBOUND)
        return [content for kind, content in rows if kind == "audio"]

    # Messages after two packets; whether the utterance is over.
    ENDS = (
        ("abort", ABORT, True),
        ("listen start", AUTO, True),
        ("listen stop", RELEASE, True),
        ("listen detect", WAKE, True),
        ("chat", CHAT, False),
        ("mcp", MCP, False),
    )

    def test_ends_of_utterances_in_the_log(self) -> None:
        for name, message, ends in self.ENDS:
            self.setUp()
            self.say(AUTO)
            for _ in range(2):
                wire_of(self.link).binary_received(PACKET)
            self.say(message)
            row = f'{{"frames":2,"bytes":{2 * len(PACKET)},"ms":120}}'
            self.assertEqual(self.utterances(), [row] if ends else [], name)

    # The device's messages; its pending question then.
    ASKS = (
        ("nothing", (), Awaited.NOTHING),
        ("words", (CHAT,), Awaited.WORDS),
        ("words in a detect", (WAKE,), Awaited.WORDS),
        ("sound", (PRESS, RELEASE), Awaited.SOUND),
        ("a picture", (IMAGE,), Awaited.PICTURE),
        ("words, and it listens again", (CHAT, AUTO), Awaited.NOTHING),
        ("words, and a press", (CHAT, PRESS), Awaited.NOTHING),
        ("words, given up", (CHAT, ABORT), Awaited.NOTHING),
        ("words, and a tool's answer", (CHAT, MCP), Awaited.WORDS),
        ("the microphone alone", (AUTO,), Awaited.NOTHING),
    )

    def test_pending_questions(self) -> None:
        for name, messages, asked in self.ASKS:
            self.setUp()
            for message in messages:
                self.say(message)
            self.assertIs(self.answers.awaited, asked, name)
            self.assertEqual(self.answers.waited_for, asked is not Awaited.NOTHING, name)

    # The device's messages; whether its microphone is open then.
    MICROPHONE = (
        ("before anything", (), False),
        ("auto", (AUTO,), True),
        ("pressed", (PRESS,), True),
        ("released", (PRESS, RELEASE), False),
        ("auto, with words", (AUTO, CHAT), True),
        ("a wake word", (WAKE,), False),
    )

    def test_whether_the_microphone_is_open(self) -> None:
        for name, messages, is_open in self.MICROPHONE:
            self.setUp()
            for message in messages:
                self.say(message)
            self.assertEqual(self.link.microphone() is not None, is_open, name)

    def test_how_many_packets_a_press_had(self) -> None:
        """The AI service must know that packets were lost."""
        self.say(PRESS)
        for _ in range(3):
            wire_of(self.link).binary_received(PACKET)
        self.say(RELEASE)
        self.assertEqual(self.session.sent[-1].packets, 3)
        self.say(RELEASE)
        self.assertEqual(self.session.sent[-1].packets, 0)

    # The device's messages; those retracted by another question.
    RETRACTS = (
        ("a press and its release", (PRESS, RELEASE), 2),
        ("a release alone", (RELEASE,), 1),
        ("words", (CHAT,), 1),
    )

    def test_a_question_that_is_given_up_is_taken_back_whole(self) -> None:
        for name, messages, count in self.RETRACTS:
            self.setUp()
            for message in messages:
                self.say(message)
            asked = list(self.session.sent)
            self.say(CHAT)
            self.assertEqual(self.session.retracted, asked[-count:], name)

    def test_the_sound_of_an_alert_in_an_open_microphone(self) -> None:
        """A button press means the person, whatever the device has played."""
        for start, heard in ((AUTO, 0), (PRESS, 1)):
            self.setUp()
            self.session.events.received(m.Alert("s", "m", "sad"))
            self.say(start)
            wire_of(self.link).binary_received(PACKET)
            audio = [each for each in self.session.sent if type(each) is m.Audio]
            self.assertEqual(len(audio), heard, start)

    def test_which_turn_a_press_interrupts(self) -> None:
        self.say(PRESS)
        self.assertEqual(self.session.sent[-1].turn, 0)
        self.session.events.received(m.Tts(m.TtsState.START, turn=7))
        self.say(PRESS)
        self.assertEqual(self.session.sent[-1].turn, 7)

    # Messages after a press during an answer; whether the held stop of that answer is sent then.
    LETS_GO = (
        ("the release", RELEASE, True),
        ("a start without the button", AUTO, True),
        ("an abort", ABORT, True),
        ("words", CHAT, True),
        ("a wake word", WAKE, True),
        ("a picture", IMAGE, True),
        ("another press", PRESS, False),
        ("a tool's answer", MCP, False),
        ("something unknown", {"type": "other"}, False),
    )

    def test_messages_that_show_the_button_is_released(self) -> None:
        for name, message, lets_go in self.LETS_GO:
            self.setUp()
            self.session.events.received(m.Tts(m.TtsState.START, turn=1))
            self.say(PRESS)
            self.transport.sent.clear()
            self.say(message)
            stops = [each for each in self.transport.texts() if isinstance(each, m.Tts)]
            self.assertEqual([each.state for each in stops], [m.TtsState.STOP] * lets_go, name)
