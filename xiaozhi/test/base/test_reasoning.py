"""Removal of reasoning from an answer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.base.modeltext.reasoning import ThoughtFilter


def said(*pieces: str, begun: bool = False) -> str:
    thoughts = ThoughtFilter(begun=begun)
    return "".join(map(thoughts.feed, pieces)) + thoughts.finish()


class ThoughtFilterTests(SynchronousTestCase):
    """:class:`ThoughtFilter`."""

    def test_thoughts_are_dropped(self) -> None:
        self.assertEqual(said("<think>well\n</think>\n\nYes."), "Yes.")
        self.assertEqual(said("A <think>b</think>c <think>d</think>e"), "A c e")

    def test_other_names_and_case(self) -> None:
        for name in ("thinking", "THINK", "Thought", "reasoning"):
            self.assertEqual(said(f"<{name}>a</{name}> b"), "b")

    def test_thought_within_a_thought(self) -> None:
        self.assertEqual(said("<think>a <think>b</think> c</think>d"), "d")

    def test_closing_mark_alone(self) -> None:
        """Some templates put the opening tag into the prompt."""
        self.assertEqual(said("a</think>\nb"), "a b")

    def test_a_thought_that_has_begun(self) -> None:
        self.assertEqual(said("well\n</think>\n\nYes.", begun=True), "Yes.")
        self.assertEqual(said("a </think>b <think>c</think>d", begun=True), "b d")
        # A server that sends the tag all the same.
        self.assertEqual(said(" <think>well</think>Yes.", begun=True), "Yes.")
        self.assertEqual(said("a <think>b</think> c</think>d", begun=True), "d")

    def test_unfinished_thought(self) -> None:
        self.assertEqual(said("Hm. <think>but what if"), "Hm. ")

    def test_tag_lookalikes_are_text(self) -> None:
        self.assertEqual(said("a <thi", "rd b <"), "a <third b <")

    def test_plain_text_is_not_held_back(self) -> None:
        for text in ("Hello <b>", "Hello <b ", "a < b", "a <5"):
            self.assertEqual(ThoughtFilter().feed(text), text)

    @given(
        st.lists(
            st.sampled_from(["<think>", "</think>", "</Thinking>", "<", "thi", " ", "ok", "\n"])
        ),
        st.data(),
        st.booleans(),
    )
    def test_pieces_do_not_matter(self, parts: list[str], data: st.DataObject, begun: bool) -> None:
        text = "".join(parts)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        self.assertEqual(said(*pieces, begun=begun), said(text, begun=begun))
