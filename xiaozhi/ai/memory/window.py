"""Memory without earlier turns, and memory of the newest turns."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from zope.interface import implementer

from xiaozhi.agents.settings import DialogueSettings
from xiaozhi.ai.memory.exchanges import cost, whole
from xiaozhi.base.values import DialogueEntry, Recollection, Role, Summary, Utterance
from xiaozhi.interfaces import ILanguageModel, IMemory


@implementer(IMemory)
class NoMemory:
    """Keeps nothing: the model receives only the running turn."""

    capacity = 0

    def recall(self, entries: Sequence[DialogueEntry], summary: Summary | None) -> None:
        """Discard the entries."""

    def note(self, entries: Sequence[DialogueEntry], language: str) -> None:
        """Discard the entries."""

    def before(self, running: Sequence[Utterance]) -> Recollection:
        return Recollection()

    def kept(self) -> Sequence[DialogueEntry]:
        return ()

    def adopt(self, model: ILanguageModel, settings: DialogueSettings) -> None:
        """Do nothing: no setting applies."""

    def close(self) -> None:
        """Do nothing: no work is running."""


@implementer(IMemory)
class WindowMemory:
    """The newest turns that fit into ``dialogue.window`` tokens and ``dialogue.entries``.

    Tokens are counted once per entry, and entries that no longer fit are dropped, so the cost
    of a question does not grow with the conversation.

    :param times: keep this multiple of the limits.
    """

    def __init__(self, settings: DialogueSettings, times: int = 1) -> None:
        self._times = times
        self._bound(settings)
        # Entries with their tokens. Bound: `capacity` entries, and `_room` tokens plus one entry.
        self._kept: deque[tuple[DialogueEntry, int]] = deque()
        self._tokens = 0

    def kept(self) -> Sequence[DialogueEntry]:
        return [entry for entry, _ in self._kept]

    def adopt(self, model: ILanguageModel, settings: DialogueSettings) -> None:
        self._bound(settings)
        self._trim()

    def _bound(self, settings: DialogueSettings) -> None:
        self.capacity = settings.entries * self._times
        self._entries = settings.entries
        self._window = settings.window
        self._room = settings.window * self._times

    def recall(self, entries: Sequence[DialogueEntry], summary: Summary | None) -> None:
        self._kept.extendleft((entry, cost(entry.said)) for entry in reversed(entries))
        self._tokens = sum(tokens for _, tokens in self._kept)
        self._trim()

    def note(self, entries: Sequence[DialogueEntry], language: str) -> None:
        for entry in entries:
            tokens = cost(entry.said)
            self._kept.append((entry, tokens))
            self._tokens += tokens
        self._trim()

    def before(self, running: Sequence[Utterance]) -> Recollection:
        room = self._window - sum(map(cost, running))
        most = self._entries - len(running)
        taken: list[Utterance] = []
        fitting = 0
        for entry, tokens in reversed(self._kept):
            room -= tokens
            if room < 0 or len(taken) == most:
                break
            taken.append(entry.said)
            # Begin with a question, so that no turn is split.
            if entry.said.role is Role.USER:
                fitting = len(taken)
        return Recollection(tuple(whole(taken[:fitting][::-1])))

    def close(self) -> None:
        """Do nothing: no work is running."""

    def _trim(self) -> None:
        kept = self._kept
        while kept and (len(kept) > self.capacity or self._tokens - kept[0][1] >= self._room):
            self._forget_oldest()

    def _forget_oldest(self) -> DialogueEntry:
        entry, tokens = self._kept.popleft()
        self._tokens -= tokens
        return entry
