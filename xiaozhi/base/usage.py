"""Provider usage: which provider answered a call, and at what cost.

:func:`noting` collects the notes of coroutines started within; they inherit it like
    :mod:`xiaozhi.base.trace`. Without a collector, notes are dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class Notes(Protocol):
    """Collector of notes."""

    def by(self, kind: str, provider: str, model: str) -> None:
        """Note a call of a provider; the last one called is the one that answers.

        :param kind: ``asr``, ``llm``, ``tts`` or ``vlllm``.
        :param provider: its reference in the configuration.
        :param model: the vendor's name for its model; may be empty.
        """

    def used(self, tokens_in: int, tokens_out: int) -> None:
        """Note the tokens of one call, as the vendor reports them."""


_notes: ContextVar[Notes | None] = ContextVar("notes", default=None)


@contextmanager
def noting(notes: Notes | None) -> Iterator[None]:
    """Collect the notes of coroutines started within, also their later ones."""
    token = _notes.set(notes)
    try:
        yield
    finally:
        _notes.reset(token)


class Who:
    """Collector that keeps the last provider called, and passes notes on to the outer
    collector.

    :ivar provider: and ``model``: as in :meth:`Notes.by`; empty before any call.
    """

    provider = model = ""

    def __init__(self) -> None:
        self._before = _notes.get()

    def by(self, kind: str, provider: str, model: str) -> None:
        """See :class:`Notes`."""
        self.provider, self.model = provider, model
        if self._before is not None:
            self._before.by(kind, provider, model)

    def used(self, tokens_in: int, tokens_out: int) -> None:
        """See :class:`Notes`."""
        if self._before is not None:
            self._before.used(tokens_in, tokens_out)


def by(kind: str, provider: str, model: str) -> None:
    """Note a call of a provider."""
    if (notes := _notes.get()) is not None:
        notes.by(kind, provider, model)


def tokens(tokens_in: int, tokens_out: int) -> None:
    """Note the tokens of a call."""
    if (notes := _notes.get()) is not None:
        notes.used(tokens_in, tokens_out)
