"""The recogniser's grammar, made from the phrase book."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from xiaozhi.base.errors import ConfigError
from xiaozhi.providers.offline.intents.book import book, spoken_phrases
from xiaozhi.providers.offline.intents.grammar import jsgf, words
from xiaozhi.providers.offline.intents.numerals import JSGF_RULES
from xiaozhi.providers.offline.intents.phrases import Choice, Number, Part, Word, jsgf_body, parse


def one_way(parts: tuple[Part, ...], random: Random) -> str:
    """Return a sentence that the grammar allows."""
    said: list[str] = []
    for part in parts:
        if isinstance(part, Word):
            said.append(part.text)
        elif isinstance(part, Number):
            said.append(random.choice(("seven", "forty two", "a hundred", "twenty percent")))
        elif isinstance(part, Choice):
            said.append(one_way(random.choice(part.alternatives), random))
    return " ".join(filter(None, said))


class GrammarTests(SynchronousTestCase):
    """:func:`jsgf` and :func:`words`."""

    def test_of_any_words_there_is_no_grammar(self) -> None:
        self.assertRaises(ConfigError, jsgf_body, parse("be a <words>"))

    def test_is_whole(self) -> None:
        text = jsgf("en-US")
        self.assertTrue(text.startswith("#JSGF V1.0;"))
        defined = set(re.findall(r"^(?:public )?<(\w+)> =", text, re.MULTILINE))
        self.assertEqual(set(re.findall(r"<(\w+)>", text)), defined)
        for opening, closing in ("()", "[]"):
            self.assertEqual(text.count(opening), text.count(closing))
        self.assertNotIn("| |", text)

    def test_is_lower_case_words(self) -> None:
        self.assertTrue(all(re.fullmatch(r"[a-z']+", word) for word in words("en")))
        self.assertLessEqual({"volume", "what's", "thirty", "percent", "hundred"}, words("en"))
        self.assertNotIn("public", words("en"))

    def test_numbers_have_rules(self) -> None:
        for name in JSGF_RULES:
            self.assertIn(f"<{name}> = ", jsgf("en"))

    def test_no_model_for_chinese(self) -> None:
        error = self.assertRaises(ConfigError, jsgf, "zh-CN")
        self.assertIn("zh-CN", error.message)

    def test_everything_recognised_is_understood_as_meant(self) -> None:
        random = Random(7)
        for intent, phrases in spoken_phrases("en"):
            for phrase in phrases:
                for _ in range(5):
                    said = one_way(phrase, random)
                    match = book("en").match(said)
                    self.assertEqual(match and match.intent.id, intent, said)

    def test_choices_are_not_empty(self) -> None:
        for _, phrases in spoken_phrases("en"):
            for part in (part for phrase in phrases for part in phrase):
                if isinstance(part, Choice):
                    self.assertGreater(len(part.alternatives), 1)


class PocketsphinxTests(SynchronousTestCase):
    """The grammar in the recogniser itself."""

    def setUp(self) -> None:
        try:
            import pocketsphinx
        except ImportError:
            raise SkipTest("the offline extra is not installed") from None
        self.model = Path(pocketsphinx.get_model_path())
        self.jsgf = pocketsphinx.Jsgf

    def test_every_word_has_a_pronunciation(self) -> None:
        dictionary = self.model / "en-us" / "cmudict-en-us.dict"
        known = {line.split(" ", 1)[0] for line in dictionary.read_text().splitlines()}
        self.assertEqual(words("en") - known, frozenset())

    def test_is_accepted(self) -> None:
        path = Path(self.mktemp())
        path.write_text(jsgf("en"))
        grammar = self.jsgf(str(path))
        self.assertIsNotNone(grammar.get_rule("xiaozhi.utterance"))
