"""Options offered to a chat vendor, and those that it rejected."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from xiaozhi.base.errors import ProviderError
from xiaozhi.base.values import Role, ToolSpec, Utterance

USAGE = "stream_options"

# Codes of errors that may concern the offered options.
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
# The error concerns one tool's description, not tools in general.
_ONE_TOOL = re.compile(
    r"schema|\bpropert|\bitems\b|function[ _]name|function_declarations|tools?[\[.]\d", re.I
)
_NUMBERED = re.compile(r"(?:tools|functions|function_declarations)[\[.](\d{1,4})", re.I)
_DESCRIBED = re.compile(
    r"schema|parameter|propert|\bitems\b|name|description|\btype\b|invalid|declaration", re.I
)


@dataclass(frozen=True, slots=True)
class Offer:
    """Options of a request.

    :ivar usage: request the token usage.
    :ivar tools: offer tools at all.
    :ivar left_out: names of tools that the vendor rejects.
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
        """Return the options without what either of the two omits."""
        return Offer(
            self.usage and other.usage,
            self.tools and other.tools,
            self.left_out | other.left_out,
        )

    def of(self, tools: Sequence[ToolSpec]) -> list[ToolSpec]:
        """Return the tools to offer."""
        if not self.tools:
            return []
        return [tool for tool in tools if tool.name not in self.left_out]

    def said(self, dialogue: Sequence[Utterance]) -> Iterator[Utterance]:
        """Yield the dialogue for the model; without tools, also without their calls and results."""
        for entry in dialogue:
            if self.tools or not (entry.calls or entry.role is Role.TOOL):
                yield entry
            elif entry.text and entry.role is not Role.TOOL:
                yield replace(entry, calls=())

    def lessened(self, error: ProviderError, tools: Sequence[ToolSpec]) -> Offer | None:
        """Return the options without what the vendor rejected; None: the error has another cause.

        :param tools: the offered ones.
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
    """Return the names of the tools whose description was rejected."""
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
