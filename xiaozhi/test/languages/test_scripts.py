"""Properties of letters: language, word borders, tokens."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.languages.graphemes import is_boundary
from xiaozhi.languages.scripts import SCRIPTS, is_word_border, language_of, script_of, tokens


class LanguageTests(SynchronousTestCase):
    def test_detected_by_script(self) -> None:
        for words, default, expected in (
            ("几点了 ok", "en", "zh"),
            ("what", "zh", "en"),
            ("12", "zh", "zh"),
            ("", "de", "de"),
            ("いま何時ですか", "en", "ja"),
            ("지금 몇 시야", "en", "ko"),
            ("который час", "en", "ru"),
            ("котра година", "uk-UA", "uk-UA"),
            ("quelle heure est-il", "fr", "fr"),
            ("幾點", "zh-TW", "zh-TW"),
            ("何時", "ja", "ja"),
            ("Please translate 你好 into English", "en", "en"),
            ("πόση ώρα", "en", "el"),
        ):
            self.assertEqual(language_of(words, default), expected, words)

    def test_blocks_do_not_overlap(self) -> None:
        blocks = sorted((block[0], block[1]) for script in SCRIPTS for block in script.blocks)
        for (_, last), (first, _) in itertools.pairwise(blocks):
            self.assertLess(last, first)
        self.assertIsNone(script_of("5"))
        self.assertIsNone(script_of("\U0001f600"))


class BorderTests(SynchronousTestCase):
    def borders(self, text: str) -> list[str]:
        cuts = [at for at in range(1, len(text)) if is_word_border(text, at)]
        return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]

    def test_where_words_end(self) -> None:
        for text, expected in (
            ("It's 3.5 km.", ["It's", " ", "3.5", " ", "km."]),
            ("现在三点。", ["现", "在", "三", "点", "。"]),
            ("用WiFi吧", ["用", "WiFi", "吧"]),
            ("안녕 하세요", ["안녕", " ", "하세요"]),
        ):
            self.assertEqual(self.borders(text), expected)

    @given(st.text(), st.integers(0, 50))
    def test_never_within_a_grapheme_cluster(self, text: str, at: int) -> None:
        if is_word_border(text, at):
            self.assertTrue(is_boundary(text, at))


class TokenTests(SynchronousTestCase):
    def test_about_right(self) -> None:
        """An English word is slightly more than one token, a Chinese character one."""
        for text, low, high in (
            ("The quick brown fox jumps over the lazy dog.", 10, 14),
            ("今天天气怎么样，要带伞吗", 10, 14),
            ("Сколько времени", 7, 12),
            ("今天天气怎么样？", 6, 10),
            ("Größe überall", 3, 6),
            ("\ud83d", 0, 2),
            ("", 0, 0),
            ("a", 1, 1),
        ):
            self.assertTrue(low <= tokens(text) <= high, f"{text}: {tokens(text)}")

    @given(st.text(st.characters(codec=None, categories=None)), st.text())
    def test_more_text_is_not_fewer(self, text: str, more: str) -> None:
        self.assertGreaterEqual(tokens(text + more), tokens(text))
        self.assertLessEqual(tokens(text), len(text) * 2)
