"""Seam of memory: what a language model is told of earlier turns."""

from __future__ import annotations

from collections.abc import Sequence

from zope.interface import Attribute, Interface

from xiaozhi.base.values import DeviceNote, DialogueEntry, Recollection, Utterance


class IMemory(Interface):
    """What of a talk a model is told besides the running turn; one for each session."""

    capacity = Attribute("Entries of earlier sessions that are worth being loaded; may be 0.")

    def recall(entries: Sequence[DialogueEntry], summary: DeviceNote | None) -> None:
        """What was said in earlier sessions: before all that was noted.

        :param summary: of some of it, or of what was said before.
        """

    def note(entries: Sequence[DialogueEntry], language: str) -> None:
        """A turn is over: its question and what came of it, in order.

        :param language: BCP 47, that was spoken.
        """

    def before(running: Sequence[Utterance]) -> Recollection:
        """What the model is told before the running turn. It begins with the person's
        words and has whole tool exchanges, and never grows beyond a bound."""

    def close() -> None:
        """The session is over: what is under way ends."""
