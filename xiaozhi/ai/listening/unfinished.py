"""Recognise interim texts that sound unfinished.

The last words decide in the languages of the lists, punctuation alone in others. The lists
contain only words that hardly ever end an utterance, because a needless wait would annoy more
often than an answer that comes slightly early.
"""

from __future__ import annotations

from typing import Final

# An utterance that ends with one of these words is not finished.
_GOING_ON: Final[dict[str, str]] = {
    "en": (
        "and or but because so if when while which who with without to of for from at by as than "
        "the a an my your our their is are was were be could would should will shall may might "
        "must um uh er erm hmm well like please into between very really um i'm i'd i'll let's"
    ),
    "de": (
        "und oder aber weil dass wenn während mit ohne zu von für in im am beim nach vor als der "
        "die das den dem des ein eine einen einem einer mein meine dein deine ist sind war kann "
        "könnte würde soll muss äh ähm hm also bitte unter zwischen sehr"
    ),
    "vi": "và hoặc nhưng vì nếu khi với cho của từ ở tại trong trên là thì mà để ừm rất về",
}
# Endings in languages that do not separate words.
_ENDINGS: Final[dict[str, str]] = {
    "zh": (
        "和 跟 或者 还有 但是 可是 不过 因为 所以 如果 要是 然后 的时候 那个 就是 比如 嗯 呃 "
        "我想 我要 我想要 请 请你 请帮我 帮我 把 给 从 到 对 向 被 让 很 更 最"
    ),
    "ja": (
        "と や が は を に へ まで ので のに けど けれど でも そして それで えーと えっと "
        "あの その とても もっと"
    ),
}
_WORDS = frozenset(word for words in _GOING_ON.values() for word in words.split())
_WIDE = tuple(ending for endings in _ENDINGS.values() for ending in endings.split())

_END = ".!?。！？"
_OPEN = ",;:，、；：-–—…"
_CLOSING = "\"'”’」』)）"


def sounds_unfinished(text: str) -> bool:
    """Return whether a text sounds unfinished."""
    text = text.rstrip().rstrip(_CLOSING)
    if not text or text.endswith(("...", "…")) or text[-1] in _OPEN:
        return True
    if text[-1] in _END:
        return False
    if text[-1] >= "\u2e80":
        return text.endswith(_WIDE)
    return text.split()[-1].casefold() in _WORDS
