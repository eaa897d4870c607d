"""Recognition of a plain yes, with lists of words.

A yes may open a door, so the whole utterance must consist of listed phrases; one more word and it
is not a yes. So negations and conditions need no lists of their own.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from xiaozhi.languages.scripts import HAN, KANA, LATIN, script_of

#: Phrases that say yes, by language. Left out is what can also mean no, begin a sentence or
#: fill a pause: "fine", "嗯", "好了", "要", "いいです", "そうですね", "괜찮아요", "passt".
YES: Final[dict[str, str]] = {
    "en": "yes, yeah, yep, yup, yea, aye, sure, sure thing, ok, okay, all right, alright,"
    " of course, certainly, absolutely, definitely, affirmative, agreed, go ahead, go for it,"
    " do it, do that, do this, do so, please do, just do it, do it now, proceed, confirm,"
    " confirmed, i confirm, correct, that is correct, that's correct, that's right,"
    " that is right, yes it is, yes i do, yes i am, i am sure, i'm sure, sounds good,"
    " by all means, you may, yes you can, make it so",
    "zh": "好, 好的, 好啊, 好呀, 好吧, 好哦, 好嘞, 那好, 那好吧, 那行, 可以, 可以的, 可以啊,"
    " 可以呀, 是, 是的, 是啊, 对, 对的, 对啊, 对呀, 行, 行的, 行啊, 行吧, 没问题, 没有问题,"
    " 同意, 我同意, 确认, 我确认, 确定, 我确定, 当然, 当然可以, 要的, 做吧, 去做吧, 去吧,"
    " 开始吧, 执行, 执行吧, 就这么办, 就这样做",
    "zh-hant": "好喔, 好唷, 對, 對的, 對啊, 對呀, 沒問題, 沒有問題, 確認, 我確認, 確定, 我確定,"
    " 當然, 當然可以, 開始吧, 執行, 執行吧, 就這麼辦, 就這樣做",
    "ja": "はい, ハイ, うん, いいよ, いいですよ, いいとも, もちろん, もちろんです, お願い,"
    " お願いします, おねがい, おねがいします, 頼む, 頼みます, どうぞ, やって, やってください,"
    " やって下さい, やってくれ, そうして, そうしてください, そうして下さい, 実行, 実行して,"
    " 実行してください, 実行して下さい, 進めて, 進めてください, 進めて下さい, 了解, 了解です,"
    " オーケー, オッケー, かまいません, 構いません",
    "ko": "네, 예, 응, 그래, 그래요, 그렇게 해, 그렇게 해 줘, 그렇게 해 주세요, 그렇게 하세요,"
    " 그럼요, 좋아, 좋아요, 좋습니다, 맞아, 맞아요, 맞습니다, 물론, 물론이지, 물론이죠,"
    " 물론입니다, 당연하지, 당연하죠, 해 줘, 해 주세요, 하세요, 진행해, 진행해 줘,"
    " 진행해 주세요, 실행해, 실행해 줘, 실행해 주세요, 오케이",
    "de": "ja, jawohl, jep, jap, jo, klar, na klar, ja klar, natürlich, selbstverständlich,"
    " sicher, gern, gerne, sehr gern, sehr gerne, ok, okay, in ordnung, einverstanden, mach,"
    " mach das, mach es, mach's, mach mal, mach das mal, machen sie das, tu das, tu es, genau,"
    " richtig, das ist richtig, stimmt, auf jeden fall, unbedingt, bestätigt, ich bestätige,"
    " nur zu, leg los",
    "fr": "oui, ouais, bien sûr, d'accord, vas-y, allez-y, fais-le, faites-le, fais ça,"
    " faites ça, volontiers, certainement, absolument, tout à fait, exactement, entendu,"
    " très bien, ça marche, je confirme, confirmé, avec plaisir, je veux bien, ok",
    "es": "sí, claro, claro que sí, por supuesto, vale, de acuerdo, está bien, adelante, hazlo,"
    " hágalo, dale, confirmo, confirmado, desde luego, correcto, exacto, afirmativo, así es, ok,"
    " okey",
}

#: Phrases that may accompany a yes and are not one by themselves.
COURTESIES: Final[dict[str, str]] = {
    "en": "please, thanks, thank you, thank you very much, then, oh, now, right now",
    "zh": "请, 谢谢, 谢谢你, 谢谢您, 麻烦, 麻烦你, 麻烦你了, 麻烦您, 麻烦您了, 嗯, 啊",
    "zh-hant": "請, 謝謝, 謝謝你, 謝謝您, 麻煩, 麻煩你, 麻煩你了, 麻煩您, 麻煩您了",
    "ja": "ええ, ああ, じゃあ, ありがとう, ありがとうございます, よろしくお願いします, すぐに",
    "ko": "고마워, 고마워요, 고맙습니다, 감사합니다, 부탁해, 부탁해요, 부탁합니다, 지금",
    "de": "bitte, danke, bitte schön, danke schön, vielen dank",
    "fr": "s'il te plaît, s'il vous plaît, merci, merci beaucoup, alors, ah",
    "es": "por favor, gracias, muchas gracias, pues, ah",
}

# Characters; a longer text is not a plain yes.
_LENGTH = 80
_APOSTROPHES = str.maketrans("", "", "'’‘ʼ`´")
_HYPHENS = "-\u2010\u2011"

Tokens = tuple[str, ...]


def is_yes(utterance: str) -> bool:
    """Return whether an utterance says yes and nothing else, in any language of the lists.

    Case, punctuation, accents of Latin letters and courtesies make no difference; a question
    mark does.
    """
    plain = unicodedata.normalize("NFKC", utterance[: _LENGTH + 1]).casefold()
    if len(plain) > _LENGTH or not all(map(_is_usual, plain)):
        return False
    clauses = [*_clauses(plain.translate(_APOSTROPHES))]
    # Laughter in Spanish, and in German said by somebody who does not mean it.
    if ("ja", "ja") in pairwise(token for clause in clauses for token in clause):
        return False
    readings = [_readings(clause) for clause in clauses]
    return all(readings) and any(True in reading for reading in readings)


def _is_usual(char: str) -> bool:
    """Whether a character may stand in a plain yes: no question mark, symbol or control."""
    return char not in "?¿؟" and unicodedata.category(char)[0] in "LMNPZ"


def _clauses(plain: str) -> Iterator[Tokens]:
    """Split words by punctuation: no phrase reaches across it."""
    tokens: list[str] = []
    word = ""
    for char in f"{plain}.":
        script = script_of(char)
        alone = script in (KANA, HAN) or (script is not None and "ko" in script.languages)
        if char.isalnum() and not alone:
            word += unicodedata.normalize("NFD", char)[0] if script is LATIN else char
            continue
        if word:
            tokens.append(word)
            word = ""
        if alone:
            # These scripts have no spaces between words, or not everybody sets them.
            tokens.append(char)
        elif not char.isspace() and char not in _HYPHENS:
            if tokens:
                yield tuple(tokens)
            tokens = []


def _readings(clause: Tokens) -> set[bool]:
    """Return how the clause can be read as phrases of the lists, one after the other.

    :return: True: with a yes among them; False: courtesies alone; empty: not at all.
    """
    reached: list[set[bool]] = [set() for _ in range(len(clause) + 1)]
    reached[0].add(False)
    for at, before in enumerate(reached):
        for phrase, affirms in _PHRASES.get(clause[at], ()) if before and at < len(clause) else ():
            end = at + len(phrase)
            if clause[at:end] == phrase:
                reached[end] |= {affirms or earlier for earlier in before}
    return reached[-1]


def _phrases() -> dict[str, list[tuple[Tokens, bool]]]:
    found: dict[str, list[tuple[Tokens, bool]]] = {}
    for lists, affirms in ((YES, True), (COURTESIES, False)):
        for line in lists.values():
            for phrase in line.translate(_APOSTROPHES).split(","):
                (tokens,) = _clauses(phrase)
                found.setdefault(tokens[0], []).append((tokens, affirms))
    return found


# By first token.
_PHRASES: Final = _phrases()
