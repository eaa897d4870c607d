"""Seam of memory: the earlier turns that a language model receives."""

from __future__ import annotations

from collections.abc import Sequence

from zope.interface import Attribute, Interface

from xiaozhi.agents.settings import DialogueSettings
from xiaozhi.base.values import DialogueEntry, Recollection, Summary, Utterance
from xiaozhi.interfaces.providers import ILanguageModel


class IMemory(Interface):
    """Selects the part of a dialogue that a model receives; one per session."""

    capacity = Attribute("Maximum entries of earlier sessions to load; may be 0.")

    def recall(entries: Sequence[DialogueEntry], summary: Summary | None) -> None:
        """Add the dialogue of earlier sessions, before all entries noted so far.

        :param summary: summary of a part of it, or of the dialogue before it.
        """

    def note(entries: Sequence[DialogueEntry], language: str) -> None:
        """Add a finished turn: its question and its answer with tool results, in order.

        :param language: BCP 47, of the turn.
        """

    def before(running: Sequence[Utterance]) -> Recollection:
        """Return the dialogue before the running turn.

        It begins with the person's words, contains only complete tool exchanges, and is
        bounded.
        """

    def kept() -> Sequence[DialogueEntry]:
        """Return the entries it holds, oldest first; another kind of memory may continue
        with them."""

    def adopt(model: ILanguageModel, settings: DialogueSettings) -> None:
        """Switch to another model and other bounds; keep the entries."""

    def close() -> None:
        """End running work: the session is over."""
