"""Texts in the language of the conversation."""

from __future__ import annotations

from string import Formatter

from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.im.language import texts as of_edge
from xiaozhi.languages import texts as of_ai
from xiaozhi.languages.catalogue import Catalogue, choose

CATALOGUES = (of_edge.TEXTS, of_ai.TEXTS)
LEAST = {"en", "zh", "zh-hant", "ja", "ko", "de", "fr", "es"}


class CatalogueTests(SynchronousTestCase):
    def test_choice(self) -> None:
        for language, chosen in (
            ("en", "en"),
            ("en-GB", "en"),
            ("EN_us", "en"),
            ("zh", "zh"),
            ("zh-CN", "zh"),
            ("zh-Hans-SG", "zh"),
            ("zh-TW", "zh-hant"),
            ("zh_Hant_HK", "zh-hant"),
            ("zh-hk", "zh-hant"),
            ("ja-JP", "ja"),
            ("xx", "en"),
            ("", "en"),
            ("-", "en"),
            (" zh ", "zh"),
            ("english", "en"),
        ):
            self.assertEqual(choose(language, LEAST), chosen, language)
        self.assertEqual(choose("zh-TW", ("en", "zh")), "zh")

    def test_a_key_must_be_in_each_language(self) -> None:
        for texts in ({"en": {"a": "A"}, "zh": {}}, {"en": {}, "zh": {"a": "A"}}):
            self.assertRaises(ValueError, Catalogue, texts)

    def test_each_language_says_something(self) -> None:
        for catalogue in CATALOGUES:
            self.assertLessEqual(LEAST, set(catalogue.languages))
            for language in catalogue.languages:
                for key in catalogue.keys:
                    own, english = catalogue.text(key, language), catalogue.text(key, "en")
                    self.assertTrue(own.strip(), (language, key))
                    # The same placeholders.
                    self.assertEqual(_fields(own), _fields(english), (language, key))

    def test_both_services_have_the_same_languages(self) -> None:
        edge, ai = (set(catalogue.languages) for catalogue in CATALOGUES)
        self.assertEqual(edge, ai)

    def test_alerts_fit_a_display(self) -> None:
        for catalogue in CATALOGUES:
            for language in catalogue.languages:
                for key in catalogue.keys:
                    if key.endswith(("_title", "_status")):
                        self.assertLess(len(catalogue.text(key, language)), 20)


def _fields(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}
