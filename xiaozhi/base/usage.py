"""Provider usage: which provider answered a call, and at what cost.

:func:`noting` collects the notes of the coroutines that are started within; they inherit it,
as they do :mod:`xiaozhi.base.trace`. Without a collector, notes go nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class Notes(Protocol):
    """Collector of notes."""

    def by(self, kind: str, provider: str, model: str) -> None:
        """A provider is asked; it is the one that answers unless another is asked later.

        :param kind: ``asr``, ``llm``, ``tts`` or ``vlllm``.
        :param provider: its reference in the configuration.
        :param model: the vendor's name for its model; may be empty.
        """

    def used(self, tokens_in: int, tokens_out: int) -> None:
        """Tokens of one call, as the vendor of a language model reports them."""


_notes: ContextVar[Notes | None] = ContextVar("notes", default=None)


@contextmanager
def noting(notes: Notes | None) -> Iterator[None]:
    """Collect the notes of coroutines that are started within, also afterwards."""
    token = _notes.set(notes)
    try:
        yield
    finally:
        _notes.reset(token)


class Who:
    """Collector that keeps the provider asked last, and passes notes on to the collector
    around it.

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
    """Note that a provider is asked."""
    if (notes := _notes.get()) is not None:
        notes.by(kind, provider, model)


def tokens(tokens_in: int, tokens_out: int) -> None:
    """Note the tokens of a call."""
    if (notes := _notes.get()) is not None:
        notes.used(tokens_in, tokens_out)
