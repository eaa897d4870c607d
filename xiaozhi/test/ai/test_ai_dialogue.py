"""A device's dialogue: the model's input, and the recorded part of an answer."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.agents.settings import DialogueSettings, SessionSettings
from xiaozhi.ai.memory.dialogue import Dialogue
from xiaozhi.ai.memory.history import History
from xiaozhi.ai.memory.pending import Cut, PendingAnswer, joined
from xiaozhi.ai.speech.playback import PlaybackMap, Played, beginning
from xiaozhi.base.values import Role, Utterance
from xiaozhi.languages.scripts import is_word_border
from xiaozhi.test.ai.test_ai_history import CALL, HistoryCase
from xiaozhi.testing.parts import make_dialogue

QUESTION = Utterance(Role.USER, "what time is it")


class DialogueCase(HistoryCase):
    turn = 0

    def dialogue(self, history: History, **settings: Any) -> Dialogue:
        session = SessionSettings(dialogue=DialogueSettings(**settings))
        return make_dialogue(history, self.clock, self.seconds, session)

    def recall(self, dialogue: Dialogue) -> None:
        self.successResultOf(Deferred.fromCoroutine(dialogue.recall()))

    def told(self, dialogue: Dialogue) -> list[str]:
        return [entry.text for entry in dialogue.entries()[1:]]

    def ask(self, dialogue: Dialogue, words: str, language: str = "en") -> PendingAnswer:
        self.turn += 1
        return dialogue.asked(words, self.turn, language)

    def exchange(self, dialogue: Dialogue, words: str, *answers: str) -> None:
        """Make a question with its answer."""
        pending = self.ask(dialogue, words)
        for answer in answers:
            pending.said(answer)
        dialogue.answered(pending)


class DialogueTests(DialogueCase):
    def test_continues_where_another_session_ended(self) -> None:
        history = self.history()
        before = self.dialogue(history)
        pending = self.ask(before, "light on")
        pending.said("", (CALL,))
        pending.tool_said(CALL, "on")
        pending.said("It is on.")
        running = before.entries()
        before.answered(pending)
        self.assertEqual(before.entries(), running)
        after = self.dialogue(history)
        self.recall(after)
        self.ask(after, "and off")
        self.assertEqual(after.entries()[1:-1], before.entries()[1:])
        self.assertEqual(self.told(after)[-1], "and off")

    def test_late_entries_go_in_front(self) -> None:
        load: Deferred[None] = Deferred()
        history = self.history()
        self.heard(history, "before")
        self.store.loads = [load]
        dialogue = self.dialogue(history)
        recalling = Deferred.fromCoroutine(dialogue.recall())
        self.exchange(dialogue, "now", "yes")
        self.ask(dialogue, "and now")
        self.assertEqual(self.told(dialogue), ["now", "yes", "and now"])
        self.assertFalse(dialogue.recalled.is_open)
        load.callback(None)
        self.successResultOf(recalling)
        self.assertEqual(self.told(dialogue), ["before", "now", "yes", "and now"])
        self.assertTrue(dialogue.recalled.is_open)

    def test_a_question_asked_again_after_a_cut_turn_is_one(self) -> None:
        history = self.history()
        self.heard(history, "what time is it")
        early, late = self.dialogue(history), self.dialogue(history)
        pending = self.ask(early, "what time is it")
        self.recall(early)
        self.recall(late)
        other = self.ask(late, "what time is it")
        for dialogue, asked in ((early, pending), (late, other)):
            self.assertEqual(self.told(dialogue), ["what time is it"])
            asked.said("Noon.")
            dialogue.answered(asked)
            self.ask(dialogue, "what time is it")
            self.assertEqual(len(self.told(dialogue)), 3, "after an answer it is a new one")

    def test_killed_in_the_middle_of_an_answer(self) -> None:
        """The question is recorded at once; the answer is lost."""
        history = self.history()
        before = self.dialogue(history)
        pending = self.ask(before, "what time is it")
        pending.said("Let me look.", (CALL,))
        after = self.dialogue(history)
        self.recall(after)
        self.ask(after, "what time is it")
        self.assertEqual(after.entries()[1:], [QUESTION])
        self.assertEqual(self.kept(), ["what time is it"])

    def test_killed_between_a_call_and_its_result(self) -> None:
        history = self.history()
        for said in (QUESTION, Utterance(Role.ASSISTANT, "Let me look.", (CALL,))):
            history.note("d", said)
        after = self.dialogue(history)
        self.recall(after)
        self.assertEqual(after.entries()[1:], [QUESTION, Utterance(Role.ASSISTANT, "Let me look.")])

    def test_nothing_said_is_no_entry(self) -> None:
        dialogue = self.dialogue(self.history())
        self.exchange(dialogue, "hello", "")
        self.assertEqual(self.told(dialogue), ["hello"])

    def test_the_prompt_is_in_the_language_that_was_spoken(self) -> None:
        dialogue = self.dialogue(self.history(), prompt="{language} {weekday}", language="zh")
        self.assertEqual(dialogue.entries()[0].text, "中文 星期一")
        self.ask(dialogue, "hello", "en")
        self.assertEqual(dialogue.entries()[0].text, "English Monday")


class HeardTests(DialogueCase):
    """Interrupted answers."""

    def setUp(self) -> None:
        super().setUp()
        self.talk = self.dialogue(self.history())
        self.script = PlaybackMap()

    def speak(self, pending: PendingAnswer, *sentences: str, ms: int = 1000) -> None:
        for sentence in sentences:
            pending.spoke(sentence)
            self.script.begins(sentence, answer=True)
            self.script.sent(ms)
            self.script.ended()
        pending.said("**" + " ".join(sentences) + "** 😊")

    def cut(self, pending: PendingAnswer, ms: float, otherwise: str = "[unheard]") -> None:
        self.talk.cut(pending, Cut(self.script, ms, otherwise))

    def test_cut_at_the_edge_s_playback_report(self) -> None:
        pending = self.ask(self.talk, "tell me")
        self.speak(pending, "It is noon.", "The sun is high up.", "Birds sing.")
        self.cut(pending, 3000)
        self.assertEqual(self.kept(), ["tell me"])
        self.talk.played(1, 1500)
        heard = "It is noon. The sun … [interrupted]"
        self.assertEqual(self.told(self.talk), ["tell me", heard])
        self.assertEqual(self.kept(), ["tell me", heard])
        self.talk.played(1, 2500)
        self.assertEqual(self.told(self.talk), ["tell me", heard])

    def test_the_edge_may_say_so_first(self) -> None:
        pending = self.ask(self.talk, "tell me")
        self.speak(pending, "It is noon.", "Good.")
        self.talk.played(1, 1000)
        self.cut(pending, 0)
        self.assertEqual(self.told(self.talk)[-1], "It is noon. … [interrupted]")

    def test_without_a_report_of_the_edge_our_clock_counts(self) -> None:
        pending = self.ask(self.talk, "tell me")
        self.speak(pending, "It is noon.", "Good.")
        self.cut(pending, 1000)
        self.clock.advance(0.29)
        self.assertEqual(self.kept(), ["tell me"])
        self.clock.advance(0.02)
        self.assertEqual(self.kept(), ["tell me", "It is noon. … [interrupted]"])

    def test_the_next_question_is_noted_behind_it(self) -> None:
        first = self.ask(self.talk, "tell me")
        self.speak(first, "It is noon.")
        self.cut(first, 0)
        second = self.ask(self.talk, "stop")
        self.assertEqual(self.kept(), ["tell me"])
        self.assertFalse(self.talk.settled.is_open)
        self.talk.played(1, 700)
        self.assertTrue(self.talk.settled.is_open)
        self.assertEqual(self.kept(), ["tell me", "It is … [interrupted]", "stop"])
        second.said("All right.")
        self.talk.answered(second)
        self.assertEqual(self.kept()[-1], "All right.")
        self.assertEqual(self.told(self.talk), self.kept())

    def test_nothing_heard(self) -> None:
        pending = self.ask(self.talk, "tell me")
        self.speak(pending, "It is noon.")
        self.cut(pending, 0)
        self.talk.played(1, 0)
        self.assertEqual(self.told(self.talk), ["tell me", "[unheard]"])

    def test_all_of_it_heard(self) -> None:
        """Cut in the silence after it."""
        pending = self.ask(self.talk, "tell me")
        self.speak(pending, "It is noon.")
        self.cut(pending, 1000)
        self.talk.played(1, 1000)
        self.assertEqual(self.told(self.talk)[-1], "**It is noon.** 😊")

    def test_tool_calls_stay_in_the_dialogue(self) -> None:
        """Calls keep their results, however much was heard of the words around them."""
        for ms, expected in (
            (300, ["Let … [interrupted]", "noon", "[interrupted]"]),
            (1000, ["**Let me look.** 😊", "noon", "[interrupted]"]),
            (1500, ["**Let me look.** 😊", "noon", "It is … [interrupted]"]),
            (2000, ["**Let me look.** 😊", "noon", "**It is noon.** 😊"]),
        ):
            pending = PendingAnswer(1, QUESTION, "en")
            self.script = PlaybackMap()
            self.speak(pending, "Let me look.")
            pending._lines[-1] = type(pending._lines[-1])(
                Utterance(Role.ASSISTANT, "**Let me look.** 😊", (CALL,)), ("Let me look.",)
            )
            pending.tool_said(CALL, "noon")
            self.speak(pending, "It is noon.")
            pending.settle(self.script.heard(ms), "[unheard]")
            self.assertEqual([each.text for each in pending.answer], expected, ms)
            self.assertEqual(pending.answer[0].calls, (CALL,))

    def test_announcements_are_not_part_of_it(self) -> None:
        self.script.begins("One moment, let me look.", answer=False)
        self.script.sent(1000)
        self.script.ended()
        pending = self.ask(self.talk, "tell me")
        self.speak(pending, "It is noon.")
        self.cut(pending, 0)
        self.talk.played(1, 1700)
        self.assertEqual(self.told(self.talk)[-1], "It is … [interrupted]")

    def test_a_question_without_an_answer_stays_open_at_the_end(self) -> None:
        """It is asked again where the session resumes."""
        pending = self.ask(self.talk, "tell me")
        self.speak(pending, "It is noon.")
        self.cut(pending, 0)
        self.talk.close()
        self.assertEqual(self.kept(), ["tell me"])

    def test_the_end_does_not_wait_for_the_edge(self) -> None:
        pending = self.ask(self.talk, "tell me")
        self.speak(pending, "It is noon.")
        self.cut(pending, 700)
        self.talk.close()
        self.assertEqual(self.kept(), ["tell me", "It is … [interrupted]"])

    def test_in_the_language_of_the_answer(self) -> None:
        pending = self.ask(self.talk, "几点了", "zh")
        self.speak(pending, "现在是中午十二点。")
        self.cut(pending, 0)
        self.talk.played(1, 500)
        self.assertEqual(self.told(self.talk)[-1], "现在是中 … [被打断]")


class ScriptTests(SynchronousTestCase):
    def test_a_sentence_without_its_end(self) -> None:
        """Its duration is unknown, so the estimate of heard words is low."""
        script = PlaybackMap()
        script.begins("one two three four five six seven eight", answer=True)
        script.sent(200)
        self.assertEqual(script.heard(200), Played(0, "one"))
        self.assertEqual(script.heard(0), Played(0, ""))

    def test_a_sentence_that_broke_off(self) -> None:
        """The sound of the apology after it does not count."""
        for sent, heard in ((0, ""), (200, "one")):
            script = PlaybackMap()
            script.begins("one two three four five six seven eight", answer=True)
            script.sent(sent)
            script.begins("I am sorry.", answer=False)
            script.sent(3000)
            script.ended()
            self.assertEqual(script.heard(sent + 3000), Played(0, heard))

    @given(
        st.lists(
            st.tuples(st.text(min_size=1), st.integers(0, 3000), st.booleans(), st.booleans()),
            max_size=5,
        ),
        st.integers(-10, 20_000),
    )
    def test_never_more_than_was_played(
        self, sentences: list[tuple[str, int, bool, bool]], played: int
    ) -> None:
        script = PlaybackMap()
        spans = []
        for words, ms, answer, ended in sentences:
            start = script.sent_ms
            script.begins(words, answer=answer)
            script.sent(ms)
            if ended:
                script.ended()
            if answer:
                spans.append((words, start, start + ms))
        heard = script.heard(played)
        self.assertTrue(all(played >= end for _, _, end in spans[: heard.whole]))
        if heard.part:
            words, start, end = spans[heard.whole]
            self.assertTrue(words.startswith(heard.part))
            self.assertLessEqual(len(heard.part) * (end - start), len(words) * (played - start))

    @given(st.text(), st.floats(0, 1))
    def test_cut_where_a_word_ends(self, words: str, share: float) -> None:
        heard = beginning(words, share)
        self.assertTrue(words.startswith(heard))
        self.assertTrue(is_word_border(words, len(heard)))
        self.assertLessEqual(len(heard), len(words) * share)

    def test_a_question_behind_a_reply(self) -> None:
        for heard, shown in (
            (None, "It rains. Shall I?"),
            (Played(1, "Shall"), "It rains. Shall … [interrupted]"),
            (Played(0, "It"), "It … [interrupted]"),
        ):
            pending = PendingAnswer(1, QUESTION, "en")
            pending.spoke("It rains.")
            pending.said("It rains.")
            pending.asked("Shall I?")
            pending.settle(heard)
            self.assertEqual([each.text for each in pending.answer], [shown])

    @given(
        # Only sentences with a letter are spoken.
        st.lists(st.lists(st.text("ab ").filter(str.strip), min_size=1, max_size=3), max_size=3),
        st.integers(0, 9),
        st.text("ab", max_size=2),
    )
    def test_heard_words_are_a_prefix_of_the_answer(
        self, replies: list[list[str]], whole: int, part: str
    ) -> None:
        every = [sentence for reply in replies for sentence in reply]
        if whole < len(every) and not every[whole].startswith(part):
            part = ""
        pending = PendingAnswer(1, QUESTION, "en")
        for reply in replies:
            for sentence in reply:
                pending.spoke(sentence)
            pending.said(joined(reply))
        pending.settle(Played(min(whole, len(every)), part if whole < len(every) else ""))
        shown = " ".join(each.text for each in pending.answer)
        words = [w for w in shown.replace("… [interrupted]", "").split() if w != "[interrupted]"]
        said = " ".join(joined(reply) for reply in replies).split()
        for word, other in zip(words, said, strict=False):
            self.assertTrue(other.startswith(word), (words, said))
        self.assertLessEqual(len(words), len(said))
