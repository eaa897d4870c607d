"""Markers in a model's text that are meant for programs: their forms and meanings.

Model families mark reasoning, tool calls and turns in their own ways. A server that knows
the model's template removes the markers; many do not, or miss some. The forms here
are those of the public chat templates: Hermes, Qwen, DeepSeek, Mistral, Llama, Gemma, GLM,
Kimi, Granite, Phi, Command, MiniMax, InternLM and gpt-oss ("harmony").
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum


class MarkerKind(Enum):
    """The purpose of a mark."""

    THOUGHT = "thought"
    CALL = "call"
    FOREIGN = "foreign"  # another role's text: the person's, a tool's result
    HEADER = "header"  # begins a message; its role follows
    BODY = "body"  # ends such a header
    OURS = "ours"  # the assistant's own text follows
    TURN = "turn"  # ends a turn, or means nothing
    FENCE = "fence"  # of a block of code that may hold a tool call
    BARE = "bare"  # JSON at the beginning of a line that may be a tool call


@dataclass(frozen=True, slots=True)
class Marker:
    """:ivar name: in lower case, its words joined by underscores, without "begin" and "end".
    :ivar form: ``<`` a tag, ``|`` a token, ``[`` a word in brackets, ``✿``, a fence, ``{``.
    :ivar closing: it ends something.
    :ivar empty: a tag that ends itself.
    """

    kind: MarkerKind
    name: str
    form: str
    text: str
    closing: bool = False
    empty: bool = False


_THOUGHT = (
    r"(?:[a-z]+_){0,2}(?:ant|deep)?(?:think(?:ing)?|thoughts?|reasoning|reflections?|scratchpad"
    r"|monologue|analysis|cot)(?:_(?:content|process|steps?|block|text|trace|chain))?"
    r"|思考(?:过程|内容|中)?|推理(?:过程)?|反思|内心(?:独白|活动)|思维链"
)
_CALL = (
    r"(?:[a-z]+_)?(?:tool_?calls?|tool_?uses?|tool_?requests?|function_?calls?|tool_?code|tools?)"
    r"|functions?|invoke|action|python_tag|plugin|multi_tool_use"
)
_RESULT = (
    r"(?:[a-z]+_)?(?:tool|function|ipython|python|tool_call)_?"
    r"(?:responses?|results?|outputs?)|observations?|environment|available_tools"
)
_OTHERS = r"user|human|system|developer|tool|function|ipython|observation|environment"
_OURS = r"assistant|model|gpt|bot|ai|chatbot"
_TURN_TAG = (
    r"s|bos|eos|pad|unk|mask|eo[tmds]|bo[ts]|(?:start|end)_?of_?\w+|unused\d+|extra_id_\d+"
    r"|0x[0-9a-f]{2}|im_(?:start|end|sep)|endoftext|sys|eop|sop"
)
_TAG_NAME = re.compile(
    f"(?P<thought>{_THOUGHT})|(?P<call>{_CALL})|(?P<foreign>{_RESULT})|(?P<turn>{_TURN_TAG})"
)
_TOKEN_NAME = re.compile(
    f"(?P<thought>{_THOUGHT})|(?P<foreign>{_RESULT}|{_OTHERS})|(?P<call>{_CALL}|.*tool_calls?)"
    f"|(?P<ours>{_OURS})|(?P<header>start|channel|im|header_id|role|im_(?:assistant|user|system|tool))"
    r"|(?P<body>message|im_middle)"
)
# Words of a token that tell its position, not its kind.
_PLACES = re.compile(r"(?:^|_)(begin|start|end|of|section|token)(?=_|$)")
# In upper case only: "[thinking]" is a mood.
_WORDS = {
    "[THINK]": (MarkerKind.THOUGHT, False),
    "[/THINK]": (MarkerKind.THOUGHT, True),
    "[THINKING]": (MarkerKind.THOUGHT, False),
    "[/THINKING]": (MarkerKind.THOUGHT, True),
    "[REASONING]": (MarkerKind.THOUGHT, False),
    "[/REASONING]": (MarkerKind.THOUGHT, True),
    "[TOOL_CALLS]": (MarkerKind.CALL, False),
    "[/TOOL_CALLS]": (MarkerKind.CALL, True),
    "[TOOL_CALL]": (MarkerKind.CALL, False),
    "[/TOOL_CALL]": (MarkerKind.CALL, True),
    "[TOOL_REQUEST]": (MarkerKind.CALL, False),
    "[END_TOOL_REQUEST]": (MarkerKind.CALL, True),
    "[TOOL_RESULTS]": (MarkerKind.FOREIGN, False),
    "[/TOOL_RESULTS]": (MarkerKind.FOREIGN, True),
    "[AVAILABLE_TOOLS]": (MarkerKind.FOREIGN, False),
    "[/AVAILABLE_TOOLS]": (MarkerKind.FOREIGN, True),
    "[SYSTEM_PROMPT]": (MarkerKind.FOREIGN, False),
    "[/SYSTEM_PROMPT]": (MarkerKind.FOREIGN, True),
    "[INST]": (MarkerKind.FOREIGN, False),
    "[/INST]": (MarkerKind.FOREIGN, True),
    "[|assistant|]": (MarkerKind.OURS, False),
    "[|user|]": (MarkerKind.FOREIGN, False),
    "[|system|]": (MarkerKind.FOREIGN, False),
    "[|endofturn|]": (MarkerKind.TURN, True),
    **{
        f"[{word}]": (MarkerKind.TURN, True)
        for word in ("BOS", "EOS", "PAD", "UNK", "SEP", "CLS", "MASK", "gMASK", "sop", "eop")
    },
}
_FLOWERS = {
    "function": MarkerKind.CALL,
    "args": MarkerKind.CALL,
    "result": MarkerKind.FOREIGN,
    "return": MarkerKind.OURS,
}
# Languages of a code block that may hold a call.
_FENCES = re.compile(r"tool_?(?:code|calls?|use)|function_?calls?|json|tool", re.I)
_BARE_KEYS = (
    "name|tool|tool_name|tool_calls|tool_uses|tool_call|function|function_call|function_name"
    "|recipient_name|action|arguments|parameters|type|id"
)

_SPACE = "[^<>|｜\n]"
_NAME = r"(?:[A-Za-z][\w.-]{0,30}|[\u4e00-\u9fff]{1,8})"
_TAG = re.compile(
    rf"<(/?)(?:[|｜]\w{{1,12}}[|｜])?(?:{_NAME}:)?({_NAME}|0x[0-9A-Fa-f]{{2}})"
    r"((?:[\s=][^<>]{0,200}?)?)(/?)>"
)
# Llama's form, of which parts may be missing: "<function=name{…}</function>".
_FUNCTION = re.compile(r"<function[=(/][\"']?[\w.\-]{1,64}[\"']?(?:\)?\s?>|(?=\)?\s?[{\[(]))")
_TOKEN = re.compile(r"<([|｜])([^\s<>|｜][^<>|｜\n]{0,60}|\")([|｜]?)>|<([\w/]{1,40})[|｜]>")
_FLOWER = re.compile(r"✿\s?(\w{1,12})\s?✿(?:[:：]|(?=[^:：])|\Z)")
_FENCE = re.compile(r"```([\w-]{0,20})(?:[ \t]{0,8}\n)?")
_BARE = re.compile(
    rf"(?:\[\s{{0,9}})?\{{\s{{0,9}}[\"'](?:{_BARE_KEYS})[\"']\s{{0,3}}:"
    r"|\[[A-Za-z_][\w.]{0,63}\("
)

_STARTS = re.compile(r"[<\[◁✿`{]")
_PARTIAL = re.compile(
    rf"<(?:/?(?:[|｜](?:\w{{0,12}}(?:[|｜](?:{_NAME}:?)?(?:{_NAME})?(?:[\s=][^<>]{{0,200}})?)?)?)?"
    rf"|/?{_NAME}(?::(?:{_NAME})?)?[|｜/]?|/?0x?[0-9A-Fa-f]{{0,2}}"
    r"|[|｜](?:[^\s<>|｜][^<>|｜\n]{0,60}|\")?[|｜]?|function[=(/][\"']?[\w.\-]{0,64}[\"']?\)?\s?)"
    r"|◁/?[a-z]{0,10}▷?|✿\s?\w{0,12}\s?✿?|`{1,2}|```[\w-]{0,20}[ \t]{0,8}"
)
_CUT_OFF = re.compile(rf"<[|｜][\w▁/ ]{{2,60}}[|｜]?|</?{_NAME}:{_NAME}")
_BEGUN_TAG = re.compile(rf"<(/?)({_NAME})")
_PARTIAL_TAG = re.compile(rf"<(/?)(?:{_NAME}:)?({_NAME})[\s=][^<>]{{0,200}}")
_PARTIAL_BARE = re.compile(
    r"(?:\[\s{0,9})?(?:\{\s{0,9}(?:[\"']\w{0,16}(?:[\"']\s{0,3})?)?)?|\[[A-Za-z_][\w.]{0,63}"
)


def next_start(text: str, at: int) -> int:
    """Return the next index at which a marker may begin; -1: none."""
    found = _STARTS.search(text, at)
    return -1 if found is None else found.start()


def may_become(tail: str, *, plain: bool, line_begins: bool) -> bool:
    """Whether the end of a text may be the beginning of a marker.

    :param tail: the text from the marker's possible start.
    :param plain: outside any section that another marker opened.
    :param line_begins: only spaces precede it on its line.
    """
    bare = plain and (tail[0] == "{" or (tail[0] == "[" and line_begins))
    if bare and _PARTIAL_BARE.fullmatch(tail):
        return True
    if tail[0] == "[":
        return any(word.startswith(tail) for word in _WORDS)
    if _PARTIAL.fullmatch(tail):
        return True
    found = _PARTIAL_TAG.fullmatch(tail)
    return found is not None and _TAG_NAME.fullmatch(_folded(found[2])) is not None


def cut_off(tail: str) -> bool:
    """Whether a text ends with an incomplete marker, because the model was stopped there."""
    found = _PARTIAL_TAG.fullmatch(tail) or _BEGUN_TAG.fullmatch(tail)
    if found is not None and len(found[2]) > 2 and _TAG_NAME.fullmatch(_folded(found[2])):
        return True
    return _CUT_OFF.fullmatch(tail) is not None


def mark_at(text: str, at: int, *, plain: bool, line_begins: bool) -> Marker | None:
    """Return the marker that begins here, if any; parameters as for :func:`may_become`."""
    bare = plain and (text[at] == "{" or line_begins)
    return next((mark for mark in _candidates(text, at, bare) if mark is not None), None)


def _candidates(text: str, at: int, bare: bool) -> Iterator[Marker | None]:
    first = text[at]
    if first == "<":
        if found := _FUNCTION.match(text, at):
            yield Marker(MarkerKind.CALL, "function", "<", found[0])
        yield _tag(text, at)
        yield _token(text, at)
    elif first == "◁":
        for mark, closing in (("◁think▷", False), ("◁/think▷", True)):
            if text.startswith(mark, at):
                yield Marker(MarkerKind.THOUGHT, "think", "◁", mark, closing)
    elif first == "✿":
        found = _FLOWER.match(text, at)
        kind = _FLOWERS.get(found[1].lower()) if found else None
        if found and kind is not None:
            yield Marker(kind, found[1].lower(), "✿", found[0])
    elif first == "`":
        found = _FENCE.match(text, at)
        if found:
            name = found[1].lower()
            kind = MarkerKind.FENCE if _FENCES.fullmatch(name) else MarkerKind.TURN
            yield Marker(kind, name, "`", found[0])
    else:
        end = text.find("]", at, at + 24) + 1
        word = _WORDS.get(text[at:end]) if first == "[" and end else None
        if word is not None:
            name = text[at:end].strip("[/]").lower().removeprefix("end_")
            yield Marker(word[0], name, "[", text[at:end], word[1])
        found = _BARE.match(text, at) if bare else None
        if found:
            yield Marker(MarkerKind.BARE, "", "{", found[0])


def _tag(text: str, at: int) -> Marker | None:
    found = _TAG.match(text, at)
    if found is None:
        return None
    name = _folded(found[2])
    known = _TAG_NAME.fullmatch(name)
    if known is None or known.lastgroup is None:
        return None
    if name in ("unused94", "unused95"):
        return Marker(MarkerKind.THOUGHT, "unused", "<", found[0], name == "unused95")
    if name in ("start_of_turn", "im_start"):
        return Marker(MarkerKind.HEADER, "im", "<", found[0])
    kind = MarkerKind(known.lastgroup)
    return Marker(kind, name, "<", found[0], bool(found[1]), bool(found[4]))


def _token(text: str, at: int) -> Marker | None:
    found = _TOKEN.match(text, at)
    if found is None:
        return None
    whole = _folded(found[2] or found[4])
    closing = whole.startswith("/") or bool(re.search(r"(?:^|_)end(?:_|$)", whole))
    # "<|x>" opens what "<x|>" closes.
    half = found[4] is not None or not found[3]
    closing = closing or found[4] is not None
    name = _PLACES.sub("", whole.strip("/")).strip("_")
    if not name and whole == "start":
        name = "start"
    known = _TOKEN_NAME.fullmatch(name)
    kind = MarkerKind(known.lastgroup) if known and known.lastgroup else MarkerKind.TURN
    if half and name == "channel":
        kind = MarkerKind.THOUGHT
    if kind is MarkerKind.HEADER and closing:
        # "<|im_end|>" ends a turn, "<|end_header_id|>" the name of a role.
        kind = MarkerKind.TURN if name in ("im", "channel") else MarkerKind.BODY
    if kind in (MarkerKind.OURS, MarkerKind.FOREIGN) and closing:
        kind = MarkerKind.TURN
    if whole.endswith("_sep") or "argument" in whole or whole == '"':
        kind = MarkerKind.TURN
    return Marker(kind, name, "|", found[0], closing)


def _folded(name: str) -> str:
    return re.sub(r"[▁\s.\\-]+", "_", name).lower().strip("_")
