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
    :ivar confirm: of tools that run only after the person has said yes.
    """

    sources: tuple[str, ...] = ("*",)
    allow: tuple[str, ...] = ("*",)
    deny: tuple[str, ...] = ()
    confirm: tuple[str, ...] = ()

    def permits(self, source: str, *names: str) -> bool:
        """Whether a tool of a source is offered to the model.

        :param names: spellings of the tool's name: as its source has it and as models see it.
            One that matches is enough, to allow and to deny.
        """
        return (
            _matches(source, self.sources)
            and any(_matches(name, self.allow) for name in names)
            and not any(_matches(name, self.deny) for name in names)
        )

    def confirms(self, *names: str) -> bool:
        """Whether a tool runs only after the person has said yes.

        :param names: as for :meth:`permits`; one that matches is enough.
        """
        return any(_matches(name, self.confirm) for name in names)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
