"""Interruptions: messages that a device sends by itself, and those that a person means.

Tables: a new variant of a client is one more row.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.agents.settings import AnnounceSettings, SessionSettings, WakeSettings
from xiaozhi.audio import OpusEncoder
from xiaozhi.device.identity import numbered
from xiaozhi.im.session.turngate import TurnGate
from xiaozhi.im.settings import EdgeSettings, LinkSettings, PacerSettings
from xiaozhi.testing.conversation import LONG, ConversationCase
from xiaozhi.testing.edge import EdgeBench, wire_of
from xiaozhi.testing.house import SPEECH, Browser, House
from xiaozhi.wire import messages as m
from xiaozhi.wire.mail import Mail

PACKET = b"\x58opus"  # SILK, one frame of 60 ms

AUTO: dict[str, Any] = {"type": "listen", "state": "start", "mode": "auto"}
REALTIME = {**AUTO, "mode": "realtime"}
PRESS = {**AUTO, "mode": "manual"}
RELEASE = {"type": "listen", "state": "stop"}
ABORT = {"type": "abort"}
WAKE = {"type": "listen", "state": "detect", "text": "你好小智"}

Step = tuple[float, dict[str, Any] | str]
# Name; events, each after so many seconds; whether the last one interrupts.
Row = tuple[str, list[Step], bool]


def _each(name: str, times: tuple[float, ...], steps: Callable[[float], list[Step]]) -> list[Row]:
    """Make the same row at several distances, none of which interrupts."""
    return [(f"{name}, {after} s", steps(after), False) for after in times]


class EdgeTests(SynchronousTestCase):
    """The edge's judgement of a start. ``turn`` is an answer of 3 s sent by the AI service,
    ``next`` the same in the tick of the ``tts stop`` before it.
    """

    TABLE: tuple[Row, ...] = (
        *_each("auto: the device goes on after the stop", (0.0, 0.06, 0.3, 0.5, 1.0, 2.0),
            lambda after: [(0, AUTO), (0, "turn"), (2.9, "next"), (after, AUTO)]),
        ("auto: and the person presses after that", [
            (0, AUTO), (0, "turn"), (2.9, "next"), (0.3, AUTO), (1, AUTO)], True),
        ("auto: a client that never goes on by a start", [
            (0, AUTO), (0, "turn"), (2.9, "next"), (6.5, "turn"), (1, AUTO)], True),
        ("auto, before any listen: a posted announcement is over", [
            (0, "turn"), (2.9, "next"), (0.3, AUTO)], False),
        ("auto, py-xiaozhi: abort and start, the stop is answered by another start", [
            (0, AUTO), (0, "turn"), (1, ABORT), (0, AUTO), (0.02, "turn"), (0.1, AUTO)], False),
        ("auto, firmware: abort by a click, the start comes when it has played out", [
            (0, AUTO), (0, "turn"), (1, ABORT), (0.02, "turn"), (0.4, AUTO)], False),
        ("realtime, wake word: abort, start", [
            (0, REALTIME), (0, "turn"), (1, ABORT), (0.02, "turn"), (0.6, REALTIME)], False),
        *_each("auto: detect and start", (0.0, 0.3, 0.5, 1.0),
            lambda after: [(0, WAKE), (0.05, "turn"), (after, AUTO)]),
        *_each("realtime: detect and start", (0.0, 0.3, 0.5, 1.0),
            lambda after: [(0, WAKE), (0.05, "turn"), (after, REALTIME)]),
        ("auto: a press over an answer", [(0, AUTO), (0, "turn"), (2, AUTO)], True),
        ("realtime: a wake word over an answer", [
            (0, REALTIME), (0, "turn"), (2, REALTIME)], True),
        ("realtime: no start is owed for a stop", [
            (0, REALTIME), (0, "turn"), (2.9, "next"), (1, REALTIME)], True),
        ("auto: sent before any of it was heard", [
            (0, AUTO), (4, "turn"), (0.3, AUTO)], False),
        ("a press interrupts whenever it comes", [
            (0, AUTO), (0, "turn"), (2.9, "next"), (0.2, PRESS)], True),
        ("a press before any sound", [(0, PRESS), (0, RELEASE), (0, "start"), (1, PRESS)], True),
        ("after a press none is owed: a click over the next answer", [
            (0, PRESS), (0, RELEASE), (0, "turn"), (2.9, "next"), (1, AUTO)], True),
        ("a device that has been spoken to first", [
            (0, "turn"), (2.9, "next"), (0.8, AUTO)], False),
        ("nothing is being said", [(0, AUTO), (5, AUTO)], False),
    )  # fmt: skip

    def test_every_client(self) -> None:
        for name, steps, interrupts in self.TABLE:
            bench = EdgeBench()
            link, _transport = bench.link()
            link.text_received('{"type":"hello"}')
            session = bench.bridge.sessions[-1]
            turn = 0
            for after, step in steps:
                bench.pass_time(after)
                if isinstance(step, dict):
                    playing = link.down.turn
                    link.text_received(json.dumps(step))
                elif step != "wait":
                    if step == "next":
                        while link.down.turn is not None:
                            bench.clock.advance(0.01)
                    turn += 1
                    session.events.received(m.Tts(m.TtsState.START, turn=turn))
                    if step != "start":
                        for _ in range(50):
                            session.events.received(m.Audio(PACKET, 0, turn))
                        session.events.received(m.Tts(m.TtsState.STOP, turn=turn))
            told = session.sent[-1]
            self.assertEqual(told.state, m.ListenState.START, name)
            flushed = [
                sent.turn
                for sent in session.sent[-2:]
                if type(sent) is m.Playback and sent.state is m.PlaybackState.FLUSHED
            ]
            self.assertEqual(flushed, [playing] if interrupts else [], name)
            # The AI service receives the edge's judgement.
            self.assertEqual(told.turn, playing if interrupts else 0, name)
            wire_of(link).connection_lost("")


class JudgementTests(SynchronousTestCase):
    """Turn control alone: to the exact second, and effects on the next start."""

    START = m.Listen(m.ListenState.START, m.ListenMode.AUTO)
    PRESSED = m.Listen(m.ListenState.START, m.ListenMode.MANUAL)

    # Name; messages with times (None: a `tts stop` is sent); since when the turn is audible at the
    # last one; whether that interrupts.
    TABLE: tuple[
        tuple[str, tuple[tuple[float, m.DeviceText | None], ...], float | None, bool], ...
    ] = (
        ("a picture", ((1, m.Image(data=b"x")),), 0, True),
        ("what a tool answers", ((1, m.Mcp(b"{}")),), 0, False),
        ("a device's stop", ((1, m.Listen(m.ListenState.STOP)),), 0, False),
        ("blank words", ((1, m.Chat(" ")),), 0, False),
        ("heard for just the reaction time", ((0.5, START),), 0, True),
        ("heard for less", ((0.49, START),), 0, False),
        ("in the last moment in which it can be expected", ((0, None), (3, START)), 0, False),
        ("after that", ((0, None), (3.01, START)), 0, True),
        ("after an abort of silence none is expected", ((0, m.Abort()), (1, START)), 0.2, True),
        ("a press ends what was expected", ((0, None), (0, PRESSED), (1, START)), 0, True),
    )  # fmt: skip

    def test_whether_it_interrupts(self) -> None:
        for name, steps, heard_since, interrupts in self.TABLE:
            control = TurnGate(LinkSettings(restart_timeout=3, reaction_time=0.5))
            for at, message in steps[:-1]:
                if message is None:
                    control.stopped(at)
                else:
                    control.interrupts(message, at, None)
            at, last = steps[-1]
            assert last is not None
            self.assertIs(control.interrupts(last, at, heard_since), interrupts, name)

    def test_the_microphone(self) -> None:
        control = TurnGate(LinkSettings())
        self.assertIsNone(control.listened())
        for start in (self.START, self.PRESSED):
            control.listens(start)
            self.assertIs(control.microphone, start)
        self.assertIs(control.listened(), self.PRESSED)
        self.assertIsNone(control.microphone)

    def test_an_abort_by_button_is_followed_by_no_start(self) -> None:
        control = TurnGate(LinkSettings(follow_timeout=1.5, reaction_time=0.5))
        control.interrupts(self.PRESSED, 0, None)
        self.assertTrue(control.interrupts(m.Abort(), 0.1, 0))
        self.assertTrue(control.interrupts(self.START, 1, 0.2))


class Client(Browser):
    """A browser with a microphone."""

    house: House

    def speak(self, pcm: bytes = SPEECH, silence: float = 1.0) -> None:
        """Speak in real time."""
        for packet in OpusEncoder(16000).encode(pcm + bytes(int(32000 * silence))):
            wire_of(self.link).binary_received(packet)
            self.house.run(0.06)

    def states(self) -> list[str]:
        return [tts["state"] for tts in self.of("tts")]

    def sentences(self) -> list[str]:
        return [tts["text"] for tts in self.of("tts") if "text" in tts]

    def heard(self) -> list[str]:
        return [stt["text"] for stt in self.of("stt")]


class TalkCase(ConversationCase):
    def client(self, kind: type[Client] = Client, **settings: Any) -> Any:
        house = self.house(**settings)
        client = kind()
        client.house = house
        house.join(client)
        client.say(type="hello", version=1, features={})
        house.run(0.1)
        return client

    def until(self, client: Client, condition: Callable[[], bool], limit: float = 20.0) -> None:
        end = client.house.clock.seconds() + limit
        while not condition():
            assert client.house.clock.seconds() < end, "it does not come"
            client.house.run(0.01)

    def post(self, client: Client, words: str) -> None:
        client.house.inbox.post(numbered(1).device_id, Mail(say=words), 60)


class StartTests(TalkCase):
    """A start that a device sends by itself interrupts nothing."""

    WORDS = "Dinner is ready and it is soup."

    def assert_whole(self, client: Client, packets: int, words: str, name: str) -> None:
        """Check that all of ``words`` was played since that packet."""
        self.assertEqual(client.sentences()[-1], words, name)
        played = 60 * (len(client.packets) - packets)
        self.assertGreaterEqual(played, 60 * len(words), name)
        self.assertEqual(client.states().count("start"), client.states().count("stop"), name)

    def test_an_announcement_behind_an_answer(self) -> None:
        for after in (0.0, 0.06, 0.3, 0.5, 1.0, 1.5, 2.0):
            client = self.client()
            client.say(**AUTO)
            client.say(type="chat", text="go")
            client.house.run(0.5)
            self.post(client, self.WORDS)
            self.until(client, lambda: client.states()[-1:] == ["stop"])  # noqa: B023
            packets = len(client.packets)
            client.house.run(after)
            client.say(**AUTO)
            client.house.run(8)
            self.assert_whole(client, packets, self.WORDS, f"{after} s")
            self.assertEqual(client.sentences().count(self.WORDS), 1, after)

    def test_it_waits_for_the_device_to_listen(self) -> None:
        """Old firmware does nothing else while it plays its queue: messages are lost meanwhile."""
        for after in (0.1, 0.4, 0.8):
            client = self.client()
            client.say(**AUTO)
            client.say(type="chat", text="go")
            client.house.run(0.5)
            self.post(client, self.WORDS)
            self.until(client, lambda: client.states()[-1:] == ["stop"])  # noqa: B023
            client.house.run(after)
            self.assertEqual(client.states()[-1], "stop")
            client.say(**AUTO)
            client.house.run(0.1)
            self.assertEqual(client.states()[-2:], ["start", "sentence_start"])
            client.house.run(5)

    def test_a_greeting(self) -> None:
        greeting = "Here I am to do what you want."
        session = SessionSettings(wake=WakeSettings(greeting=greeting))
        for start in (AUTO, REALTIME):
            for after in (0.0, 0.06, 0.3, 0.5, 0.8, 1.2):
                client = self.client(session=session)
                client.say(**WAKE)
                client.house.run(after)
                client.say(**start)
                client.house.run(6)
                self.assert_whole(client, 0, greeting, f"{start['mode']}, {after} s")
                self.assertEqual(client.states(), ["start", "sentence_start", "stop"])
                client.speak()
                client.house.run(1)
                self.assertEqual(client.heard()[-1], "hello", "it does not listen")

    def test_of_an_older_turn_it_does_not_end_the_newer(self) -> None:
        """The turn that the edge saw interrupted may be over at the AI service, and the next one
        begun.
        """
        client = self.client(llm={"replies": {"one": LONG, "two": "Second."}, "delay": 0.5})
        client.say(**REALTIME)
        client.say(type="chat", text="one")
        client.house.run(2)
        client.say(type="chat", text="two")
        client.house.run(0.2)
        session = client.link._session
        assert session is not None
        session.send(m.Listen(m.ListenState.START, m.ListenMode.REALTIME, turn=1))
        client.house.run(4)
        self.assertEqual(client.sentences()[-1], "Second.")


class AnnouncementTests(TalkCase):
    """A posted text is heard completely, or spoken again."""

    # The interruption, and the person's next action.
    CUTS: tuple[tuple[str, list[Step]], ...] = (
        ("a press and a question", [(0, PRESS), (0, "speak"), (0, RELEASE)]),
        ("a press and nothing", [(0, PRESS), (0.4, RELEASE)]),
        ("a wake word, and a question", [
            (0, {**ABORT, "reason": "wake_word_detected"}), (0, AUTO), (0.3, "speak")]),
        ("a wake word, and nothing", [(0, {**ABORT, "reason": "wake_word_detected"}), (0, AUTO)]),
        ("a click", [(0, ABORT), (0.3, AUTO)]),
        ("a typed question", [(0, {"type": "chat", "text": "what is it"})]),
        ("a press in auto mode", [(0, AUTO)]),
    )  # fmt: skip
    WORDS = "Dinner is ready and it is soup and there is bread with it and some cheese."

    def test_said_again(self) -> None:
        for name, steps in self.CUTS:
            client = self.client(llm={"answers": ("Yes.",)})
            client.say(**AUTO)
            client.house.run(0.2)
            self.post(client, self.WORDS)
            client.house.run(2)
            for after, step in steps:
                client.house.run(after)
                if isinstance(step, dict):
                    client.say(**step)
                else:
                    client.speak()
            packets = len(client.packets)
            asked = client.states().count("start")
            client.house.run(0.3)
            # Not at once: the person speaks first.
            self.assertLessEqual(client.sentences().count(self.WORDS), 1, name)
            for _ in range(40):
                client.house.run(0.5)
                if client.states()[-1] == "stop" and client.states().count("start") > asked:
                    client.say(**AUTO)
                    asked = client.states().count("start")
            self.assertEqual(client.sentences().count(self.WORDS), 2, name)
            self.assertGreater(len(client.packets) - packets, len(self.WORDS), name)

    def test_not_for_ever(self) -> None:
        announce = AnnounceSettings(again=1.0, tries=2)
        client = self.client(session=SessionSettings(announce=announce))
        client.say(**AUTO)
        self.post(client, self.WORDS)
        for _ in range(4):
            client.house.run(2.5)
            client.say(**ABORT)
            client.say(**AUTO)
        self.assertEqual(client.sentences(), [self.WORDS] * 2)

    def test_it_moves_to_no_other_process_unsaid(self) -> None:
        client = self.client(llm={"answers": (LONG,)})
        client.say(**AUTO)
        client.say(type="chat", text="go")
        client.house.run(1)
        self.post(client, self.WORDS)
        client.house.ai.drain(60)
        self.until(client, lambda: self.WORDS in client.sentences(), 30)
        client.house.run(10)


class PyXiaozhi(Client):
    """py-xiaozhi's behaviour with its button: it uploads only while it considers itself listening,
    and each ``tts stop`` makes it idle unless it keeps listening.

    :ivar state: ``idle``, ``listening`` or ``speaking``.
    """

    state = "idle"

    def send_text(self, text: str) -> None:
        super().send_text(text)
        match self.texts[-1]:
            case {"type": "tts", "state": "start"}:
                self.state = "speaking"
            case {"type": "tts", "state": "stop"}:
                self.state = "idle"

    def press(self) -> None:
        self.say(**PRESS, session_id="")
        self.state = "listening"

    def release(self) -> None:
        self.say(**RELEASE, session_id="")
        self.state = "idle"

    def speak(self, pcm: bytes = SPEECH, silence: float = 0.0) -> None:
        for packet in OpusEncoder(16000).encode(pcm):
            if self.state == "listening":
                wire_of(self.link).binary_received(packet)
            self.house.run(0.06)


class PressTests(TalkCase):
    """Press-to-talk during an answer, without an ``abort``."""

    def talking(self, kind: type[Client] = Client, **settings: Any) -> Any:
        settings.setdefault("llm", {"replies": {"go": LONG}})
        client = self.client(kind, **settings)
        client.say(**PRESS)
        client.say(**RELEASE)
        client.say(type="listen", state="detect", text="go")
        client.house.run(2)
        self.assertEqual(client.states()[-1], "sentence_start")
        return client

    def test_as_py_xiaozhi_does_it(self) -> None:
        for before in (0.0, 0.5, 3.0):
            client = self.talking(PyXiaozhi, asr={"texts": ("and now",)})
            client.press()
            packets = len(client.packets)
            client.house.run(before)
            client.speak()
            self.assertEqual(client.state, "listening", "our stop closed its microphone")
            self.assertEqual(len(client.packets), packets, "not silent at once")
            client.release()
            client.house.run(5)
            self.assertEqual(client.heard(), ["go", "and now"])
            self.assertEqual(client.sentences()[-1], "All right.")
            self.assertEqual(client.states().count("stop"), 2)

    def test_before_the_first_sound(self) -> None:
        """During thinking the device is already in a turn."""
        client = self.client(PyXiaozhi, asr={"texts": ("and now",)}, llm={"delay": 1.5})
        client.press()
        client.release()
        client.say(type="listen", state="detect", text="go")
        client.house.run(0.5)
        client.press()
        client.speak()
        client.release()
        client.house.run(6)
        self.assertEqual(client.heard(), ["go", "and now"])
        self.assertEqual(client.states(), ["start", "stop", "start", "sentence_start", "stop"])

    # Ends of the wait other than the release, after so many seconds.
    ENDS: tuple[tuple[str, dict[str, Any] | str, float], ...] = (
        ("release", RELEASE, 0),
        ("abort", ABORT, 0),
        ("typed", {"type": "listen", "state": "detect", "text": "next"}, 0),
        ("chat", {"type": "chat", "text": "next"}, 0),
        ("picture", {"type": "image", "image_data": {"data": "AAAA", "format": "png"}}, 0),
        ("another mode", AUTO, 0),
        ("an empty packet", "empty", 0),
        ("an announcement", "say", 0),
        ("never", "wait", 10),
        ("the server stops", "stop", 0),
    )

    def test_ends_of_the_wait(self) -> None:
        edge = EdgeSettings(pacer=PacerSettings(stop_hold=5))
        for name, end, limit in self.ENDS:
            client = self.talking(edge=edge)
            client.say(**PRESS)
            client.house.run(1)
            self.assertEqual(client.states()[-1], "sentence_start", name)
            if isinstance(end, dict):
                client.say(**end)
            elif end == "empty":
                wire_of(client.link).binary_received(b"")
            elif end == "say":
                client.link._answers.received(m.Tts(m.TtsState.START, turn=99))
                self.assertEqual(client.states()[-2:], ["stop", "start"])
                continue
            elif end == "stop":
                client.link.go_away()
                self.assertEqual(client.closed, (1001, "going_away"))
            client.house.run(limit)
            stop = client.states().index("stop")
            self.assertEqual(client.states()[:stop].count("start"), 1, name)

    def test_two_presses(self) -> None:
        client = self.talking()
        client.say(**PRESS)
        client.house.run(0.3)
        client.say(**PRESS)
        client.speak()
        self.assertEqual(client.states()[-1], "sentence_start")
        client.say(**RELEASE)
        self.assertEqual(client.states().count("stop"), 1)

    def test_firmware_notices_nothing(self) -> None:
        """§4.6: it sends ``abort`` first, which is answered at once."""
        client = self.talking()
        client.say(**ABORT)
        self.assertEqual(client.states()[-1], "stop")
        client.say(**PRESS)
        client.speak()
        client.say(**RELEASE)
        client.house.run(4)
        self.assertEqual(client.states().count("stop"), 2)
        self.assertEqual(client.heard()[-1], "hello")

    def test_disconnected_while_it_waits(self) -> None:
        client = self.talking()
        client.say(**PRESS)
        wire_of(client.link).connection_lost("gone")
        client.house.run(1)

    def test_a_start_while_a_press_is_being_recognised(self) -> None:
        for start in (AUTO, REALTIME):
            client = self.client(asr={"texts": ("{ms}",), "delay": 2.0})
            client.say(**PRESS)
            client.speak(silence=0)
            client.say(**RELEASE)
            client.house.run(0.5)
            client.say(**start)
            client.speak(SPEECH * 2)
            client.house.run(6)
            # The longer one, and only that.
            (heard,) = client.heard()
            self.assertGreater(int(heard), 1700, start)

    def test_a_start_during_the_answer(self) -> None:
        client = self.client(asr={"texts": ("first",)}, llm={"delay": 1.0})
        client.say(**PRESS)
        client.speak(silence=0)
        client.say(**RELEASE)
        client.house.run(0.5)
        client.say(**AUTO)
        client.house.run(4)
        self.assertEqual(client.sentences(), ["All right."])


class ReactionTests(TalkCase):
    def test_the_times_can_be_set(self) -> None:
        link = LinkSettings(restart_timeout=0.2, reaction_time=0.1)
        client = self.client(edge=EdgeSettings(link=link), llm={"answers": (LONG,)})
        client.say(**AUTO)
        client.say(type="chat", text="go")
        self.until(client, lambda: bool(client.packets))
        client.house.run(0.15)
        client.say(**AUTO)
        self.assertEqual(client.states()[-1], "stop")
