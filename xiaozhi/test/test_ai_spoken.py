"""What of a model's text is spoken."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.ai.speaking.markup import CodeFilter, plain
from xiaozhi.ai.speaking.spoken import SpokenText
from xiaozhi.ai.texts import CATALOGUES

# What must never be heard, as models write it.
CONSTRUCTS = [
    "```python\nprint('x')\n```",
    "*laughs softly*",
    "（微笑）",
    "[happy]",
    "<break time='1s'/>",
    "https://www.example.org/a?b=c#d",
    "[text](https://a.example/b.html)",
    "**bold**",
    "\n## Title\n",
    "\n- item\n",
    "\n| a | b |\n|---|---|\n| c | d |\n",
    "`code`",
    "(^_^)",
    "~~gone~~",
    "\n---\n",
]
PROSE = ["Hello there. ", "你好。", "Na gut, ", "3.5 km ", "それは、", "Được ", "a < b "]
PROSE += ["(about 3 km) ", "5 * 3 "]
MARKS = ["`", "**", "##", "|", "](", "http", "<break", "laughs", "微笑", "happy", "print", "~~"]
MOODS = ["[happy]", "<happy>", "（开心）", "【高兴】", "emotion: happy,", '{"emotion": "happy"}']


def spoken(text: str, step: int = 1) -> list[str]:
    words = SpokenText()
    sentences = []
    for at in range(0, len(text), step):
        sentences += words.feed(text[at : at + step])
    return sentences + words.finish()


class PlainTests(SynchronousTestCase):
    """One sentence."""

    def check(self, sentence: str, words: str) -> None:
        self.assertEqual(plain(sentence), words)

    def test_emphasis(self) -> None:
        self.check("**Hello** there, *my* ***dear*** __old__ _pal_", "Hello there, my dear old pal")
        self.check("~~no~~ `yes`", "no yes")

    def test_what_only_looks_like_emphasis(self) -> None:
        for sentence in ("2 * 3 * 4 = 24", "2**3", "snake_case_name", "5*3 and 4*2", "a __ b"):
            self.check(sentence, sentence)

    def test_halves_of_emphasis(self) -> None:
        self.check("**Bold one.", "Bold one.")
        self.check("Bold two.**", "Bold two.")
        self.check("*laughs.", "😆")

    def test_lines(self) -> None:
        self.check("## A title", "A title")
        self.check("- one", "one")
        self.check("> > - quoted", "quoted")
        self.check("1. Wash hands.", "1. Wash hands.")
        self.check("---", "")
        self.check("* * *", "")
        self.check("| Name | Age |", "Name, Age")
        self.check("|------|:---:|", "")

    def test_links(self) -> None:
        self.check("See [the docs](https://a.example/b) now.", "See the docs now.")
        self.check("![A cat](http://a/b.png) sits.", "A cat sits.")
        self.check("As said.[^1]", "As said.")
        self.check("Really](https://x.org/a.html) now.", "Really now.")
        self.check("See [the docs.", "See the docs.")
        self.check("Really.]", "Really.")

    def test_addresses(self) -> None:
        self.check("See https://www.example.org/a?b=c.", "See example.org.")
        self.check("See <http://a.example:80/>, or b.", "See a.example, or b.")
        self.check("看https://a.example/b。", "看a.example。")
        self.check("me@example.org and example.org", "me@example.org and example.org")

    def test_tags(self) -> None:
        self.check("<speak>Hello <break time='1s'/>you</speak>", "Hello you")
        self.check("a < b and c > d", "a < b and c > d")
        self.check("x<!-- no -->y", "xy")

    def test_moods(self) -> None:
        for tag in MOODS:
            self.check(f"{tag} Hi.", "🙂 Hi.")
        self.check("I am (happy) now.", "I am (happy) now.")
        self.check("emotion: none", "emotion: none")

    def test_directions(self) -> None:
        for acted in ("*laughs softly*", "(laughs)", "[giggling]", "*Kichert leise.*"):
            self.check(f"Ha {acted} ha.", "Ha 😆 ha.")
        self.check("（微笑）好的。", "🙂好的。")
        self.check("好（叹了口气）吧", "好😔吧")
        self.check("*nods* Yes", "Yes")

    def test_signs_of_an_answer_that_was_cut(self) -> None:
        """They stand in the dialogue, and models write what they read."""
        for catalogue in CATALOGUES.values():
            self.check(f"Well … {catalogue['interrupted']}", "Well …")
            self.check(catalogue["unheard"], "")

    def test_what_is_said_in_brackets(self) -> None:
        for sentence in (
            "The price (about 3 km) is.",
            "（北京）很大",
            "《笑话集》（笑话很多）",
            "It (the smiling man of the town) came.",
            "[sic]",
        ):
            self.check(sentence, sentence)

    def test_faces(self) -> None:
        self.check("Ok (^_^) hi :) there ;-) T_T", "Ok hi there")
        self.check("(T) is a type: (x) too", "(T) is a type: (x) too")

    def test_formulas(self) -> None:
        self.check("$$x^2$$ and \\(a+b\\)", "x^2 and a+b")
        self.check("It is $5 or $6.", "It is $5 or $6.")

    def test_quick(self) -> None:
        """A sentence is bounded; no rule may take long over one that nearly fits."""
        for part in (
            "*",
            "[",
            "(",
            "<",
            "|",
            "_",
            "`",
            "*a",
            "[a](",
            "<a ",
            "# ",
            "$a",
            "https://a.",
        ):
            sentence = (part * 200)[:400]
            began = time.process_time()
            plain(sentence)
            # Far above what it takes: only what explodes is caught.
            self.assertLess(time.process_time() - began, 1.0, part)


class CodeFilterTests(SynchronousTestCase):
    def test_blocks_end_a_sentence(self) -> None:
        self.assertEqual(spoken("Use ```x.y = 'z. z'``` then run it"), ["Use", "then run it"])

    def test_unfinished_block(self) -> None:
        self.assertEqual(spoken("Use\n```python\nprint(1)"), ["Use"])

    def test_single_ticks_pass(self) -> None:
        code = CodeFilter()
        self.assertEqual(code.feed("a `b` ``c``") + code.finish(), "a `b` ``c``")


class SpokenTextTests(SynchronousTestCase):
    """Pieces of a text."""

    def test_first_clause_is_early(self) -> None:
        words = SpokenText()
        self.assertEqual(words.feed("Well, that is so, and"), ["Well, that is so,"])

    def test_no_cut_within_a_direction(self) -> None:
        self.assertEqual(spoken("*laughs softly, then nods* Well."), ["😆 Well."])

    @given(
        st.lists(st.sampled_from(CONSTRUCTS + PROSE), max_size=12).map("".join), st.integers(1, 30)
    )
    def test_pieces_do_not_matter(self, text: str, step: int) -> None:
        self.assertEqual(spoken(text, step), spoken(text, max(1, len(text))))

    @given(
        st.lists(st.sampled_from(CONSTRUCTS), max_size=6),
        st.lists(st.sampled_from(PROSE), max_size=6),
    )
    def test_no_markup_is_spoken(self, constructs: list[str], prose: list[str]) -> None:
        text = " ".join(a + " " + b for a, b in zip(constructs, prose, strict=False))
        said = " ".join(spoken(text))
        for mark in MARKS:
            self.assertNotIn(mark, said)

    @given(st.lists(st.sampled_from(PROSE), max_size=12).map("".join), st.integers(1, 30))
    def test_prose_passes(self, text: str, step: int) -> None:
        self.assertEqual("".join("".join(spoken(text, step)).split()), "".join(text.split()))

    @given(st.text(max_size=200), st.integers(1, 30))
    def test_any_text(self, text: str, step: int) -> None:
        self.assertEqual(spoken(text, step), spoken(text, max(1, len(text))))
