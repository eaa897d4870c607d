"""Seam of memory: the earlier turns that a language model receives."""

from __future__ import annotations

from collections.abc import Sequence

from zope.interface import Attribute, Interface

from xiaozhi.agents.settings import DialogueSettings
from xiaozhi.base.values import DialogueEntry, Recollection, Summary, Utterance
from xiaozhi.interfaces.providers import ILanguageModel


class IMemory(Interface):
    """Selects the part of a dialogue that a model receives; one for each session."""

    capacity = Attribute("Entries of earlier sessions that are worth being loaded; may be 0.")

    def recall(entries: Sequence[DialogueEntry], summary: Summary | None) -> None:
        """Add the dialogue of earlier sessions, before everything noted so far.

        :param summary: of a part of it, or of what came before.
        """

    def note(entries: Sequence[DialogueEntry], language: str) -> None:
        """Note a finished turn: its question and its results, in order.

        :param language: BCP 47, that was spoken.
        """

    def before(running: Sequence[Utterance]) -> Recollection:
        """Return the dialogue before the running turn. It begins with the person's
        words, contains whole tool exchanges, and is bounded."""

    def kept() -> Sequence[DialogueEntry]:
        """Return the entries it holds, oldest first; another kind of memory may continue
        with them."""

    def adopt(model: ILanguageModel, settings: DialogueSettings) -> None:
        """Use another model and other bounds from now on; what is kept stays."""

    def close() -> None:
        """End running work; the session is over."""
