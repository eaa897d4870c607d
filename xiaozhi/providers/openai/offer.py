"""Options offered to a chat vendor, and those that it rejected."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from xiaozhi.base.errors import ProviderError
from xiaozhi.base.values import Role, ToolSpec, Utterance

USAGE = "stream_options"

# Codes of refusals that may be about what was offered.
_CODES = ("bad_request", "not_found", "vendor_error")
_TOOLS = re.compile(
    r"\btools?\b|\btool[\s_-]?(?:use|call|choice|param)|\bfunctions?[\s_-]?call|\bfunctions\b"
    r"|工具|函数|[\"'`]tools?[\"'`]",
    re.I,
)
_NOT_TAKEN = re.compile(
    r"not (?:\w+ )?(?:be )?(?:support|enabled|available|permitted|allowed|implemented|recogni)"
    r"|n't (?:support|use|accept)|unsupported|no support|cannot (?:use|handle|accept|be used)"
    r"|no endpoints found|requires?\b.{0,40}(?:--\w|flag|jinja)|extra[ _](?:inputs|fields|forbid)"
    r"|unknown (?:field|parameter|argument|name|key|property)|unrecogni[sz]ed"
    r"|unexpected (?:keyword|field|argument|property|parameter)"
    r"|(?:暂|尚|并)?不(?:被)?支持|未开启|未启用",
    re.I,
)
# It is about one tool's description, not about tools.
_ONE_TOOL = re.compile(
    r"schema|\bpropert|\bitems\b|function[ _]name|function_declarations|tools?[\[.]\d", re.I
)
_NUMBERED = re.compile(r"(?:tools|functions|function_declarations)[\[.](\d{1,4})", re.I)
_DESCRIBED = re.compile(
    r"schema|parameter|propert|\bitems\b|name|description|\btype\b|invalid|declaration", re.I
)


@dataclass(frozen=True, slots=True)
class Offer:
    """Options that a request offers beside the question.

    :ivar usage: to say what an answer costs.
    :ivar tools: any tools at all.
    :ivar left_out: names of tools the vendor does not take.
    """

    usage: bool = True
    tools: bool = True
    left_out: frozenset[str] = frozenset()

    @property
    def refused(self) -> tuple[str, ...]:
        """Name the rejected options, for people."""
        if not self.tools:
            return ("tools",)
        return tuple(f"tool {name}" for name in sorted(self.left_out))

    def and_without(self, other: Offer) -> Offer:
        """:return: without what either goes without."""
        return Offer(
            self.usage and other.usage,
            self.tools and other.tools,
            self.left_out | other.left_out,
        )

    def of(self, tools: Sequence[ToolSpec]) -> list[ToolSpec]:
        """:return: the tools that are offered."""
        if not self.tools:
            return []
        return [tool for tool in tools if tool.name not in self.left_out]

    def said(self, dialogue: Sequence[Utterance]) -> Iterator[Utterance]:
        """The dialogue as a model takes it: without tools, also without what they did."""
        for entry in dialogue:
            if self.tools or not (entry.calls or entry.role is Role.TOOL):
                yield entry
            elif entry.text and entry.role is not Role.TOOL:
                yield replace(entry, calls=())

    def lessened(self, error: ProviderError, tools: Sequence[ToolSpec]) -> Offer | None:
        """:param tools: those that were offered.
        :return: what to offer instead; None: the refusal is about something else.
        """
        words = error.message
        if self.usage and error.code == "bad_request" and USAGE in words:
            return replace(self, usage=False)
        if error.code not in _CODES or not tools:
            return None
        if named := _named(words, tools):
            return replace(self, left_out=self.left_out | named)
        if _TOOLS.search(words) and _NOT_TAKEN.search(words) and not _ONE_TOOL.search(words):
            return replace(self, tools=False)
        return None


def _named(words: str, tools: Sequence[ToolSpec]) -> frozenset[str]:
    """Names of the tools whose description is refused."""
    if not _DESCRIBED.search(words):
        return frozenset()
    named = {
        tool.name
        for tool in tools
        if re.search(rf"(?<![\w-]){re.escape(tool.name)}(?![\w-])", words)
    }
    numbers = [int(number) for number in _NUMBERED.findall(words)]
    # "tools[0].function_declarations[3]": the last number is the tool's.
    if not named and numbers and numbers[-1] < len(tools):
        named.add(tools[numbers[-1]].name)
    return frozenset(named)
