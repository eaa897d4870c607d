"""Tool policy: the tools that an agent may use."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True)
class ToolPolicy:
    """Patterns over tool sources and tool names, with ``*`` and ``?``.

    :ivar sources: sources whose tools are offered.
    :ivar allow: tools that are offered.
    :ivar deny: tools that are not offered, even if ``allow`` matches.
    :ivar confirm: tools that need a spoken confirmation.
    """

    sources: tuple[str, ...] = ("*",)
    allow: tuple[str, ...] = ("*",)
    deny: tuple[str, ...] = ()
    confirm: tuple[str, ...] = ()

    def permits(self, source: str, *names: str) -> bool:
        """Return whether a tool of a source is offered to the model.

        :param names: spellings of the tool's name: at its source and for models. One match is
            enough, to allow and to deny.
        """
        return (
            _matches(source, self.sources)
            and any(_matches(name, self.allow) for name in names)
            and not any(_matches(name, self.deny) for name in names)
        )

    def confirms(self, *names: str) -> bool:
        """Return whether a tool needs a spoken confirmation.

        :param names: as for :meth:`permits`; one match is enough.
        """
        return any(_matches(name, self.confirm) for name in names)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
