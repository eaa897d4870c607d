"""Recognition of an explicit yes to a question about a risky action."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xiaozhi.languages.affirmation import COURTESIES, YES, is_yes
from xiaozhi.languages.texts import TEXTS

PLAIN = """
yes | Yes. | YES! | yes please | Yes, please. | please, yes | do it | ok go ahead | OK, go ahead!
Okay | okay then | That’s right. | thats right | yeah, sure | Yes... | yes yes | “Yes”
Yes – do it
Do it, please, thank you | just do it | I'm sure | of course | ｙｅｓ
好的 | 好的。 | 好，谢谢 | 可以 | 可以的，谢谢你 | 是的 | 对对对 | 没问题 | 嗯，好的 | 请执行 | 行
那好吧 | 当然可以！
對 | 沒問題，謝謝 | 好喔 | はい | はい。 | はい、お願いします | うん | うんうん | どうぞ
実行してください | ﾊｲ、はい | もちろんです
네 | 네, 부탁합니다 | 네네 | 예 | 그렇게 해주세요 | 응 | 좋아요! | 지금 해 줘
ja | Ja! | ja bitte | Ja, gerne. | na klar | Mach das. | In Ordnung, danke. | natürlich
naturlich
oui | Oui, s'il te plaît. | oui s’il vous plait | d'accord | vas-y | Vas y ! | bien sûr | bien sur
sí | Si. | sí, por favor | ¡Claro que sí! | vale, gracias | de acuerdo | hazlo | hagalo
"""

OTHER = """
no | No. | nope | no thanks | yes but not now | yes and no | yes, no | no yes | ok no | not yet
don't
don't do it | do it not | please don't do it | yes, but later | yes if it is safe | yes? | OK?
really
please | thank you | thanks | then |  | . | … | hmm | uh huh | yes what | yes I said no
yesterday | sure not
do | it | go | what time is it | yes open the window | no, do it | do not do it | yes 👎
yes + no | oh
不要 | 别 | 不行 | 不 | 不好 | 不可以 | 不是 | 不是的 | 不对 | 对不起 | 好吗 | 好不好 | 是吗
是不是 | 好的吗？ | 嗯 | 嗯？
好了 | 行了 | 算了 | 可以不 | 好像 | 要是 | 要 | 等一下 | 好的，等一下 | 好，别 | 先别 | 谢谢 | 没
有问题 | 還是不要 | 好的？
いいえ | いや | ううん | うーん | う〜ん | う、ん | えええ | ええと | ええ | いいです | 結構です
やめて | はい？ | はい、でも | いい | やらないで
아니 | 아니요 | 안 돼 | 하지 마 | 괜찮아요 | 네? | 해 주지 마 | 됐어 | 네 아니요 | 감사합니다
안 해 줘
nein | nein danke | danke | bitte | bitte nicht | ja nein | jein | ja, aber | ja ja | Ja, ja!
ja ja ja | mach das nicht
non | oui mais non | merci | pas maintenant | non merci | ne fais pas ça | peut-être | c'est bon
no gracias | gracias | claro que no | sí pero no | quizás | ja, ja, ja | ahora no | ¿sí? | si no
nunca
"""


def rows(text: str) -> list[str]:
    return [each.strip() for line in text.strip().splitlines() for each in line.split("|")]


class AffirmationTests(SynchronousTestCase):
    def test_a_plain_yes(self) -> None:
        self.assertEqual([words for words in rows(PLAIN) if not is_yes(words)], [])

    def test_anything_else(self) -> None:
        self.assertEqual([words for words in rows(OTHER) if is_yes(words)], [])

    def test_every_catalogue_has_lists(self) -> None:
        for lists in (YES, COURTESIES):
            self.assertEqual(set(lists), set(TEXTS.languages))

    def test_every_phrase_of_the_lists(self) -> None:
        for lists, affirms in ((YES, True), (COURTESIES, False)):
            for line in lists.values():
                for phrase in line.split(","):
                    self.assertIs(is_yes(phrase), affirms, phrase)

    def test_long_utterances(self) -> None:
        self.assertTrue(is_yes("yes " * 20))
        self.assertFalse(is_yes("yes " * 21))
        self.assertFalse(is_yes("yes" + " " * 100_000 + "no"))
        # One character of it becomes eighteen.
        self.assertFalse(is_yes("\ufdfa" * 80))

    @given(st.text(max_size=90))
    def test_any_text(self, words: str) -> None:
        is_yes(words)
        self.assertFalse(is_yes(f"{words} not"))
        self.assertFalse(is_yes(f"不{words}"))
