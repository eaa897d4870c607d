"""The ledger reports every fault, and nothing else."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.faults.account import Kind, Rules
from tests.faults.ledger import STRICT, Ledger


class LedgerTests(SynchronousTestCase):
    """One device with a line each 0.1 s."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.ledger = Ledger(self.clock.seconds)

    def write(self, *lines: Kind | tuple[Kind, int], device: int = 1) -> None:
        for line in lines:
            self.clock.advance(0.1)
            kind, number = line if isinstance(line, tuple) else (line, 0)
            self.ledger.note(device, kind, number)

    def ask(self, number: int, amount: int = 0, words: str = "typed") -> None:
        self.clock.advance(0.1)
        self.ledger.note(1, Kind.ASKED, number, amount, words)

    def turn(self, number: int, packets: int = 3, last: bool = True) -> None:
        self.write(Kind.STARTED, (Kind.SENTENCE, number), *[Kind.PACKET] * packets)
        if last:
            self.write((Kind.LAST, number))
        self.write(Kind.STOPPED)

    def talk(self, *numbers: int) -> None:
        for number in numbers:
            self.ask(number)
            self.write((Kind.HEARD, number))
            self.turn(number)

    def found(self, rules: Rules = STRICT) -> list[str]:
        """Return the faults without the surrounding lines."""
        return [fault.partition("\n")[0] for fault in self.ledger.faults(rules)]

    def test_a_complete_conversation(self) -> None:
        self.write(Kind.GREETED, (Kind.NOTED, 1), (Kind.NOTED, 2))
        self.talk(1, 2, 3)
        self.write((Kind.ECHOED, 1), (Kind.ECHOED, 2))
        self.assertEqual(self.found(), [])
        self.assertEqual(self.ledger.count(Kind.HEARD), 3)
        self.assertEqual(self.ledger.numbers(Kind.ECHOED), [(1, 1), (1, 2)])

    def test_an_unanswered_question(self) -> None:
        self.talk(1)
        self.ask(2)
        self.write((Kind.HEARD, 2))
        self.assertEqual(
            self.found(), ["device 1: question 2 (typed) was neither answered nor refused"]
        )
        # The surrounding events are reported with it.
        (fault,) = self.ledger.faults()
        self.assertIn("heard 2", fault)
        self.assertIn("tts stop", fault)

    def test_half_an_answer(self) -> None:
        self.ask(1)
        self.turn(1, last=False)
        expected = ["device 1: question 1 (typed) was neither answered nor refused"]
        self.assertEqual(self.found(), expected)
        self.write(Kind.TOLD)
        self.assertEqual(self.found(Rules(told=True)), [])
        self.assertIn("for which there was no reason", self.found()[0])

    def test_a_spoken_apology(self) -> None:
        self.ask(1)
        self.write(Kind.STARTED, Kind.OTHER, Kind.PACKET, Kind.STOPPED)
        self.assertEqual(self.found(Rules(told=True)), [])

    def test_answered_twice(self) -> None:
        self.talk(1)
        self.turn(1)
        self.assertEqual(
            self.found(), ["device 1: question 1 (typed) was answered 2 times to the end"]
        )
        # The death of a process is no excuse.
        self.assertEqual(len(self.found(Rules(died=(0.5,)))), 1)

    def test_repeated_answer(self) -> None:
        self.ask(1)
        self.write((Kind.HEARD, 1))
        self.turn(1, last=False)
        died = self.ledger.now
        self.write((Kind.HEARD, 1), (Kind.CALLED, 1), (Kind.CALLED, 1))
        self.turn(1)
        self.assertEqual(
            self.found(),
            [
                "device 1: question 1 (typed) was answered in 2 turns",
                "device 1: question 1 (typed) was understood 2 times",
                "device 1: question 1 (typed) had its tool called 2 times",
            ],
        )
        self.assertEqual(self.found(Rules(died=(died,))), [])
        # A death before the question, or after the answer, is no excuse.
        self.assertEqual(len(self.found(Rules(died=(0.05, self.ledger.now + 0.1)))), 3)

    def test_turns(self) -> None:
        self.write(Kind.STOPPED, Kind.PACKET, Kind.STARTED, Kind.STARTED)
        self.assertEqual(
            self.found(),
            [
                "device 1: tts stop came outside a turn",
                "device 1: packet came outside a turn",
                "device 1: tts start came within a turn",
                "device 1: a turn was never stopped",
            ],
        )

    def test_a_connection_ends_its_turn(self) -> None:
        self.ask(1)
        self.write(Kind.STARTED, (Kind.SENTENCE, 1), Kind.LOST, Kind.GREETED)
        self.talk(2)
        self.assertEqual(self.found(Rules(cut_off=True)), [])
        self.assertEqual(
            self.found(),
            ["device 1: question 1 (typed): the connection was closed before its answer ended"],
        )

    def test_disconnected_by_the_edge(self) -> None:
        self.ask(1)
        self.write(Kind.LOST, Kind.GREETED)
        self.ask(2)
        self.write((Kind.HEARD, 2), Kind.LOST)
        self.ask(3)
        self.write((Kind.HEARD, 3), Kind.STARTED, (Kind.SENTENCE, 3), Kind.STOPPED, Kind.LOST)
        self.ask(4)
        self.write((Kind.HEARD, 4), Kind.STARTED, (Kind.SENTENCE, 4), Kind.LOST)
        closed = "the connection was closed before its answer ended"
        self.assertEqual(
            self.found(Rules(sent_away=True)),
            [f"device 1: question {number} (typed): {closed}" for number in (2, 4)],
        )

    def test_order(self) -> None:
        self.ask(1)
        self.ask(2)
        self.write((Kind.HEARD, 2), (Kind.HEARD, 1))
        self.turn(1)
        self.turn(2)
        self.assertEqual(self.found(), ["device 1: question 1 was understood after question 2"])

    def test_notes(self) -> None:
        self.write(*((Kind.NOTED, number) for number in (1, 2, 3, 4)))
        self.write(*((Kind.ECHOED, number) for number in (2, 1, 3, 3)))
        self.assertEqual(
            self.found(),
            [
                "device 1: note 3 came back 2 times",
                "device 1: note 4 did not come back",
                "device 1: note 1 came back after note 2",
            ],
        )

    def test_a_note_lost_with_a_process(self) -> None:
        self.write((Kind.NOTED, 1), (Kind.NOTED, 2), (Kind.ECHOED, 2), (Kind.NOTED, 3))
        died = self.ledger.now
        self.write((Kind.NOTED, 4), (Kind.ECHOED, 4))
        self.assertEqual(self.found(Rules(died=(died,))), ["device 1: note 1 did not come back"])
        self.assertEqual(len(self.found()), 2)

    def test_sound(self) -> None:
        for number in (1, 2, 3):
            self.talk(number)
        self.ask(4)
        self.turn(4, packets=2)
        self.ask(5)
        self.turn(5, packets=4)
        self.ask(6, 300, "said")
        self.ledger.note(1, Kind.HEARD, 6, 240)
        self.turn(6)
        self.ask(7, 300, "said")
        self.ledger.note(1, Kind.HEARD, 7, 360)
        self.turn(7)
        doubled = [
            "device 1: question 5 (typed) was answered with 4 packets instead of 3",
            "device 1: question 7 (said) was 300 ms long, but 360 ms of it were understood",
        ]
        self.assertEqual(self.found(Rules(dropped=True)), doubled)
        self.assertEqual(len(self.found()), 4)

    def test_no_speech_was_recognised(self) -> None:
        self.ask(1, 300, "said")
        self.write(Kind.TOLD)
        self.ask(2, 300, "said")
        hanging = "device 1: question 2 (said) was neither answered nor refused"
        self.assertEqual(self.found(Rules(dropped=True)), [hanging])
        self.assertEqual(len(self.found()), 2)

    def test_some_devices(self) -> None:
        self.write(Kind.STOPPED, device=1)
        self.write(Kind.STOPPED, device=2)
        (fault,) = self.ledger.faults(devices=[2])
        self.assertEqual(fault.partition(":")[0], "device 2")
