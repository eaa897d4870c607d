"""Conversion of a model's text to spoken text."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.ai.speech import directions
from xiaozhi.ai.speech.blocks import BlockFilter
from xiaozhi.ai.speech.emotion import take_emotion
from xiaozhi.ai.speech.markup import plain
from xiaozhi.ai.speech.spoken import SpokenText
from xiaozhi.languages.texts import CATALOGUES

# Notation of models that must never be spoken.
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

# Notation, and the spoken sentences, joined by " / ".
NOTATION = (
    # Symbols.
    ("⏰ 7点 ⏳ ▶ 播放 ↗ ℹ️ 信息", "7点 播放 信息"),
    ("Press ▶ to play → now ➜ ⮕ ⤴", "Press to play now"),
    ("✓ done ✔ ☑ ☐ ✗ ★★★ ● ■ ◆ ☎ ⌘ ⏎ ▁▂▃ ░▒▓ ⠋", "done"),
    ("┌──┐ box │x│", "box x"),
    ("1️⃣ first 2⃣ second", "1 first 2 second"),
    ("👨‍👩‍👧 family 🇩🇪 👍🏽 ⚠️ ❤️ 🆗", "family"),
    ("foo→bar", "foo bar"),
    ("晴☀️转多云", "晴转多云"),
    ("Great 🎉! Yes ✅.", "Great! / Yes."),
    ("\u200bzero\ufeff wi\u00addth \ue000", "zero width"),
    ("©2024 Foo® Bar™", "2024 Foo Bar"),
    ("二○二四年", "二○二四年"),
    ("𝐁𝐨𝐥𝐝", "Bold"),
    (":smile: at 10:30:15", "at 10:30:15"),
    ("a -> b => c <- d --> e", "a b c d e"),
    # Citations.
    ("foo[1] bar[2][3].", "foo bar."),
    ("foo[1]bar [2]baz[3](https://a.example)end 好[4]的", "foo bar baz end 好的"),
    ("Noon [1, 2] [4-6] [^7] [^8^] [[9]].", "Noon."),
    ("据报道[1]，今天【1†source】下雨【3:0†a.pdf】【2】。", "据报道，今天下雨。"),
    ("说明[来源1]和[citation:3][citation:4]。", "说明和。"),
    ("Yes <sup>[1]</sup> <ref>2</ref>[1](https://a.example) note^[foot].", "Yes note."),
    ("Text\n\n[1]: https://a.example \"T\"\n[ref]: <b.html>", "Text"),
    ("\ue200cite\ue202turn0search0\ue201Yes.", "Yes."),
    ("a[0] = [2024] in [0,1]", "a[0] = [2024] in [0,1]"),
    # HTML.
    ("foo<br>bar<br/>baz", "foo / bar / baz"),
    ("第一<br />第二", "第一 / 第二"),
    ("<p>Hallo</p><p>Welt</p>", "Hallo / Welt"),
    ("<b>fo</b>o <custom>a</custom>b", "foo a b"),
    ("<ul><li>one</li><li>two</li></ul>", "one / two"),
    ("<table><tr><td>a</td><td>b</td></tr></table>", "a, b"),
    ("x<sup>2</sup> H<sub>2</sub>O", "x² H2O"),
    ("<!-- not. this -->shown<script>no()</script>", "shown"),
    ("&nbsp;a &amp; b &#39;q&#39; &#x4e2d; &lt;3 &amp;lt;", "a & b 'q' 中 <"),
    ("AT&T; R&D & more", "AT&T; R&D & more"),
    # Markdown.
    ("~~~py\nx=1\n~~~\nafter", "after"),
    ("Use\n```\n~~~\n```\nthen", "Use / then"),
    ("- [x] done\n- [ ] todo\n1. [X] one", "done / todo / 1. one"),
    ("#标题\n##小标题\n# Title\n### End ###", "标题 / 小标题 / Title / End"),
    ("C# and F# are #1 in #rain. 用C#写 #话题#好", "C# and F# are #1 in rain. / 用C#写 话题好"),
    ("[![alt](a.png)](http://x.example)", "alt"),
    ("[a [b] c](http://x.example/z(1) \"T\") d", "a [b] c d"),
    ("See [text][ref] and <https://a.example/x>.", "See text and a.example."),
    ("![图](data:image/png;base64,iVBORw0KGgo=)看", "图看"),
    ("data:image/png;base64," + "iVBORw0KGgo" * 60 + " end", "end"),
    ("iVBORw0KGgo" * 60 + " end", "end"),
    ("see https://www.example.org/" + "a1/" * 200 + " end", "see example.org end"),
    ("| a | b |\n|---|---|\n| c | d |", "a, b / c, d"),
    ("a | b\n---|---\nc | d", "a, b / c, d"),
    ("[[wiki]] [[page|label]] ![[img]]", "wiki label img"),
    ("＃标题\n::: tip\nx\n:::", "标题 / x"),
    ("> quote\n>more", "quote / more"),
    ("***\n* * *\n_ _ _\n---", ""),
    ("> [!NOTE]\n> Mind.\n[TOC]", "Mind."),
    ("==mark== H~2~O x^2^", "mark H2O x²"),
    ("text \\*a\\* x\\_y 1\\.", "text a x_y 1."),
    # TeX.
    ("\\frac{1}{2} and $\\frac{a+b}{2}$ and \\dfrac12", "1/2 and (a+b)/2 and 1/2"),
    ("$x^2 + y_1$ \\( a \\times b \\) $2x$", "x² + y1 a × b 2x"),
    ("\\[ E = mc^2 \\]", "E = mc²"),
    ("$$\\sqrt{2} \\approx 1.41$$", "√2 ≈ 1.41"),
    ("\\alpha \\leq 90^\\circ \\text{km} \\boxed{42}", "α ≤ 90° km 42"),
    ("\\begin{aligned}a&=b\\\\c&=d\\end{aligned}", "a =b c =d"),
    ("\\frac{\\sqrt{2}}{3} \\vec{a}\\cdot\\vec{b}", "√2/3 a× b"),
    ("\\sum_{i=1}^{n} i", "∑ i=1 ⁿ i"),
    ("10^{-3} 2^10 50\\% 5\\,km", "10⁻³ 2¹⁰ 50% 5 km"),
    # Lookalikes of notation.
    ("It is $5 or $6, from $5 to 10$.", "It is $5 or $6, / from $5 to 10$."),
    ("5 > 3, 2 < 3, a <= b >= c != d", "5 > 3, 2 < 3, / a <= b >= c != d"),
    ("a_b snake_case 50% 5~6个 A & B", "a_b snake_case 50% 5~6个 A & B"),
    ("1. FC Köln wins.", "1. FC Köln wins."),
    ("x² m³ 20℃ ±5 5×3 ÷ ½ ① Ⅳ №5 ㎡", "x² m³ 20℃ ±5 5×3 ÷ ½ ① Ⅳ №5 ㎡"),
    ("《书》「引用」【新闻】～你好～", "《书》「引用」【新闻】～你好～"),
    ("奥巴马·约翰 C++ 1/2 10:30 a-b x=1", "奥巴马·约翰 C++ 1/2 10:30 a-b x=1"),
)  # fmt: skip


def heard(text: str, step: int = 1) -> str:
    """Return the spoken sentences, joined by " / "."""
    said = (" ".join(take_emotion(sentence)[0].split()) for sentence in spoken(text, step))
    return " / ".join(words for words in said if any(char.isalnum() for char in words))


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

    def test_emphasis_lookalikes(self) -> None:
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
        """The dialogue contains them, and models repeat what they read."""
        for catalogue in CATALOGUES.values():
            self.check(f"Well … {catalogue['interrupted']}", "Well …")
            self.check(catalogue["unheard"], "")
        longest = "interrupted " * 5
        self.patch(directions, "_SIGNS", frozenset([longest]))
        self.check(f"Well … [{longest}]", "Well …")

    def test_brackets(self) -> None:
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
        self.check("$$x^2$$ and \\(a+b\\)", "x² and a+b")
        self.check("It is $5 or $6.", "It is $5 or $6.")

    def test_quick(self) -> None:
        """Sentences are bounded; no rule may take long on a text that almost matches."""
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
            "\\frac{",
            "\\a{",
            "&amp;",
            "[1",
            "[[",
            "](",
            "![",
            "【1†",
            "^{",
            "aA1",
            "~a",
            "==a",
            "<sup>",
            "- [",
            "$1 ",
        ):
            sentence = (part * 400)[:800]
            began = time.process_time()
            plain(sentence)
            # Far above the usual time, to catch exponential time only.
            self.assertLess(time.process_time() - began, 1.0, part)


class NotationTests(SynchronousTestCase):
    """Markdown, HTML, TeX, citations and symbols."""

    def test_spoken_text(self) -> None:
        for text, words in NOTATION:
            for step in (1, 7, len(text)):
                self.assertEqual(heard(text, step), words, text)

    def test_no_symbol_is_spoken(self) -> None:
        """Symbols that a synthesiser would read by their Unicode names."""
        for begin, end in (
            (0x2190, 0x2200),
            (0x2500, 0x2776),
            (0x2B00, 0x2C00),
            (0x1F000, 0x1FC00),
        ):
            for code in range(begin, end):
                if chr(code) != "○":
                    self.assertEqual(heard(f"好{chr(code)}吧"), "好吧", hex(code))

    @given(
        st.lists(st.sampled_from([text for text, _ in NOTATION]), max_size=4).map("\n".join),
        st.integers(1, 30),
    )
    def test_pieces_do_not_matter(self, text: str, step: int) -> None:
        self.assertEqual(heard(text, step), heard(text, max(1, len(text))))

    @given(st.text(alphabet="`~<>!-&#;/abrxdivp 1\n=([$\\{^", max_size=80), st.integers(1, 9))
    def test_any_text(self, text: str, step: int) -> None:
        self.assertEqual(heard(text, step), heard(text, max(1, len(text))))


class BlockFilterTests(SynchronousTestCase):
    def test_blocks_end_a_sentence(self) -> None:
        self.assertEqual(spoken("Use ```x.y = 'z. z'``` then run it"), ["Use", "then run it"])

    def test_unfinished_block(self) -> None:
        self.assertEqual(spoken("Use\n```python\nprint(1)"), ["Use"])

    def test_single_ticks_pass(self) -> None:
        code = BlockFilter()
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
