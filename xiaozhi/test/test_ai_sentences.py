"""Tokens → sentences."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.ai.emotion import emoji_of, take_emotion
from xiaozhi.ai.sentences import SentenceSplitter
from xiaozhi.wire.messages import EMOTIONS


def split(text: str, step: int = 1) -> list[str]:
    splitter = SentenceSplitter()
    sentences = []
    for at in range(0, len(text), step):
        sentences += splitter.feed(text[at : at + step])
    return sentences + splitter.flush()


class SentenceSplitterTests(SynchronousTestCase):
    def check(self, text: str, *sentences: str) -> None:
        for step in (1, 3, len(text)):
            self.assertEqual(split(text, step), list(sentences), f"in steps of {step}")

    def test_english(self) -> None:
        self.check("It is noon. Time to eat! Or not?", "It is noon.", "Time to eat!", "Or not?")

    def test_chinese(self) -> None:
        self.check("现在是中午。该吃饭了！好吗？", "现在是中午。", "该吃饭了！", "好吗？")

    def test_first_clause_goes_early(self) -> None:
        self.check(
            "Well, let me think about it, and then, perhaps, we go.",
            "Well, let me think about it,",
            "and then, perhaps, we go.",
        )
        self.check(
            "今天的天气很好，我们出去走走，好吗。", "今天的天气很好，", "我们出去走走，好吗。"
        )

    def test_numbers_stay_whole(self) -> None:
        self.check("Pi is 3.14, roughly. Yes.", "Pi is 3.14, roughly.", "Yes.")
        self.check(
            "That is about 1,000 metres at 12:30 sharp.",
            "That is about 1,000 metres at 12:30 sharp.",
        )

    def test_abbreviations_stay_whole(self) -> None:
        self.check("Ask Dr. Li, e.g. today.", "Ask Dr. Li, e.g. today.")

    def test_addresses_stay_whole(self) -> None:
        self.check("See example.org now.", "See example.org now.")

    def test_closing_quotes_stay(self) -> None:
        self.check("“去吧。”他说。", "“去吧。”", "他说。")

    def test_ellipses(self) -> None:
        self.check("Hm... Yes.", "Hm...", "Yes.")

    def test_endless_text_is_cut_on_a_space(self) -> None:
        sentences = split("word " * 100)
        self.assertGreater(len(sentences), 1)
        self.assertTrue(all(len(sentence) <= 200 for sentence in sentences))

    def test_a_long_text_at_once_is_cut_as_in_pieces(self) -> None:
        """What is looked at for a cut does not grow with the text: some models
        give all of it at once."""
        text = "word " * 50 + "end. Go on."
        self.check(text, "word " * 39 + "word", "word " * 10 + "end.", "Go on.")

    @given(st.text(alphabet="ab .,!?。，1\n", max_size=300), st.integers(1, 20))
    def test_nothing_is_lost(self, text: str, step: int) -> None:
        said = "".join("".join(split(text, step)).split())
        self.assertEqual(said, "".join(text.split()))


class EmotionTests(SynchronousTestCase):
    def test_taken_out(self) -> None:
        self.assertEqual(take_emotion("😂 Ha! 👍🏽"), (" Ha! ", "funny"))
        self.assertEqual(take_emotion("plain 文字 é"), ("plain 文字 é", ""))

    def test_every_emotion_has_a_face_and_back(self) -> None:
        for emotion in EMOTIONS:
            self.assertEqual(take_emotion(emoji_of(emotion)), ("", emotion))
        self.assertEqual(emoji_of("bored"), "")
