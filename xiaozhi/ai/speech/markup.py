"""Remove markup from a model's text, so that it can be read aloud.

Models write Markdown, HTML and TeX even if the prompt asks for plain text. The text of
headings, lists, tables, emphasis, inline code, links and pictures remains without its marks.
Tags and citations are removed; an address becomes its host; mood tags and stage directions
become emoji. :mod:`~xiaozhi.ai.speech.blocks` has removed markup that spans sentences.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable

from xiaozhi.ai.speech.directions import acted, in_brackets, mood
from xiaozhi.ai.speech.formulas import raised, readable


def plain(sentence: str) -> str:
    """Return a sentence without markup; it may be empty.

    :param sentence: from :class:`~xiaozhi.ai.speech.sentences.SentenceSplitter`, so the
        counterpart of a mark may be in another sentence.
    """
    if _WORDS.fullmatch(sentence) and not _UNUSUAL.search(sentence):
        return sentence.strip()
    if "&" in sentence:
        # Some entities are escaped twice.
        sentence = _ENTITY.sub(_entity, _ENTITY.sub(_entity, sentence))
    sentence = _unlinked(sentence)
    if _FANCY.search(sentence):
        sentence = _FANCY.sub(lambda found: unicodedata.normalize("NFKC", found[0]), sentence)
    for pattern, made in _RULES:
        sentence = pattern.sub(made, sentence)
    return sentence.strip()


def _entity(found: re.Match[str]) -> str:
    return html.unescape(found[0]).replace("\xa0", " ")


def _unlinked(sentence: str) -> str:
    """Remove citations and the addresses of links and pictures, which may be nested."""
    for _ in range(3):
        if "](" not in sentence:
            break
        sentence = _LINK.sub(_link, sentence)
    return readable(_CITATION.sub(_gap, sentence))


def _link(found: re.Match[str]) -> str:
    # "[1](https://…)" is a citation.
    return _gap(found) if _NUMBERS.fullmatch(found[1]) else found[1]


def _tag(found: re.Match[str]) -> str:
    shown = mood(found[1])
    if shown is not None:
        return shown
    name = found[1].lower()
    if name in ("td", "th"):
        return ", " if found[0][1] == "/" and found.string[found.end() :].strip() else ""
    # Only a part of a word may be emphasised.
    return "" if _INLINE.fullmatch(name) else _gap(found)


def _gap(found: re.Match[str]) -> str:
    """Return a space if removal would join two words, else nothing."""
    before, behind = found.string[: found.start()][-1:], found.string[found.end() :][:1]
    wide = before >= "\u2e80" and behind >= "\u2e80"
    return " " if before.isalnum() and behind.isalnum() and not wide else ""


def _raised(found: re.Match[str]) -> str:
    return raised(found[1])


def _mood(found: re.Match[str]) -> str:
    shown = mood(found[1])
    return found[0] if shown is None else shown


def _cells(found: re.Match[str]) -> str:
    cells = (cell.strip() for cell in found[0].split("|"))
    return ", ".join(cell for cell in cells if cell.strip(":-"))


def _starred(found: re.Match[str]) -> str:
    """``*laughs*`` is a stage direction; ``*really*`` is emphasis."""
    shown = acted(found[1], words_at_most=6)
    return found[1] if shown is None else shown


def _bracketed(found: re.Match[str]) -> str:
    """Replace mood tags and stage directions; other text in brackets is spoken."""
    begins = found[0][0] in "[【" or not found.string[: found.start()].strip()
    shown = in_brackets(found[1], tag=begins)
    return found[0] if shown is None else shown


_URL = (
    r"https?://(?:www\.)?((?:[\w-]+\.)*[\w-]+)(?:[:/?#][^\s<>\"'）】」》，。！？；、]*[\w/=&#-])?/?"
)
_Made = str | Callable[[re.Match[str]], str]

_INLINE = re.compile(
    "a|b|i|u|s|q|em|strong|span|font|small|big|mark|del|ins|kbd|code|sub|sup|abbr|cite|tt|var"
    "|samp|strike|bdi|bdo|label|wbr|acronym|dfn"
)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")
_NUMBERS = re.compile(r"[\[^【]*\d{1,3}(?:\s?[,，、;:：–-]\s?\d{1,3})*[\]^】]*")
# The text of a link may contain brackets, its address parentheses and a title.
_LINK = re.compile(
    r"!?\[((?:[^\[\]]|\[[^\[\]]{0,100}\]){0,400})\]"
    r"\((?:[^()]|\([^()]{0,100}\)){0,2000}\)"
)
_WEB = r"(?:https?://|www\.|mailto:|<|/|\.{1,2}/|#)"
_SOURCE = (
    r"(?:citation|cite|source|sources|ref|reference|doc|document|webpage|web|page|index|来源|引用"
    r"|参考|文档|网页|资料)[\s:：_#-]{0,2}"
)
_MANY = r"\d{1,3}(?:\s?[,，、;–-]\s?\^?\d{1,3})*"
_CITATION = re.compile(
    # The definition of a reference link, on its own line.
    rf"^\s*\[[^\[\]]+\]:\s*{_WEB}\S*.*$"
    # [1], [2,3], [4-6], [^7], [^8^], [[9]]; not [0,1] and [2024].
    rf"|\s?\[\[{_MANY}\]\]|\s?\[(?!0){_MANY}\](?!\()"
    r"|\s?\[\^[^\[\]]+\]:?|\^\[[^\[\]]*\]"
    rf"|\s?[\[【]{_SOURCE}\d{{1,3}}(?:\s?[,，、]\s?(?:{_SOURCE})?\d{{1,3}})*[\]】]"
    r"|\s?\[(?:citation needed|来源请求|需要引用|来源|source)\]"
    # 【1】, 【1†source】, 【3:0†a.pdf】
    r"|\s?【\d{1,3}(?:[:：,，–-]\d{1,3})*(?:†[^【】]{0,80})?】|\s?【[^【】]{0,40}†[^【】]{0,40}】"
    r"|\s?<(ref|cite|citation|source)\b[^<>]*>\s?\[?\d{1,3}\]?\s?</\1>"
    r"|\s?<sup[^<>]*>\s?\[\d{1,3}\]\s?</sup>"
    # A citation in private-use characters.
    r"|\ue200[^\ue201]*(?:\ue201|$)",
    re.I,
)
# Fast path: no rule applies to most sentences.
_WORDS = re.compile(r"(?:[^\W_]|[ .,!?'\"%，。！？…；、“”‘’])*")
_UNUSUAL = re.compile(r"  |[^\W_]{60}|[\U0001d400-\U0001d7ff]")
# Mathematical letters used as bold, italic or script text: 𝐁𝐨𝐥𝐝.
_FANCY = re.compile("[\U0001d400-\U0001d7ff]+")
# The order matters: each rule processes the output of those before it.
_RULES: list[tuple[re.Pattern[str], _Made]] = [
    (re.compile(pattern, re.I), made)
    for pattern, made in (
        (r"<!--.*?-->", ""),
        (r"data:[\w.+-]+/[\w.+-]+(?:;[\w=-]+)*,[\w+/=%-]*", ""),
        (r"\[![a-z]{2,12}\]|^(?:note|tip|important|warning|caution)\]$|\[toc\]|\{[.#][\w-]+\}", ""),
        (r"!?\[\[(?:[^\[\]|]{1,100}\|)?([^\[\]|]{1,100})\]\]", r"\1"),
        (r"\[([^\[\]]+)\]\[[^\[\]]*\]", r"\1"),
        (r"^\s*:{3,}\s*\w*$", ""),
        # The box of a task list.
        (r"^((?:\s*(?:[*+•·-]|\d{1,3}[.)])\s+)*)\[[ x✓✔√]?\]\s+", r"\1"),
        # Halves of a link whose text contains the end of a sentence.
        (r"\]\([^()\s]*\)|\[(?![^\[\]]*\])", ""),
        (r"^([^\[\]]*)\]", r"\1"),
        (rf"<({_URL})>", r"\1"),
        (r"<(?:mailto:)?([\w.+-]+@[\w.-]+)>", r"\1"),
        (r"<sup[^<>]*>([\d+-]{1,4})</sup>", _raised),
        (r"</?([a-z\u4e00-\u9fff][\w:-]*)(?:\s[^<>]*)?/?>", _tag),
        (r"\{\s*\"(?:emotion|mood)\"\s*:\s*\"([^\"]+)\"\s*\}", _mood),
        (
            r"^\s*(?:emotion|mood|情绪|表情|心情)\s*[:：=]\s*[\"'\[]?(\w+)[\"'\]]?\s*[,，;；。.|]?",
            _mood,
        ),
        (_URL, r"\1"),
        # Data.
        (r"(?<![\w+/])(?=[a-z+/_-]*\d)(?=[\d+/_-]*[a-z])[a-z0-9+/_-]{60,}=*", ""),
        # A horizontal rule, the underline of a heading, the separator of a table.
        (r"^\s*(?:[-*_=]\s*){3,}$", ""),
        (r"^\s*\|.*|.*\|\s*$|^[-:\s]+\|[-:|\s]+$", _cells),
        (r"\s\|\s", ", "),
        (r"^(?:\s*(?:#{1,6}|>+|[*+•·◦‣-])\s+)+|^\s*#{2,6}(?=\S)|^＃+|^>+(?=[^\s\d=_<.-])", ""),
        (r"\s#{1,6}$|(?<![a-z0-9_&#/])#(?=[^\W\d])|(?<=[\u2e80-\uffff])#(?!\w)", ""),
        # ASCII arrows, but not "<=", ">=" and "a<-1".
        (r"\s?(?:<?(?:-{1,3}|={1,3})>|<-{1,3}(?=\s))\s?", " "),
        (r"==(?=\S)([^=]{1,200})(?<=\S)==", r"\1"),
        (r"(?<=[a-z])~(\w{1,10})~", r"\1"),
        (r"(?<=\w)\^([\w+-]{1,10})\^", _raised),
        (r"(?<=[\w)])\^([+-]?\d{1,3}|[nx])(?!\w)", _raised),
        (r"(?<![\w:]):[a-z][a-z0-9_+-]{1,30}:(?![\w:])", ""),
        (r"(?<!\d)\\\*|\\\*(?!\d)|\\[~|`]", ""),
        (r"\\([!-/:-@^_{}])", r"\1"),
        (r"(?<!\d)\*{2,}(?=\S)|(?<=\S)\*{2,}(?!\d)", ""),
        (r"(?<![\w*])\*(?!\s)([^*]{1,80})\*(?![\w*])", _starred),
        # A star whose counterpart is in another sentence.
        (r"^\*(?![\s*])([^*]{1,80})$", _starred),
        (r"(?<!\S)\*(?=\S)|(?<=[^\s\d])\*(?!\S)", ""),
        (r"~~|`|\\[()\[\]]|\$\$", ""),
        (r"(?<!\w)__(?=\S)|(?<=\S)__(?!\w)", ""),
        (r"(?<!\w)_(?!\s)([^_]+)_(?!\w)", r"\1"),
        (r"[(（\[【]([^()（）\[\]【】]{1,80})[)）\]】]", _bracketed),
        # Emoticons.
        (r"(?<![\w(（])(?:[:;]-?[)(DP|]|\^[_.o-]?\^|T_T|>_<|-_-|<3)(?!\w)", ""),
        (r"[ \t]{2,}", " "),
    )
]
