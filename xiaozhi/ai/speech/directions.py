"""Mood tags and stage directions, which must not be spoken.

"[happy]" is a mood tag; "*laughs*" and "（微笑）" are stage directions. Both become the emoji
of the mood, which is never read aloud, or nothing.
"""

from __future__ import annotations

import re

from xiaozhi.ai.speech.emotion import emoji_of
from xiaozhi.languages.texts import CATALOGUES, text
from xiaozhi.wire.messages import EMOTIONS

# Other words for the 21 moods that devices can show.
_MOODS = {
    "平静 中性 普通 ruhig neutral 普通 bình thường": "neutral",
    "开心 高兴 快乐 愉快 喜悦 glad joy joyful cheerful excited 嬉しい froh fröhlich vui": "happy",
    "大笑 哈哈 laugh 爆笑": "laughing",
    "搞笑 好笑 有趣 amused lustig 面白い hài hước": "funny",
    "伤心 难过 悲伤 沮丧 sadness unhappy traurig 悲しい buồn": "sad",
    "生气 愤怒 气愤 anger furious wütend 怒り tức giận": "angry",
    "哭 哭泣 流泪 大哭 cry 泣く khóc": "crying",
    "爱 喜爱 喜欢 爱心 love verliebt 愛 yêu": "loving",
    "尴尬 害羞 脸红 不好意思 shy blush verlegen 照れ ngại": "embarrassed",
    "惊讶 吃惊 惊喜 surprise überrascht 驚き ngạc nhiên": "surprised",
    "震惊 害怕 shock fear schockiert sốc": "shocked",
    "思考 思索 想 think thoughtful nachdenklich 考え中 suy nghĩ": "thinking",
    "眨眼 wink 俏皮": "winking",
    "酷 耍酷": "cool",
    "放松 轻松 calm entspannt thư giãn": "relaxed",
    "美味 好吃 馋 yummy lecker 美味しい ngon": "delicious",
    "亲亲 飞吻 kiss kuss hôn": "kissy",
    "自信 confidence selbstbewusst 自信 tự tin": "confident",
    "困 困倦 瞌睡 tired müde 眠い buồn ngủ": "sleepy",
    "调皮 搞怪 淘气 playful albern tinh nghịch": "silly",
    "困惑 疑惑 迷茫 confusion verwirrt 困惑 bối rối": "confused",
}
_MOOD_OF = {word: mood for words, mood in _MOODS.items() for word in words.split()}
_MOOD_OF |= {mood: mood for mood in EMOTIONS}

# Stage directions by the mood they show; in English and German every form of the verb.
_ACTS = {
    "laughing": r"laugh\w*|giggl\w*|chuckl\w*|snicker\w*|lach(?:t|en|end)|kicher\w*|cười(?: lớn)?",
    "happy": r"smil(?:es?|ing)|grin(?:s|ning)?|beam(?:s|ing)|cheer(?:s|ing)|lächel\w*|grins(?:t|en)"
    r"|mỉm cười",
    "sad": r"sigh\w*|frown\w*|pout\w*|seufz\w*|thở dài",
    "crying": r"sob\w*|cries|crying|weep\w*|wein(?:t|en|end)|khóc",
    "winking": r"wink\w*|zwinker\w*|nháy mắt",
    "embarrassed": r"blush\w*|erröte\w*|đỏ mặt",
    "shocked": r"gasp\w*|gulp\w*",
    "sleepy": r"yawn\w*|gähn\w*|ngáp",
    "kissy": r"kiss(?:es|ing)|blows? a kiss|küss\w*",
    "thinking": r"thinks|thinking|ponder\w*|nachdenk\w*|denkt nach",
    "": r"nod\w*|shrug\w*|wav(?:es|ing)|bow(?:s|ing)|clap\w*|cough\w*|hum(?:s|ming)|whisper\w*"
    r"|paus(?:es?|ing)|sniff\w*|clears? (?:his|her|its|their|my)? ?throat|leans?(?: \w+)?"
    r"|tilts? (?:\w+ )?head|hug(?:s|ging)|nick(?:t|en)|winkt|räusper\w*|gật đầu|vẫy tay"
    r"|sings|singing|softly|gently|quietly|excitedly|cheerfully|playfully|warmly|leise",
}
_ACTS_WIDE = {
    "laughing": r"[大狂哈]笑|哈哈大?笑?|爆笑|笑出声",
    "happy": r"[微轻偷憨傻开]?心?地?笑(?:了笑|着|眯眯|嘻嘻|い)?|微笑む?|にっこり|ニコニコ|咧嘴笑",
    "funny": r"(?:笑)+",
    "sad": r"叹(?:了?一?口?)气|叹息|ため息|苦笑",
    "crying": r"[大哭]?哭(?:泣|了|着)?|流泪|泣く?",
    "winking": r"眨(?:了?眨)?眼睛?|ウインク",
    "embarrassed": r"脸红|害羞|照れ(?:る|笑い)?|汗",
    "thinking": r"思考(?:中|片刻)?|沉思|想了想|考え中",
    "sleepy": r"打(?:了个)?哈欠|あくび",
    "kissy": r"飞吻|亲亲",
    "": r"点(?:了点)?头|摇(?:了摇)?头|挥(?:了挥)?手|鼓掌|拍手|耸肩|停顿|清(?:了清)?嗓子?|歪头"
    r"|轻声|小声|うなずく|拍手する|手を振る",
}
_WIDE_MANNER = r"(?:轻轻|开心|高兴|温柔|害羞|俏皮|调皮|认真|慢慢|微微)?(?:地|的)?"
_ACT_OF = [(re.compile(pattern, re.I), mood) for mood, pattern in _ACTS.items()]
_WIDE_ACT_OF = [
    (re.compile(_WIDE_MANNER + f"(?:{pattern})"), mood) for mood, pattern in _ACTS_WIDE.items()
]
_FACE = re.compile(
    r"[\^_><;´｀`ω´дД▽∀°□•̀́ᴗ｡♥‿T・◕≧≦ﾟ\-.=~*\\/|oO0uUvVxX \u2500-\u25ff\u0300-\u036f]+"
)
# Markers in the dialogue for unheard words; models imitate them in their answers.
_SIGNS = frozenset(
    text(key, language).strip("[]") for language in CATALOGUES for key in ("interrupted", "unheard")
)
_FACE_SIGNS = frozenset("^><´｀ωдД▽∀°□•ᴗ｡♥‿・◕≧≦ﾟ;_")


def mood(words: str) -> str | None:
    """Return the emoji of the mood that a tag names; None if it names none."""
    found = _MOOD_OF.get(words.strip().casefold())
    return None if found is None else emoji_of(found)


def acted(words: str, *, words_at_most: int = 3) -> str | None:
    """Return the emoji of a stage direction, possibly empty; None if the text is none.

    :param words_at_most: limit for languages that separate words; longer texts are speech.
    """
    words = words.strip().strip("~～.。…!！")
    for pattern, shown in _WIDE_ACT_OF:
        if pattern.fullmatch(words):
            return emoji_of(shown)
    if len(words.split()) > words_at_most:
        return None
    for pattern, shown in _ACT_OF:
        found = pattern.match(words)
        if found and words[found.end() : found.end() + 1] in ("", " ", ","):
            return emoji_of(shown)
    return None


def in_brackets(words: str, *, tag: bool) -> str | None:
    """Return the emoji for a text in brackets, as :func:`acted`.

    :param tag: the brackets may also contain a mood tag.
    """
    if words in _SIGNS:
        return ""
    shown = acted(words)
    if shown is None and tag:
        shown = mood(words)
    if shown is None and _FACE.fullmatch(words) and _FACE_SIGNS & set(words):
        return ""
    return shown
