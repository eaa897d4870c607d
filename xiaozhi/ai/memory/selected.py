"""The memory that an agent's settings select."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from xiaozhi.agents.settings import DialogueSettings
from xiaozhi.ai.memory.summary import SummaryMemory
from xiaozhi.ai.memory.window import NoMemory, WindowMemory
from xiaozhi.base.values import DialogueEntry, Recollection, Summary, Utterance
from xiaozhi.interfaces import ILanguageModel, IMemory


@implementer(IMemory)
class SelectedMemory:
    """Memory of the kind in ``session.dialogue.memory``.

    When the session switches to an agent with another kind, the new memory receives the kept
    entries and the latest summary.

    :param keep: see :class:`~xiaozhi.ai.memory.summary.SummaryMemory`.
    """

    def __init__(
        self,
        settings: DialogueSettings,
        model: ILanguageModel,
        clock: IReactorTime,
        session_id: str,
        keep: Callable[[str, UUID], None],
    ) -> None:
        self._clock = clock
        self._session_id = session_id
        self._keep = keep
        self._summary: Summary | None = None
        self._recalled = False
        self._kind = settings.memory
        self._memory = self._made(settings, model)

    @property
    def capacity(self) -> int:
        return int(self._memory.capacity)

    def recall(self, entries: Sequence[DialogueEntry], summary: Summary | None) -> None:
        self._recalled, self._summary = True, summary
        self._memory.recall(entries, summary)

    def note(self, entries: Sequence[DialogueEntry], language: str) -> None:
        self._memory.note(entries, language)

    def before(self, running: Sequence[Utterance]) -> Recollection:
        before: Recollection = self._memory.before(running)
        return before

    def kept(self) -> Sequence[DialogueEntry]:
        kept: Sequence[DialogueEntry] = self._memory.kept()
        return kept

    def adopt(self, model: ILanguageModel, settings: DialogueSettings) -> None:
        if settings.memory == self._kind:
            self._memory.adopt(model, settings)
            return
        former, self._memory = self._memory, self._made(settings, model)
        self._kind = settings.memory
        former.close()
        if self._recalled:
            self._memory.recall(former.kept(), self._summary)
        else:
            self._memory.note(former.kept(), settings.language)

    def close(self) -> None:
        self._memory.close()

    def _made(self, settings: DialogueSettings, model: ILanguageModel) -> IMemory:
        if settings.memory == "none":
            return NoMemory()
        if settings.memory == "window":
            return WindowMemory(settings)
        return SummaryMemory(settings, model, self._clock, self._session_id, self._summarised)

    def _summarised(self, words: str, upto: UUID) -> None:
        self._summary = Summary(words, upto)
        self._keep(words, upto)
