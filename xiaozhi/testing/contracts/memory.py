"""Contract of every :class:`~xiaozhi.interfaces.IMemory`, as tests."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from xiaozhi.agents.settings import DialogueSettings
from xiaozhi.ai.memory.exchanges import cost, whole
from xiaozhi.base.values import DialogueEntry, Role, ToolCall, Utterance
from xiaozhi.interfaces import IMemory

if TYPE_CHECKING:
    from twisted.trial.unittest import SynchronousTestCase as TestCase
else:
    TestCase = object

AT = datetime(2026, 11, 26, 10, 0, tzinfo=UTC)
CALL = ToolCall("c1", "get_time", "{}")
_numbers = count(1)


def asked(words: str) -> Utterance:
    return Utterance(Role.USER, words)


def answered(words: str) -> Utterance:
    return Utterance(Role.ASSISTANT, words)


def entries(*said: Utterance) -> list[DialogueEntry]:
    """Make entries as sessions record them."""
    return [DialogueEntry(UUID(int=next(_numbers)), "d", AT, each) for each in said]


def exchange(words: str) -> list[Utterance]:
    """Make a turn with a tool."""
    called = Utterance(Role.ASSISTANT, "", (CALL,))
    result = Utterance(Role.TOOL, "noon", call_id=CALL.call_id)
    return [asked(words), called, result, answered("It is noon.")]


_words = st.text("ab 中", max_size=200)
_turns = st.lists(
    st.one_of(
        st.builds(exchange, _words),
        st.tuples(_words.map(asked), _words.map(answered)).map(list),
        _words.map(lambda words: [asked(words)]),
        _words.map(lambda words: [answered(words)]),
    ),
    max_size=12,
)


class MemoryContract(TestCase):
    """Mix into a ``SynchronousTestCase`` that makes memories."""

    def memory(self, settings: DialogueSettings) -> IMemory:
        """Make an empty memory."""
        raise NotImplementedError

    def test_provides_the_interface(self) -> None:
        verifyObject(IMemory, self.memory(DialogueSettings()))

    def test_nothing_said_before(self) -> None:
        memory = self.memory(DialogueSettings())
        self.assertEqual(memory.before([asked("hello")]).said, ())
        memory.recall([], None)
        memory.note([], "en")
        self.assertEqual(memory.before([]).said, ())
        memory.close()

    def test_model_input_within_bounds(self) -> None:
        """It begins with the person's words, has whole exchanges, is the end of the dialogue, and
        never exceeds the bounds, including the running turn.
        """

        @given(_turns, st.integers(0, 12), _words, st.integers(100, 300), st.integers(2, 12))
        def check(
            turns: list[list[Utterance]], recalled: int, words: str, window: int, most: int
        ) -> None:
            memory = self.memory(DialogueSettings(window=window, entries=most))
            memory.recall(entries(*(each for turn in turns[:recalled] for each in turn)), None)
            for turn in turns[recalled:]:
                memory.note(entries(*turn), "en")
            every = [each for turn in turns for each in turn]
            running = [asked(words)]
            said = list(memory.before(running).said)
            memory.close()
            self.assertEqual(whole(said), said)
            if said:
                self.assertIs(said[0].role, Role.USER)
                self.assertLessEqual(sum(map(cost, [*said, *running])), window)
                self.assertLessEqual(len(said) + len(running), most)
                self.assertEqual(every[-len(said) :], said)

        check()

    def test_a_long_talk_costs_no_more(self) -> None:
        """The memory does not grow with the dialogue."""
        memory = self.memory(DialogueSettings(window=200))
        sizes = []
        for number in range(300):
            memory.note(entries(*exchange(f"number {number}")), "en")
            sizes.append(len(memory.kept()))
        memory.close()
        self.assertEqual(max(sizes[:100]), max(sizes))
