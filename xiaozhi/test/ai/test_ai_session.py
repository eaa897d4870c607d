"""A session alone, with a simulated edge: its states, and its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xiaozhi.agents.settings import IdleSettings, SessionSettings, WakeSettings
from xiaozhi.ai.session.leases import OneAgent
from xiaozhi.ai.session.session import Session
from xiaozhi.ai.session.states import SessionState
from xiaozhi.audio import OpusEncoder
from xiaozhi.testing.conversation import LONG, ConversationCase
from xiaozhi.testing.edge import DEVICE, FakeLink
from xiaozhi.testing.house import SPEECH, House
from xiaozhi.wire import messages as m

START, STOP = m.ListenState.START, m.ListenState.STOP
AUTO, REALTIME = m.Listen(START, m.ListenMode.AUTO), m.Listen(START, m.ListenMode.REALTIME)
PRESS, RELEASE = m.Listen(START, m.ListenMode.MANUAL), m.Listen(STOP)
WAKE = m.Listen(m.ListenState.DETECT, text="你好小智")
GO = m.Chat("go")


class Edge(FakeLink):
    """Plays each turn in no time; if ``slow``, the test reports playback."""

    slow = False
    hear: Callable[[m.Uplink], None]

    def send(self, message: m.Uplink | m.Downlink) -> None:
        super().send(message)
        match message:
            case m.Tts(state=m.TtsState.STOP, turn=turn) if not self.slow:
                self.hear(m.Playback(turn, m.PlaybackState.FINISHED, 1000))
            case m.Flush(turn=turn):
                self.hear(m.Playback(turn, m.PlaybackState.FLUSHED, 100))

    def told(self) -> list[str]:
        """Everything sent, except sound and faces."""
        found = []
        for each in self.sent:
            match each:
                case m.Tts(state=state, text=words):
                    found.append(words or state.value)
                case m.Audio() | m.Llm() | m.Language():
                    pass
                case m.Stt(text=words):
                    found.append(f"heard {words}")
                case _:
                    found.append(type(each).__name__)
        return found

    def sentences(self) -> list[str]:
        return [each.text for each in self.sent if isinstance(each, m.Tts) and each.text]


class SessionCase(ConversationCase):
    def begin(self, incarnation: int = 1, **settings: Any) -> None:
        settings.setdefault("llm", {"answers": ("Yes.",)})
        self.stage: House = self.house(**settings)
        downlink = m.AudioParams(sample_rate=24000)
        opening = m.SessionOpen("s", DEVICE, m.Hello(), downlink, incarnation=incarnation)
        self.edge = Edge()
        self.session = Session(
            opening, self.edge, self.stage.shared, OneAgent(self.stage.shared.agent)
        )
        self.edge.hear = self.later
        self.addCleanup(self.session.closed, "", "")
        self.run_for(0.1)
        self.edge.sent.clear()

    def later(self, message: m.Uplink) -> None:
        self.stage.clock.callLater(0, self.hear, message)

    def hear(self, message: m.Uplink) -> None:
        self.session.received(message)

    def run_for(self, seconds: float) -> None:
        self.stage.run(seconds)

    def say(self, *messages: m.Uplink) -> None:
        for message in messages:
            self.hear(message)
            self.run_for(0.02)

    def speak(self, pcm: bytes = SPEECH, silence: float = 1.0) -> None:
        for packet in OpusEncoder(16000).encode(pcm + bytes(int(32000 * silence))):
            if self.edge.ended is None:
                self.hear(m.Audio(packet))
                self.run_for(0.06)

    def play(self, state: m.PlaybackState = m.PlaybackState.FINISHED, turn: int = 1) -> None:
        self.say(m.Playback(turn, state, 1000))


class StateTests(SessionCase):
    # Input: a number waits so many seconds, `speak` is a spoken "hello" and a second of silence,
    # `press` a button press without speech. Then the state and the spoken sentences.
    TABLE: tuple[tuple[str, tuple[Any, ...], SessionState, int], ...] = (
        ("nothing", (), SessionState.IDLE, 0),
        ("auto", (AUTO,), SessionState.LISTENING, 0),
        ("pressed", (PRESS,), SessionState.LISTENING, 0),
        ("released without a voice", (PRESS, RELEASE), SessionState.IDLE, 0),
        ("a release alone", (RELEASE,), SessionState.IDLE, 0),
        ("sound that nobody waits for", ("speak", 2), SessionState.IDLE, 0),
        ("spoken to in auto", (AUTO, "speak", 2), SessionState.LISTENING, 1),
        ("spoken to in realtime", (REALTIME, "speak", 2), SessionState.LISTENING, 1),
        ("spoken to by button", (PRESS, "press", RELEASE, 2), SessionState.IDLE, 1),
        ("a recording that a browser ends", (AUTO, "press", m.Audio(b""), 2),
            SessionState.LISTENING, 1),
        ("the same in realtime", (REALTIME, "press", m.Audio(b""), 2), SessionState.LISTENING, 1),
        ("nothing recorded", (AUTO, m.Audio(b"")), SessionState.IDLE, 0),
        ("nothing recorded, in realtime", (REALTIME, m.Audio(b"")), SessionState.LISTENING, 0),
        ("typed", (AUTO, GO, 2), SessionState.LISTENING, 1),
        ("typed, by button", (PRESS, RELEASE, GO, 2), SessionState.IDLE, 1),
        ("typed blank", (AUTO, m.Chat(" ")), SessionState.LISTENING, 0),
        ("a wake word", (WAKE,), SessionState.IDLE, 0),
        ("a wake word, and a question", (WAKE, AUTO, "speak", 2), SessionState.LISTENING, 1),
        ("words in a detect", (m.Listen(m.ListenState.DETECT, text="go"), 2),
            SessionState.LISTENING, 1),
        ("an abort of nothing", (AUTO, m.Abort()), SessionState.LISTENING, 0),
        ("an abort of nothing, by button", (PRESS, RELEASE, m.Abort()), SessionState.IDLE, 0),
        ("an announcement", (AUTO, m.Say("Dinner."), 2), SessionState.LISTENING, 1),
        ("an announcement while the button is pressed", (PRESS, m.Say("Dinner."), 2),
            SessionState.LISTENING, 0),
        ("the same, released without a voice", (PRESS, m.Say("Dinner."), RELEASE, 2),
            SessionState.IDLE, 1),
        ("a picture", (m.Image(url="http://x/"),), SessionState.IDLE, 0),
        ("goodbye", (AUTO, m.Goodbye()), SessionState.CLOSED, 0),
    )  # fmt: skip

    def test_states(self) -> None:
        for name, steps, state, sentences in self.TABLE:
            self.begin()
            for step in steps:
                if isinstance(step, int):
                    self.run_for(step)
                elif step in ("speak", "press"):
                    self.speak(silence=1.0 if step == "speak" else 0.0)
                else:
                    self.say(step)
            self.assertIs(self.session.state, state, name)
            self.assertEqual(len(self.edge.sentences()), sentences, name)

    # Input during an answer; whether the answer continues.
    OVER: tuple[tuple[str, m.Listen, tuple[m.Uplink, ...], bool], ...] = (
        ("an abort", AUTO, (m.Abort(),), False),
        ("a press", AUTO, (PRESS,), False),
        ("a start of before", AUTO, (AUTO,), True),
        ("a start that the edge took for an interruption", AUTO,
            (m.Listen(START, m.ListenMode.AUTO, turn=1),), False),
        ("one of an older turn", AUTO, (m.Listen(START, m.ListenMode.AUTO, turn=9),), True),
        ("a wake word", AUTO, (WAKE,), False),
        ("a wake word by button", PRESS, (WAKE,), False),
        ("a stop", AUTO, (RELEASE,), True),
        ("words", AUTO, (m.Chat("and"),), False),
        ("blank words", AUTO, (m.Chat(" "),), True),
        ("sound, in auto", AUTO, (m.Audio(b"\x58opus"),), True),
        ("an announcement", AUTO, (m.Say("Dinner."),), True),
        ("goodbye", AUTO, (m.Goodbye(),), False),
    )  # fmt: skip

    def test_over_an_answer(self) -> None:
        for name, start, messages, goes_on in self.OVER:
            self.begin(llm={"replies": {"go": LONG, "and": "Yes."}})
            self.edge.slow = True
            self.say(start, GO)
            self.run_for(1)
            self.assertIs(self.session.state, SessionState.ANSWERING)
            self.say(*messages)
            self.assertEqual("Flush" in self.edge.told(), not goes_on, name)

    def test_turns_of_another_incarnation_have_other_numbers(self) -> None:
        for incarnation, number in ((1, 1), (3, 2_000_001)):
            self.begin(incarnation)
            self.say(GO)
            turns = {each.turn for each in self.edge.sent if isinstance(each, m.Tts)}
            self.assertEqual(turns, {number})

    def test_counts(self) -> None:
        self.begin()
        counts = self.stage.shared.counts
        before = counts.frames_up
        self.say(m.Ping(), m.Audio(b"\x58opus"), m.Vision("x"))
        self.assertEqual(counts.frames_up - before, 1)
        messages = dict(counts.messages)
        told = [messages.get(each) for each in (("up", "ping"), ("down", "pong"))]
        self.assertEqual((told, messages.get(("up", "audio"))), ([1, 1], None))
        self.assertEqual(self.edge.told(), ["Pong", "Error"])
        self.assertEqual(messages[("down", "error")], 1)

    def test_a_press_whose_packets_were_lost(self) -> None:
        """The device's packets were lost: it gets an alert."""
        for came, told in ((0, 3), (0, 0)):
            self.begin()
            self.say(PRESS, m.Listen(STOP, packets=told))
            self.assertEqual(len(self.edge.sent) > 0, told > came, told)

    def test_paused_by_the_edge(self) -> None:
        self.begin()
        self.session.pause_sending()
        self.say(GO)
        self.run_for(3)
        self.assertEqual([each for each in self.edge.sent if isinstance(each, m.Audio)], [])
        self.session.resume_sending()
        self.run_for(3)
        self.assertTrue(any(isinstance(each, m.Audio) for each in self.edge.sent))

    def test_greetings_take_turns(self) -> None:
        greetings = ("Here I am.", "At your service.")
        self.begin(session=SessionSettings(wake=WakeSettings(greeting=greetings)))
        for _ in range(3):
            self.say(WAKE)
            self.run_for(3)
        self.assertEqual(self.edge.sentences(), [greetings[0], greetings[1], greetings[0]])


class EndTests(SessionCase):
    def test_goodbye(self) -> None:
        self.begin()
        self.say(AUTO, GO)
        self.say(m.Goodbye())
        self.assertEqual(self.edge.ended, ("goodbye", ""))
        self.run_for(1)
        sent = len(self.edge.sent)
        self.session.closed("again", "")
        self.run_for(1)
        self.assertEqual(len(self.edge.sent), sent)

    def test_dismissed(self) -> None:
        self.begin()
        self.session.end("revoked")
        self.assertEqual(self.edge.ended, ("revoked", ""))

    # The current activity; whether the session ends at once when our process stops, and when the
    # edge's does.
    STOPS: tuple[tuple[str, tuple[Any, ...], bool], ...] = (
        ("nothing", (), True),
        ("it listens", (AUTO,), True),
        ("somebody speaks", (AUTO, "speak"), False),
        ("the button is pressed", (PRESS,), False),
        ("an answer", (AUTO, GO), False),
    )

    def test_our_process_stops(self) -> None:
        for ours in (True, False):
            for name, steps, at_once in self.STOPS:
                self.begin()
                self.edge.slow = True
                for step in steps:
                    if step == "speak":
                        self.speak(silence=0)
                    else:
                        self.say(step)
                if ours:
                    self.session.draining()
                else:
                    self.say(m.Leave())
                self.run_for(0.1)
                ended = ("moving" if ours else "draining", "")
                self.assertEqual(self.edge.ended, ended if at_once else None, (name, ours))

    def test_after_the_answer(self) -> None:
        for ours, code in ((True, "moving"), (False, "draining")):
            self.begin()
            self.edge.slow = True
            self.say(AUTO, GO)
            self.run_for(2)
            if ours:
                self.session.draining()
            else:
                self.say(m.Leave())
            self.assertIsNone(self.edge.ended)
            self.play()
            self.assertEqual(self.edge.ended, (code, ""))

    def test_announcements_are_not_moved(self) -> None:
        """Our process speaks it first; an edge that stops begins none."""
        for ours in (True, False):
            self.begin()
            self.edge.slow = True
            self.say(AUTO, GO)
            self.run_for(2)
            self.say(m.Say("Dinner."))
            if ours:
                self.session.draining()
            else:
                self.say(m.Leave())
            self.play()
            self.run_for(2)
            self.assertEqual("Dinner." in self.edge.sentences(), ours)
            if ours:
                self.assertIsNone(self.edge.ended)
                self.play(turn=2)
            self.assertIsNotNone(self.edge.ended)

    def test_a_stopping_edge_gets_no_further_sentence(self) -> None:
        """It begins no further sentence, even if the model still writes."""
        self.begin(llm={"answers": (f"One. {LONG} {LONG}",), "token_delay": 0.2})
        self.say(AUTO, GO)
        self.run_for(1)
        self.say(m.Leave())
        self.play(turn=9)
        self.assertIsNone(self.edge.ended)
        self.play()
        self.assertEqual(self.edge.ended, ("draining", ""))

    # Settings; whether sound continues; the spoken text, and how the session ends.
    QUIET: tuple[tuple[str, IdleSettings, bool, list[str]], ...] = (
        ("an open microphone", IdleSettings(no_speech=10), True, ["Goodbye for now."]),
        ("a device that sends nothing", IdleSettings(no_speech=10), False, []),
        ("no farewell", IdleSettings(no_speech=10, farewell=False), True, []),
    )

    def test_silence(self) -> None:
        for name, idle, sounds, sentences in self.QUIET:
            self.begin(session=SessionSettings(idle=idle))
            self.say(AUTO)
            if sounds:
                self.speak(b"", silence=9.5)
            else:
                self.run_for(9.5)
            self.assertIs(self.session.state, SessionState.LISTENING, name)
            if sounds:
                self.speak(b"", silence=0.6)
            self.run_for(3)
            self.assertEqual(self.edge.sentences(), sentences, name)
            self.assertEqual(self.edge.ended, ("farewell", ""), name)

    def test_a_farewell_that_is_cut_off_is_none(self) -> None:
        self.begin(session=SessionSettings(idle=IdleSettings(no_speech=10)))
        self.edge.slow = True
        self.say(AUTO)
        self.speak(b"", silence=10.5)
        self.assertEqual(self.edge.sentences(), ["Goodbye for now."])
        self.play(m.PlaybackState.FLUSHED)
        self.run_for(1)
        self.assertIsNone(self.edge.ended)
        self.assertIs(self.session.state, SessionState.LISTENING)

    def test_a_speaking_person_is_not_disconnected(self) -> None:
        self.begin(session=SessionSettings(idle=IdleSettings(no_speech=1)))
        self.say(AUTO)
        self.speak(SPEECH * 4, silence=0)
        self.assertIsNone(self.edge.ended)
        self.assertEqual(self.edge.sentences(), [])


class PartsTests(SessionCase):
    """Interaction of a session with its parts, and its end."""

    def test_a_pong_has_the_time_in_ms(self) -> None:
        self.begin()
        self.stage.run(2.5)
        self.hear(m.Ping())
        (pong,) = [each for each in self.edge.sent if isinstance(each, m.Pong)]
        self.assertEqual(pong.timestamp, int(self.stage.shared.runtime.seconds() * 1000))

    # A picture's text and data; the displayed question, the sentences, errors.
    PNG = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + bytes([0, 0, 0, 8, 0, 0, 0, 8]) + bytes(9)
    PICTURES: tuple[tuple[str, bytes, list[str]], ...] = (
        ("What is it?", PNG, ["heard What is it?", "start", "A square.", "stop"]),
        ("", PNG, ["heard What is in the picture?", "start", "A square.", "stop"]),
        ("What is it?", b"no picture", ["Error"]),
    )

    def test_pictures(self) -> None:
        for words, data, told in self.PICTURES:
            self.begin(vlllm={"answers": ("A square.",)})
            self.say(m.Image(data=data, text=words))
            self.run_for(2)
            self.assertEqual(self.edge.told(), told, words)

    # An event 4 s before the idle limit; whether the session ends.
    IDLE: tuple[tuple[str, tuple[m.Uplink, ...], bool], ...] = (
        ("nothing", (), True),
        ("a press", (PRESS,), False),
        ("a recording without a voice", (m.Audio(b""),), False),
        ("an answer that is played for long", (GO,), False),
    )

    def test_idle(self) -> None:
        for name, messages, ends in self.IDLE:
            self.begin(session=SessionSettings(idle=IdleSettings(no_speech=4, farewell=False)))
            self.edge.slow = True
            self.say(AUTO, *messages)
            self.run_for(5)
            self.assertEqual(self.edge.ended is not None, ends, name)

    def test_a_session_that_is_over_holds_nothing(self) -> None:
        self.begin()
        counts = self.stage.shared.counts
        bad = counts.bad_packets
        self.say(AUTO, m.Audio(b"\xff\xff\xff"), m.Audio(b"\xff\xff\xff"))
        conversation = self.session._conversation
        self.session.closed("", "")
        self.assertIsNone(self.session._conversation)
        self.assertEqual(counts.bad_packets - bad, 2)
        self.assertTrue(hasattr(conversation, "_control"))
        self.run_for(0.01)
        self.assertFalse(hasattr(conversation, "_control"))
        self.assertEqual(self.edge.told(), [])

    def test_announcements_that_are_cut_are_said_again(self) -> None:
        cuts: tuple[tuple[str, m.Uplink], ...] = (
            ("an abort", m.Abort()),
            ("a start that interrupts", m.Listen(START, m.ListenMode.AUTO, turn=1)),
            ("a wake word", WAKE),
        )
        for name, cut in cuts:
            self.begin()
            self.edge.slow = True
            self.say(AUTO, m.Say("Dinner."))
            self.run_for(1)
            self.assertEqual(self.edge.sentences(), ["Dinner."], name)
            self.say(cut)
            self.speak(b"", silence=15)
            self.assertEqual(self.edge.sentences()[:2], ["Dinner.", "Dinner."], name)
