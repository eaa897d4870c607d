"""Splitting of a model's text into sentences."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.ai.speech.emotion import emoji_of, take_emotion
from xiaozhi.ai.speech.sentences import SentenceSplitter
from xiaozhi.wire.messages import EMOTIONS

PARTS = ["z. B. ", "Dr. Li ", "3.5", "... ", "……", "“", "”", "好。", "Hm", " ", "U.S. ", "!", "?!"]
TEXTS = st.one_of(
    st.text(alphabet="aBz3 .,!?。，…“”\"'*_(（）)1\n世é\u0301", max_size=120),
    st.lists(st.sampled_from(PARTS), max_size=30).map("".join),
)

# Each is one user-perceived character.
CHARACTERS = [
    "é",
    "e\u0301",
    "世",
    "👍🏽",
    "👨\u200d👩\u200d👧",
    "🇩🇪",
    "한",
    "\u1112\u1161\u11ab",
    "が",
]


def split(text: str, step: int = 1) -> list[str]:
    splitter = SentenceSplitter()
    sentences = []
    for at in range(0, len(text), step):
        sentences += splitter.feed(text[at : at + step])
    return sentences + splitter.flush()


class SentenceSplitterTests(SynchronousTestCase):
    def check(self, text: str, *sentences: str) -> None:
        for step in (1, 2, 3, 7, len(text)):
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

        self.check("Mail me@ex.org at 3 p.m. on time.", "Mail me@ex.org at 3 p.m. on time.")

    def test_abbreviations_at_the_end(self) -> None:
        self.check("He lives in D.C. He likes it.", "He lives in D.C.", "He likes it.")
        self.check("It was I. Done.", "It was I.", "Done.")
        self.check("We met in 2024. Then no more.", "We met in 2024.", "Then no more.")

    def test_german(self) -> None:
        self.check(
            "Das ist z. B. am 3. Oktober um 14.30 Uhr. Er kostet 1.000,50 Euro usw. Danach "
            "„Komm mit.“ Er ging. »Nein!«, sagte sie, d. h. ja.",
            "Das ist z. B. am 3. Oktober um 14.30 Uhr.",
            "Er kostet 1.000,50 Euro usw.",
            "Danach „Komm mit.“",
            "Er ging.",
            "»Nein!«, sagte sie, d. h. ja.",
        )

    def test_pages_that_follow(self) -> None:
        self.check(
            "Siehe S. 12 ff. und Abs. 3. Und S. 5 ff. Danach nichts.",
            "Siehe S. 12 ff. und Abs. 3. Und S. 5 ff.",
            "Danach nichts.",
        )

    def test_japanese(self) -> None:
        self.check(
            "「行こう。」と彼は言った。「うん！」そうだ…たぶん。",
            "「行こう。」と彼は言った。",
            "「うん！」",
            "そうだ…",
            "たぶん。",
        )

    def test_vietnamese(self) -> None:
        self.check(
            "Hôm nay trời đẹp quá, mình đi chơi nhé. TP. Hồ Chí Minh có 9,5 triệu dân. Được không?",
            "Hôm nay trời đẹp quá,",
            "mình đi chơi nhé.",
            "TP. Hồ Chí Minh có 9,5 triệu dân.",
            "Được không?",
        )

    def test_without_spaces(self) -> None:
        """Some models omit the spaces."""
        self.check("Hi!How are you?OK.好的。3.5版", "Hi!", "How are you?", "OK.", "好的。", "3.5版")

    def test_runs_of_signs(self) -> None:
        self.check("真的？！不会吧……嗯。", "真的？！", "不会吧……", "嗯。")

    def test_quotes(self) -> None:
        self.check('"Really?" he asked. "Yes." End', '"Really?" he asked.', '"Yes."', "End")
        self.check("他说：“你好。我走了。”然后走了", "他说：“你好。", "我走了。”", "然后走了")

    def test_emphasis_closes_behind_the_end(self) -> None:
        self.check("**Bold one.** More. 好。**粗**", "**Bold one.**", "More.", "好。", "**粗**")

    def test_addresses_stay_whole(self) -> None:
        self.check("See example.org now.", "See example.org now.")

    def test_closing_quotes_stay(self) -> None:
        self.check("“去吧。”他说。", "“去吧。”", "他说。")

    def test_ellipses(self) -> None:
        self.check("Hm... Yes.", "Hm...", "Yes.")
        self.check("Hm... well… maybe not.", "Hm... well… maybe not.")

    def test_unbreakable_units(self) -> None:
        """A cut within them would be audible as a pause."""
        for sentence in (
            "The U.S. Army came to the U.K. Parliament.",
            "He is 5 ft. 3 in. tall.",
            "Ph.D. students ask for Th.S. Lan.",
            "Im 19. Jh. war Dr. med. Müller geb. Meier dort.",
            "See no. 5 and fig. 3 please.",
            "From Monday–Friday we are open.",
            "It was on June 12, 2024.",
            "See https://a.example/q?Name=b.",
            "他住U.S.的一所大学。",
            "Mr.王来了。",
            "请选择正确的答案A、苹果 B、香蕉。",
            "你选哪个A.苹果 B.香蕉 C.橘子。",
            "第十一题是1、2、 3、都很难。",
            "“走吧！”，他说。",
            "「え？」って聞いた。",
            "「すごい！」が口癖だ。",
            "「ね？」なんて言う。",
        ):
            self.check(sentence, sentence)

    def test_ends_of_sentences(self) -> None:
        self.check("The answer is no. Next.", "The answer is no.", "Next.")
        self.check("Come in. Sit down.", "Come in.", "Sit down.")
        self.check("It was number 12, you know.", "It was number 12,", "you know.")
        self.check("我真的想跟你说——其实我不知道。", "我真的想跟你说——", "其实我不知道。")
        self.check("我用iPhone 15. OK.好的。", "我用iPhone 15. OK.", "好的。")
        self.check("वह घर गया। फिर आया।", "वह घर गया।", "फिर आया।")

    def test_endless_text_is_cut_on_a_space(self) -> None:
        sentences = split("word " * 100)
        self.assertGreater(len(sentences), 1)
        self.assertTrue(all(len(sentence) <= 200 for sentence in sentences))

    def test_a_long_text_at_once_is_cut_as_in_pieces(self) -> None:
        """The search for a cut does not grow with the text: some models send all of it at once."""
        text = "word " * 50 + "end. Go on."
        self.check(text, "word " * 39 + "word", "word " * 10 + "end.", "Go on.")

    @given(TEXTS, st.integers(1, 20))
    def test_pieces_do_not_matter(self, text: str, step: int) -> None:
        self.assertEqual(split(text, step), split(text, max(1, len(text))))

    @given(TEXTS, st.integers(1, 20))
    def test_nothing_is_lost(self, text: str, step: int) -> None:
        said = "".join("".join(split(text, step)).split())
        self.assertEqual(said, "".join(text.split()))

    @given(st.lists(st.sampled_from(CHARACTERS), min_size=200, max_size=400))
    def test_no_character_is_torn(self, characters: list[str]) -> None:
        """A text without a space or an end is cut between user-perceived characters, whatever their
        number of code points.
        """
        starts = {0}
        for character in characters:
            starts.add(max(starts) + len(character))
        at = 0
        for sentence in split("".join(characters), 5):
            self.assertIn(at, starts)
            at += len(sentence)

    def test_time_is_linear(self) -> None:
        """Each character is examined a bounded number of times, for any text."""
        for text in ("." * 40_000, "“" * 40_000, "a" * 40_000, " " * 40_000, "*" * 40_000):
            splitter = Counting()
            splitter.feed(text)
            for _ in range(1000):
                splitter.feed(text[:3])
            splitter.flush()
            self.assertLess(splitter.looks, 2 * (40_000 + 3000), text[:1])


class Counting(SentenceSplitter):
    """Counts how often a position is examined as the end of a sentence."""

    looks = 0

    def _end(self, start: int, at: int, length: int, over: bool) -> int | None:
        self.looks += 1
        return super()._end(start, at, length, over)


class EmotionTests(SynchronousTestCase):
    def test_taken_out(self) -> None:
        self.assertEqual(take_emotion("😂 Ha! 👍🏽"), (" Ha! ", "funny"))
        self.assertEqual(take_emotion("Great 🎉! I love it 👩‍👧 ."), ("Great! I love it  .", ""))
        self.assertEqual(take_emotion("plain 文字 é"), ("plain 文字 é", ""))

    def test_every_emotion_has_a_face_and_back(self) -> None:
        for emotion in EMOTIONS:
            self.assertEqual(take_emotion(emoji_of(emotion)), ("", emotion))
        self.assertEqual(emoji_of("bored"), "")
