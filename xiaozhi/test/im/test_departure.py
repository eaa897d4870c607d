"""A stopping edge lets the current sentence and a speaking person finish."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.audio import OpusEncoder
from xiaozhi.im.playout.pacer import Pacer
from xiaozhi.im.session.departure import Departure
from xiaozhi.im.session.turngate import TurnGate
from xiaozhi.im.settings import LinkSettings
from xiaozhi.testing.conversation import ConversationCase
from xiaozhi.testing.edge import EdgeBench, wire_of
from xiaozhi.testing.house import AI, SPEECH, Browser
from xiaozhi.wire import messages as m

ONE, TWO, THREE = "The first sentence is this one.", "The second is that.", "And a third."

AUTO = {"type": "listen", "state": "start", "mode": "auto"}
REALTIME = {**AUTO, "mode": "realtime"}
PRESS = {**AUTO, "mode": "manual"}
RELEASE = {"type": "listen", "state": "stop"}
GO = {"type": "chat", "text": "go"}


class Client(Browser):
    """:ivar story: ``start``, ``stop``, sentences, and ``closed``, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.story: list[str] = []

    def send_text(self, text: str) -> None:
        super().send_text(text)
        if self.texts[-1]["type"] == "tts":
            self.story.append(self.texts[-1].get("text") or self.texts[-1]["state"])

    def close(self, code: int, reason: str) -> None:
        super().close(code, reason)
        self.story.append("closed")


class DepartureTests(ConversationCase):
    def start(self, **settings: Any) -> Client:
        settings.setdefault("llm", {"answers": (f"{ONE} {TWO} {THREE}",)})
        self.stage = self.house(**settings)
        client = Client()
        self.stage.join(client)
        client.say(type="hello", version=1, features={})
        self.stage.run(0.1)
        return client

    def speak(self, client: Client, pcm: bytes = SPEECH) -> None:
        for packet in OpusEncoder(16000).encode(pcm):
            wire_of(client.link).binary_received(packet)
            self.stage.run(0.06)

    def drain(self, timeout: float = 5.0) -> Deferred[None]:
        return self.stage.gateway.drain(timeout)

    # Name; the start of the conversation; seconds until the process stops; everything the device
    # gets; the least and most seconds until it is disconnected.
    TABLE: tuple[tuple[str, tuple[dict[str, Any], ...], float, list[str], float, float], ...] = (
        ("nothing was said", (), 0.5, ["closed"], 0, 0),
        ("the microphone is open", (AUTO,), 0.5, ["closed"], 0, 0.1),
        ("the microphone is open, realtime", (REALTIME,), 0.5, ["closed"], 0, 0.1),
        ("in the first sentence", (AUTO, GO), 1.0, ["start", ONE, "stop", "closed"], 1.0, 1.6),
        ("the same, realtime", (REALTIME, GO), 1.0, ["start", ONE, "stop", "closed"], 1.0, 1.6),
        ("the same, by button", (PRESS, RELEASE, GO), 1.0,
            ["start", ONE, "stop", "closed"], 1.0, 1.6),
        ("in the second", (AUTO, GO), 2.5, ["start", ONE, TWO, "stop", "closed"], 0.5, 1.5),
        ("before the first", (AUTO, GO), 0.02, ["start", ONE, "stop", "closed"], 1.8, 2.6),
    )  # fmt: skip

    def test_the_sentence_is_heard(self) -> None:
        for name, begin, after, story, least, most in self.TABLE:
            client = self.start()
            for message in begin:
                client.say(**message)
            self.stage.run(after)
            began = self.stage.clock.seconds()
            self.drain()
            while client.closed is None and self.stage.clock.seconds() < began + 6:
                self.stage.clock.advance(0.01)
            took = self.stage.clock.seconds() - began
            self.assertEqual(client.story, story, name)
            self.assertEqual(client.closed, (1001, "going_away"), name)
            self.assertTrue(least <= took <= most + 0.02, f"{name}: {took}")
            # All of the begun sentence: 60 ms for a character.
            begun = [words for words in client.story if len(words) > 6]
            self.assertGreaterEqual(len(client.packets), sum(map(len, begun)), name)

    def test_a_sentence_longer_than_there_is_time(self) -> None:
        client = self.start()
        client.say(**AUTO)
        client.say(**GO)
        self.stage.run(1)
        self.drain(0.5)
        self.stage.run(0.4)
        self.assertIsNone(client.closed)
        self.stage.run(0.2)
        self.assertEqual(client.story, ["start", ONE, "closed"])
        self.assertEqual(client.closed, (1001, "going_away"))

    def test_sentences_that_are_still_being_made(self) -> None:
        """The next sentence has not arrived when the process stops."""
        client = self.start(tts={"delay": 1.2})
        client.say(**AUTO)
        client.say(**GO)
        self.stage.run(1.5)
        self.assertEqual(client.story, ["start", ONE])
        self.drain()
        self.stage.run(4)
        self.assertEqual(client.story, ["start", ONE, "stop", "closed"])

    def test_a_person_may_finish_speaking(self) -> None:
        """The person hears the first sentence of the answer; all within ``drain_timeout``."""
        for start, end in ((AUTO, {}), (REALTIME, {}), (PRESS, RELEASE)):
            client = self.start()
            client.say(**start)
            self.speak(client, SPEECH[: 32 * 500])
            self.drain()
            self.speak(client)
            self.assertIsNone(client.closed, start)
            if end:
                client.say(**end)
            else:
                self.speak(client, bytes(32000))
            self.stage.run(3)
            self.assertEqual([stt["text"] for stt in client.of("stt")], ["hello"])
            self.assertEqual(client.story, ["start", ONE, "stop", "closed"], start)

    def test_over_an_answer(self) -> None:
        """In realtime: the sentence ends, or the person's words end it and are answered."""
        client = self.start(asr={"texts": ("stop it",)}, llm={"replies": {"go": ONE * 3}})
        client.say(**REALTIME)
        client.say(**GO)
        self.stage.run(2)
        self.speak(client, SPEECH[: 32 * 600])
        self.drain()
        self.speak(client, SPEECH[: 32 * 300] + bytes(32000))
        self.stage.run(4)
        self.assertEqual(client.story[-4:], ["start", "All right.", "stop", "closed"])

    def test_a_noise_does_not_delay_the_end(self) -> None:
        client = self.start(asr={"texts": ("",)})
        client.say(**AUTO)
        self.speak(client, SPEECH[: 32 * 400])
        self.drain()
        self.speak(client, bytes(32000))
        self.stage.run(0.3)
        self.assertEqual(client.story, ["closed"])

    def test_endless_speech_is_cut_at_the_limit(self) -> None:
        client = self.start()
        client.say(**PRESS)
        self.speak(client, SPEECH)
        self.drain(3)
        for _ in range(4):
            self.speak(client, SPEECH)
        self.assertEqual(client.story, ["closed"])

    def test_a_question_that_is_being_recognised(self) -> None:
        client = self.start(asr={"delay": 1.0})
        client.say(**PRESS)
        self.speak(client)
        client.say(**RELEASE)
        self.stage.run(0.2)
        self.drain()
        self.stage.run(4.5)
        self.assertEqual(client.story, ["start", ONE, "stop", "closed"])

    def test_an_abort_ends_the_wait(self) -> None:
        client = self.start()
        client.say(**AUTO)
        client.say(**GO)
        self.stage.run(1)
        self.drain()
        client.say(type="abort")
        self.assertEqual(client.story[:3], ["start", ONE, "stop"])
        self.stage.run(0.1)
        self.assertEqual(client.story[-1], "closed")

    def test_no_announcement_begins(self) -> None:
        for start in (AUTO, REALTIME):
            client = self.start()
            client.say(**start)
            client.say(**GO)
            self.stage.run(1)
            client.link._session.send(m.Say("Dinner is ready."))  # type: ignore[union-attr]
            self.drain()
            self.stage.run(4)
            self.assertEqual(client.story, ["start", ONE, "stop", "closed"], start)

    def test_a_writing_model_does_not_delay_the_end(self) -> None:
        client = self.start(llm={"answers": (f"{ONE} {TWO} {THREE} " * 5,), "token_delay": 0.1})
        client.say(**AUTO)
        client.say(**GO)
        self.stage.run(1.5)
        self.assertEqual(client.story, ["start", ONE])
        self.drain(10)
        self.stage.run(3)
        self.assertEqual(client.story, ["start", ONE, "stop", "closed"])

    def test_sound_without_words_is_a_sentence(self) -> None:
        client = self.start()
        answers = client.link._answers
        answers.received(m.Tts(m.TtsState.START, turn=1))
        for _ in range(20):
            answers.received(m.Audio(b"\x58opus", 0, 1))
        self.stage.run(0.5)
        self.drain()
        answers.received(m.Tts(m.TtsState.SENTENCE_START, TWO, 1))
        answers.received(m.Audio(b"\x58opus", 0, 1))
        self.stage.run(2)
        self.assertEqual(client.story, ["start", "stop", "closed"])
        self.assertEqual(len(client.packets), 20)

    def test_without_the_ai(self) -> None:
        """Sound that was sent is played; nothing waits for answers that cannot come."""
        for lost_before in (True, False):
            client = self.start()
            client.say(**AUTO)
            client.say(**GO)
            self.stage.run(1)
            if lost_before:
                self.stage.kill_ai()
                self.stage.run(0.1)
            self.drain()
            if not lost_before:
                self.stage.kill_ai()
            self.stage.run(3)
            self.assertEqual(client.story, ["start", ONE, "stop", "closed"])
            self.stage.start_ai()
            self.stage.run(1)

    def test_an_ai_that_does_not_answer(self) -> None:
        client = self.start()
        client.say(**AUTO)
        for stream in self.stage.network.streams(AI):
            stream.stall()
        self.drain(2)
        self.stage.run(1.9)
        self.assertIsNone(client.closed)
        self.stage.run(0.2)
        self.assertEqual(client.closed, (1001, "going_away"))

    def test_waiting_turns_are_cancelled(self) -> None:
        client = self.start()
        answers = client.link._answers
        for turn, words in ((1, ONE), (2, TWO)):
            answers.received(m.Tts(m.TtsState.START, turn=turn))
            answers.received(m.Tts(m.TtsState.SENTENCE_START, words, turn))
            for _ in range(20):
                answers.received(m.Audio(b"\x58opus", 0, turn))
            answers.received(m.Tts(m.TtsState.STOP, turn=turn))
        self.stage.run(0.5)
        self.drain()
        self.stage.run(3)
        self.assertEqual(client.story, ["start", ONE, "stop", "closed"])
        pacer = client.link.down._pacer
        assert isinstance(pacer, Pacer)
        self.assertEqual(len(client.packets), 20)


class WaitingTests(SynchronousTestCase):
    """The conditions of a departure, and that it waits for each once."""

    def setUp(self) -> None:
        self.bench = EdgeBench()
        self.link, _ = self.bench.link()
        self.link.text_received('{"type":"hello"}')
        self.session = self.bench.bridge.sessions[-1]
        self.turns = TurnGate(LinkSettings())
        self.gone: list[str] = []
        self.departure = Departure(
            self.link.down, self.link._answers, self.turns, lambda: self.gone.append("gone")
        )

    def turn(self, number: int) -> None:
        """A turn of one packet."""
        for message in (
            m.Tts(m.TtsState.START, turn=number),
            m.Audio(b"\x58opus", 0, number),
            m.Tts(m.TtsState.STOP, turn=number),
        ):
            self.session.events.received(message)

    def test_nothing(self) -> None:
        self.departure.check()
        self.assertEqual(self.gone, [])  # not before it has begun
        self.departure.begin(self.session)
        self.assertEqual(self.gone, ["gone"])
        self.assertNotIn(m.Leave(), self.session.sent)

    def test_an_open_microphone_without_a_session_does_not_delay(self) -> None:
        self.turns.listens(m.Listen(m.ListenState.START, m.ListenMode.AUTO))
        self.departure.begin(None)
        self.assertEqual(self.gone, ["gone"])

    def test_a_link_that_is_over(self) -> None:
        self.departure.close()
        self.departure.begin(self.session)
        self.departure.check()
        self.assertEqual(self.gone, [])

    def test_each_turn_is_waited_for_once(self) -> None:
        """However many messages arrive meanwhile; and a later turn, too."""
        self.turns.listens(m.Listen(m.ListenState.START, m.ListenMode.AUTO))
        self.turn(1)
        self.departure.begin(self.session)
        self.assertIn(m.Leave(), self.session.sent)
        for _ in range(3):
            self.departure.check()
        self.assertEqual(len(self.link.down._rest), 1)
        self.bench.pass_time(1)
        self.assertEqual(self.gone, [])
        self.turn(2)
        self.turns.listened()
        self.bench.pass_time(0.1)
        self.assertEqual(self.gone, [])
        self.bench.pass_time(1)
        self.assertEqual(self.gone, ["gone"])
