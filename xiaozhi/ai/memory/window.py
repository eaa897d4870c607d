"""The part of a dialogue for a model: nothing, the newest, or that and a summary."""

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
    """Each question by itself."""

    capacity = 0

    def recall(self, entries: Sequence[DialogueEntry], summary: Summary | None) -> None:
        """Nothing of it is kept."""

    def note(self, entries: Sequence[DialogueEntry], language: str) -> None:
        """Nothing of it is kept."""

    def before(self, running: Sequence[Utterance]) -> Recollection:
        return Recollection()

    def kept(self) -> Sequence[DialogueEntry]:
        return ()

    def adopt(self, model: ILanguageModel, settings: DialogueSettings) -> None:
        """Nothing depends on them."""

    def close(self) -> None:
        """Nothing is under way."""


@implementer(IMemory)
class WindowMemory:
    """The newest turns that fit into ``dialogue.window`` tokens and ``dialogue.entries``.

    The tokens of a turn are counted once, and entries that cannot fit any more are forgotten:
    a question costs no more than the window, however long the conversation.

    :param times: so many times as much is kept.
    """

    def __init__(self, settings: DialogueSettings, times: int = 1) -> None:
        self._times = times
        self._bound(settings)
        # Bound: `capacity`, and of tokens `_room` besides the oldest; beyond, it is forgotten.
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
            # It begins with a question, so no exchange is torn.
            if entry.said.role is Role.USER:
                fitting = len(taken)
        return Recollection(tuple(whole(taken[:fitting][::-1])))

    def close(self) -> None:
        """Nothing is under way."""

    def _trim(self) -> None:
        kept = self._kept
        while kept and (len(kept) > self.capacity or self._tokens - kept[0][1] >= self._room):
            self._forget_oldest()

    def _forget_oldest(self) -> DialogueEntry:
        entry, tokens = self._kept.popleft()
        self._tokens -= tokens
        return entry
