"""The device message that the running code works for.

A message has the same id at the edge, on the bridge and at the AI service. There the id
follows the work that the message starts: into coroutines and worker threads, into log
lines and to vendors.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import NamedTuple


class TracedMessage(NamedTuple):
    """A message of a device.

    :ivar sequence: its number within the session; the hello's is 0.
    """

    session_id: str
    sequence: int

    @property
    def id(self) -> str:
        """The ``message_id`` of the bridge's contract."""
        return f"{self.session_id}-{self.sequence}"


_current: ContextVar[TracedMessage | None] = ContextVar("request", default=None)


def current() -> TracedMessage | None:
    """Return the message being worked for; None: no single one."""
    return _current.get()


def enter(request: TracedMessage | None) -> Token[TracedMessage | None]:
    """Set the current message until :func:`leave`; cheaper than :func:`working_for`."""
    return _current.set(request)


def leave(token: Token[TracedMessage | None]) -> None:
    """Undo :func:`enter`."""
    _current.reset(token)


@contextmanager
def working_for(request: TracedMessage | None) -> Iterator[None]:
    """Set the current message for coroutines started within, which keep it."""
    token = enter(request)
    try:
        yield
    finally:
        leave(token)
