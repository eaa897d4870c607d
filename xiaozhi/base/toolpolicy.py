"""Which tools an agent may use."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True)
class ToolPolicy:
    """Patterns over tool sources and tool names, with ``*`` and ``?``.

    :ivar sources: of the sources whose tools are offered.
    :ivar allow: of tools that are offered.
    :ivar deny: of tools that are not, whatever ``allow`` says.
    :ivar confirm: of tools that need a spoken confirmation.
    """

    sources: tuple[str, ...] = ("*",)
    allow: tuple[str, ...] = ("*",)
    deny: tuple[str, ...] = ()
    confirm: tuple[str, ...] = ()

    def permits(self, source: str, name: str) -> bool:
        """Whether a tool of a source is offered to the model."""
        return (
            _matches(source, self.sources)
            and _matches(name, self.allow)
            and not _matches(name, self.deny)
        )

    def confirmed(self, name: str) -> bool:
        """Whether a call of this tool needs a spoken confirmation."""
        return _matches(name, self.confirm)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
