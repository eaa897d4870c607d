"""The part of a dialogue that a model gets."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Literal
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from xiaozhi.agents.settings import DialogueSettings
from xiaozhi.ai.memory.exchanges import cost
from xiaozhi.ai.memory.selected import SelectedMemory
from xiaozhi.ai.memory.summary import SummaryMemory, cut
from xiaozhi.ai.memory.window import NoMemory, WindowMemory
from xiaozhi.base import usage
from xiaozhi.base.errors import ProviderError
from xiaozhi.base.values import Delta, Role, Summary, TextDelta, ToolSpec, Utterance
from xiaozhi.interfaces import ILanguageModel, IMemory
from xiaozhi.languages.scripts import tokens
from xiaozhi.languages.texts import text
from xiaozhi.testing.contracts.memory import MemoryContract, answered, asked, entries, exchange
from xiaozhi.testing.logs import LogLines


class NoMemoryTests(MemoryContract, SynchronousTestCase):
    def memory(self, settings: DialogueSettings) -> IMemory:
        return NoMemory()

    def test_each_question_by_itself(self) -> None:
        memory = NoMemory()
        memory.note(entries(asked("I am Ann."), answered("Hello Ann.")), "en")
        self.assertEqual(memory.before([asked("Who am I?")]).said, ())


class WindowTests(MemoryContract, SynchronousTestCase):
    def memory(self, settings: DialogueSettings) -> IMemory:
        return WindowMemory(settings)

    def test_as_much_as_fits(self) -> None:
        memory = WindowMemory(DialogueSettings(window=100))
        turn = [asked("x" * 40), answered("y" * 40)]
        self.assertEqual(sum(map(cost, turn)), 28)
        for _ in range(9):
            memory.note(entries(*turn), "en")
        self.assertEqual(memory.before([asked("z" * 40)]).said, (*turn, *turn, *turn))
        self.assertEqual(memory.before([asked("z" * 100)]).said, (*turn, *turn))
        self.assertEqual(memory.before([asked("z" * 1000)]).said, ())

    def test_no_more_entries_than_configured(self) -> None:
        memory = WindowMemory(DialogueSettings(entries=9))
        for _ in range(9):
            memory.note(entries(*exchange("time?")), "en")
        self.assertEqual(memory.before([asked("?")]).said, (*exchange("time?"),) * 2)
        self.assertEqual(memory.before([asked("?")] * 2).said, (*exchange("time?"),))

    def test_recalled_entries_precede_noted_ones(self) -> None:
        memory = WindowMemory(DialogueSettings())
        memory.note(entries(asked("2"), answered("two")), "en")
        memory.recall(entries(asked("1"), answered("one")), None)
        told = [each.text for each in memory.before([asked("3")]).said]
        self.assertEqual(told, ["1", "one", "2", "two"])


@implementer(ILanguageModel)
class Writer:
    """A summariser with scripted answers.

    :ivar asked: the texts to summarise.
    :ivar answers: each a text, an error, or a Deferred.
    """

    def __init__(self) -> None:
        self.asked: list[list[Utterance]] = []
        self.answers: list[str | Exception | Deferred[str]] = []
        self.ended = 0

    async def reply(
        self, dialogue: Sequence[Utterance], tools: Sequence[ToolSpec]
    ) -> AsyncGenerator[Delta, None]:
        self.asked.append(list(dialogue))
        answer = self.answers.pop(0) if self.answers else f"summary {len(self.asked)}"
        usage.tokens(100, 10)
        try:
            if isinstance(answer, Exception):
                raise answer
            yield TextDelta(await answer if isinstance(answer, Deferred) else answer)
        finally:
            self.ended += 1

    def close(self) -> Deferred[None]:
        return succeed(None)


class SummaryTests(MemoryContract, SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.model = Writer()
        self.summaries: list[tuple[str, UUID]] = []
        self.log = LogLines(self)

    def memory(self, settings: DialogueSettings) -> IMemory:
        return SummaryMemory(settings, self.model, self.clock, "s1", self._keep)

    def _keep(self, words: str, upto: UUID) -> None:
        self.summaries.append((words, upto))

    def small(self, *, recalled: bool = True, **settings: Any) -> IMemory:
        memory = self.memory(DialogueSettings(window=100, memory="summary", **settings))
        if recalled:
            memory.recall([], None)
        return memory

    def turns(self, memory: IMemory, first: int, last: int) -> list[UUID]:
        """Make turns of 20 tokens each."""
        ids = []
        for number in range(first, last):
            turn = entries(asked(f"question {number}".ljust(24, ".")), answered("y" * 24))
            ids += [entry.id for entry in turn]
            memory.note(turn, "en")
        return ids

    def told(self, memory: IMemory) -> list[str]:
        return [each.text[:10] for each in memory.before([]).said if each.role is Role.USER]

    def test_dropped_entries_are_summarised(self) -> None:
        memory = self.small()
        ids = self.turns(memory, 0, 5)
        self.assertEqual((self.model.asked, memory.before([]).summary), ([], ""))
        ids += self.turns(memory, 5, 6)
        [(system, talk)] = self.model.asked
        self.assertIn("at most 200 words", system.text)
        self.assertIn("question 0", talk.text)
        self.assertIn("question 3", talk.text)
        self.assertNotIn("question 4", talk.text)
        self.assertEqual(memory.before([]).summary, "summary 1")
        self.assertEqual(self.told(memory), ["question 4", "question 5"])
        self.assertEqual(self.summaries, [("summary 1", ids[7])])
        self.turns(memory, 6, 10)
        self.assertTrue(self.model.asked[1][1].text.startswith("summary 1\n"))
        self.assertEqual(memory.before([]).summary, "summary 2")

    def test_not_before_the_dialogue_is_recalled(self) -> None:
        """Otherwise the summary would replace entries that are recalled later."""
        memory = self.small(recalled=False)
        self.turns(memory, 1, 8)
        self.assertEqual(self.model.asked, [])
        memory.recall(entries(asked("question 0"), answered("y")), None)
        self.turns(memory, 8, 9)
        self.assertIn("question 0", self.model.asked[0][1].text)

    def test_not_after_the_end(self) -> None:
        memory = self.small()
        self.turns(memory, 0, 5)
        memory.close()
        self.turns(memory, 5, 8)
        self.assertEqual(self.model.asked, [])

    def test_no_answer_waits_for_it(self) -> None:
        answer: Deferred[str] = Deferred()
        self.model.answers = [answer]
        memory = self.small()
        self.turns(memory, 0, 8)
        self.assertEqual(len(self.model.asked), 1, "one at a time")
        self.assertEqual(self.told(memory), [f"question {n}" for n in (3, 4, 5, 6, 7)])
        self.assertEqual(memory.before([]).summary, "")
        answer.callback("They <think>hm</think>talked.\n")
        self.assertEqual(memory.before([]).summary, "They talked.")
        self.assertEqual(self.told(memory), [f"question {n}" for n in (4, 5, 6, 7)])

    def test_it_has_its_time(self) -> None:
        self.model.answers = [Deferred()]
        memory = self.small(summary_timeout=9)
        self.turns(memory, 0, 6)
        self.clock.advance(8.9)
        self.assertEqual(self.model.ended, 0)
        self.clock.advance(0.2)
        self.assertEqual(self.model.ended, 1)
        self.assertEqual(self.told(memory), [f"question {n}" for n in (1, 2, 3, 4, 5)])
        self.turns(memory, 6, 7)
        self.assertEqual(memory.before([]).summary, "summary 2")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_failure_keeps_the_window_and_is_logged_once(self) -> None:
        error = ProviderError("down", "down", retryable=True)
        self.model.answers = [error, "", error, ZeroDivisionError("bug")]
        memory = self.small()
        self.turns(memory, 0, 9)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.log.count("not summarised"), 1)
        self.assertEqual(memory.before([]).summary, "")
        self.assertEqual(len(self.told(memory)), 5)
        self.turns(memory, 9, 10)
        self.assertEqual(memory.before([]).summary, "summary 5")
        self.assertIn("question 1.", self.model.asked[-1][1].text)

    def test_the_end_of_the_session_ends_it(self) -> None:
        self.model.answers = [Deferred()]
        memory = self.small()
        self.turns(memory, 0, 6)
        memory.close()
        self.assertEqual((self.model.ended, self.summaries), (1, []))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_later_session_continues_it(self) -> None:
        """Summarised entries are not repeated."""
        memory = self.small()
        talk = entries(*(said for n in range(4) for said in (asked(f"q{n}"), answered("yes"))))
        note = Summary("So far.", talk[3].id)
        memory.recall(talk, note)
        found = memory.before([])
        self.assertEqual(found.summary, "So far.")
        self.assertEqual([each.text for each in found.said], ["q2", "yes", "q3", "yes"])

    def test_a_summary_of_dropped_entries(self) -> None:
        memory = self.small()
        talk = entries(asked("q"), answered("yes"))
        note = Summary("So far.", UUID(int=5))
        memory.recall(talk, note)
        self.assertEqual((memory.before([]).summary, len(memory.before([]).said)), ("So far.", 2))

    def test_in_the_spoken_language_and_within_the_limit(self) -> None:
        self.model.answers = ["他喜欢面包" * 100]
        memory = self.small(summary=20)
        for _ in range(5):
            memory.note(entries(asked("我喜欢面包" * 3), answered("好的")), "zh")
        task = self.model.asked[0][0].text
        self.assertEqual(task, text("summary_task", "zh").format(words=13))
        self.assertLessEqual(tokens(memory.before([]).summary), 21)
        self.assertTrue(memory.before([]).summary.startswith("他喜欢面包"))

    def test_is_no_part_of_the_turn_that_has_ended(self) -> None:
        """Its tokens do not count for the turn."""
        spent: list[int] = []

        class Bill:
            def by(self, kind: str, provider: str, model: str) -> None:
                spent.append(0)

            def used(self, tokens_in: int, tokens_out: int) -> None:
                spent.append(tokens_in)

        memory = self.small()
        with usage.noting(Bill()):
            usage.tokens(1, 1)
            self.turns(memory, 0, 6)
        self.assertEqual((len(self.model.asked), spent), (1, [1]))

    @given(st.text(), st.integers(1, 50))
    def test_cutting(self, words: str, most: int) -> None:
        found = cut(words, most)
        self.assertLessEqual(tokens(found), most + 1)
        self.assertTrue(words.startswith(found.removesuffix("…")))


class SelectedTests(MemoryContract, SynchronousTestCase):
    def setUp(self) -> None:
        self.model = Writer()
        self.summaries: list[str] = []

    def memory(self, settings: DialogueSettings) -> IMemory:
        return SelectedMemory(settings, self.model, Clock(), "s1", self._keep)

    def _keep(self, words: str, upto: UUID) -> None:
        self.summaries.append(words)

    def selected(self, kind: Literal["none", "window", "summary"]) -> DialogueSettings:
        return DialogueSettings(memory=kind, window=100)

    def words(self, memory: IMemory) -> tuple[str, ...]:
        return tuple(each.text.strip(".") for each in memory.before([]).said)

    def turns(self, memory: IMemory, *numbers: int) -> None:
        """Note turns of 40 tokens each."""
        for number in numbers:
            memory.note(entries(asked(f"{number}".ljust(80, ".")), answered("y" * 80)), "en")

    def test_by_its_name(self) -> None:
        for kind, turns, summaries in (("none", 0, 0), ("window", 2, 0), ("summary", 1, 1)):
            memory = self.memory(self.selected(kind))  # type: ignore[arg-type]
            memory.recall([], None)
            self.turns(memory, 1, 2, 3)
            self.assertEqual(
                (len(self.words(memory)) // 2, len(self.summaries)), (turns, summaries)
            )

    def test_another_kind_continues_with_what_is_kept(self) -> None:
        memory = self.memory(self.selected("window"))
        memory.recall(entries(asked("0"), answered("zero")), None)
        memory.note(entries(asked("1"), answered("one")), "en")
        for kind in ("summary", "window"):
            memory.adopt(self.model, self.selected(kind))
            self.assertEqual(self.words(memory), ("0", "zero", "1", "one"))
        memory.adopt(self.model, self.selected("none"))
        self.assertEqual(self.words(memory), ())

    def test_before_the_dialogue_is_recalled(self) -> None:
        memory = self.memory(self.selected("window"))
        memory.note(entries(asked("1"), answered("one")), "en")
        memory.adopt(self.model, self.selected("summary"))
        memory.recall(entries(asked("0"), answered("zero")), None)
        self.assertEqual(self.words(memory), ("0", "zero", "1", "one"))

    def test_a_summary_outlasts_another_kind(self) -> None:
        memory = self.memory(self.selected("summary"))
        memory.recall([], None)
        self.turns(memory, 1, 2, 3)
        self.assertEqual(memory.before([]).summary, "summary 1")
        memory.adopt(self.model, self.selected("none"))
        self.assertEqual(memory.before([]).summary, "")
        memory.adopt(self.model, self.selected("summary"))
        self.assertEqual(memory.before([]).summary, "summary 1")

    def test_a_summary_under_way_ends_with_its_kind(self) -> None:
        writing: Deferred[str] = Deferred()
        self.model.answers.append(writing)
        memory = self.memory(self.selected("summary"))
        memory.recall([], None)
        self.turns(memory, 1, 2, 3)
        memory.adopt(self.model, self.selected("window"))
        self.assertEqual((self.model.ended, self.summaries), (1, []))
