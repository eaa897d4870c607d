"""Which tools a session is offered, by an agent's policy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from xiaozhi.interfaces import ITool
from xiaozhi.tools.names import safe_name


@dataclass(frozen=True, slots=True)
class ToolFilter:
    """Allows and denies tools by source and name.

    A pattern is a tool's name as its source has it or as models see it, or ``SOURCE/NAME``;
    ``*``, ``?`` and ``[…]`` match as in file names.

    :ivar sources: names of the sources whose tools are offered; None: all.
    :ivar allow: patterns, of which a tool must match one.
    :ivar deny: patterns, of which it must match none.
    """

    sources: tuple[str, ...] | None = None
    allow: tuple[str, ...] = ("*",)
    deny: tuple[str, ...] = ()

    def allows(self, source: str, tool: ITool) -> bool:
        """Whether a session is offered this tool."""
        if self.sources is not None and source not in self.sources:
            return False
        title = tool.spec.title or tool.spec.name
        spellings = title, safe_name(title), f"{source}/{title}"

        def match(patterns: Iterable[str]) -> bool:
            return any(fnmatchcase(each, pattern) for pattern in patterns for each in spellings)

        return match(self.allow) and not match(self.deny)


#: Everything is allowed.
ALL_TOOLS = ToolFilter()
