"""Which provider did it: what providers note while they work for a turn.

Whoever wants to know says :func:`noting` around what it starts; coroutines that are
started within inherit it, as they do :mod:`xiaozhi.base.trace`. Without anybody who wants to
know, notes go nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class Notes(Protocol):
    """Who wants to know."""

    def by(self, kind: str, provider: str, model: str) -> None:
        """One is asked, and is the one that answers unless another one is asked after
        it: ``asr``, ``llm``, ``tts`` or ``vlllm``.

        :param provider: as ``selected`` names it.
        :param model: the vendor's name for what answers; may be empty.
        """

    def used(self, tokens_in: int, tokens_out: int) -> None:
        """What the vendor of a language model says that one call has cost."""


_notes: ContextVar[Notes | None] = ContextVar("notes", default=None)


@contextmanager
def noting(notes: Notes | None) -> Iterator[None]:
    """Coroutines that are started within note here, also afterwards."""
    token = _notes.set(notes)
    try:
        yield
    finally:
        _notes.reset(token)


class Who:
    """Notes who was asked last.

    :ivar provider: and ``model``: as in :meth:`Notes.by`; empty while nobody was.
    """

    provider = model = ""

    def __init__(self) -> None:
        self._before = _notes.get()

    def by(self, kind: str, provider: str, model: str) -> None:
        """See :class:`Notes`; who wanted to know before is told, too."""
        self.provider, self.model = provider, model
        if self._before is not None:
            self._before.by(kind, provider, model)

    def used(self, tokens_in: int, tokens_out: int) -> None:
        """As :meth:`by`."""
        if self._before is not None:
            self._before.used(tokens_in, tokens_out)


def by(kind: str, provider: str, model: str) -> None:
    """Note who is asked."""
    if (notes := _notes.get()) is not None:
        notes.by(kind, provider, model)


def tokens(tokens_in: int, tokens_out: int) -> None:
    """Note what a call has cost."""
    if (notes := _notes.get()) is not None:
        notes.used(tokens_in, tokens_out)
