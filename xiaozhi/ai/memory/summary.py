"""Summary memory: the model summarises the dialogue before the window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from uuid import UUID

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from xiaozhi.agents.settings import DialogueSettings
from xiaozhi.ai.memory.window import WindowMemory
from xiaozhi.base import usage
from xiaozhi.base.errors import ProviderError, XiaozhiError
from xiaozhi.base.modeltext.reasoning import ThoughtFilter
from xiaozhi.base.values import DialogueEntry, Recollection, Role, Summary, TextDelta, Utterance
from xiaozhi.interfaces import ILanguageModel, IMemory
from xiaozhi.languages.scripts import is_word_border, tokens
from xiaozhi.languages.texts import text
from xiaozhi.runtime.cancelling import late, within

# Limit of one entry in the text to summarise, in tokens: a tool's result may be long.
_LONGEST = 300


@implementer(IMemory)
class SummaryMemory(WindowMemory):
    """The window, preceded by a summary of the earlier dialogue.

    When the dialogue exceeds the window at the end of a turn, the model summarises the older
    half in the background, one summary at a time. After a failure the dialogue is unchanged
    and a later turn retries. Up to twice the window is kept; beyond that, the oldest entries
    are dropped.

    :param keep: receives each new summary and the id of the last entry it covers.
    """

    _log = Logger()

    def __init__(
        self,
        settings: DialogueSettings,
        model: ILanguageModel,
        clock: IReactorTime,
        session_id: str,
        keep: Callable[[str, UUID], None],
    ) -> None:
        super().__init__(settings, times=2)
        self._settings = settings
        self._model = model
        self._clock = clock
        self._session_id = session_id
        self._keep = keep
        self._summary = ""
        self._writing: Deferred[None] | None = None
        self._failing = False
        # False before recall(), when the oldest entries are not known, and after close().
        self._may_write = False

    def recall(self, entries: Sequence[DialogueEntry], summary: Summary | None) -> None:
        known = [entry.id for entry in entries]
        if summary is not None and not self._summary:
            self._summary = summary.text
            if summary.upto in known:
                entries = entries[known.index(summary.upto) + 1 :]
        super().recall(entries, None)
        self._may_write = True

    def note(self, entries: Sequence[DialogueEntry], language: str) -> None:
        super().note(entries, language)
        if self._may_write and self._writing is None and (older := self._older()):
            # Its tokens do not count for the turn that has just ended.
            with usage.noting(None):
                self._writing = Deferred.fromCoroutine(self._write(older, language))
            self._writing.addBoth(self._written)

    def before(self, running: Sequence[Utterance]) -> Recollection:
        return replace(super().before(running), summary=self._summary)

    def adopt(self, model: ILanguageModel, settings: DialogueSettings) -> None:
        super().adopt(model, settings)
        self._model, self._settings = model, settings
        # The former model is released soon; a later turn starts the summary again.
        if self._writing is not None:
            self._writing.cancel()

    def close(self) -> None:
        self._may_write = False
        if self._writing is not None:
            self._writing.cancel()

    def _older(self) -> list[DialogueEntry]:
        """Return the entries to summarise now: whole turns, so that half of the window remains.

        Empty while the dialogue fits into the window.
        """
        if self._tokens <= self._window and len(self._kept) <= self._entries:
            return []
        tokens, entries = self._tokens, len(self._kept)
        older: list[DialogueEntry] = []
        begins = 0
        for entry, cost in self._kept:
            if entry.said.role is Role.USER:
                begins = len(older)
                if tokens <= self._window // 2 and entries <= self._entries // 2:
                    break
            older.append(entry)
            tokens -= cost
            entries -= 1
        return older[:begins]

    async def _write(self, older: list[DialogueEntry], language: str) -> None:
        settings = self._settings
        writing = self._ask(older, language)
        words = await within(settings.summary_timeout, self._clock, writing, late("summary"))
        if not words:
            raise ProviderError("no_summary", "the model wrote no summary", retryable=True)
        self._summary = words
        summarised = {entry.id for entry in older}
        while self._kept and self._kept[0][0].id in summarised:
            self._forget_oldest()
        self._keep(words, older[-1].id)

    async def _ask(self, older: list[DialogueEntry], language: str) -> str:
        most = self._settings.summary
        task = text("summary_task", language).format(words=most * 2 // 3)
        lines = [f"{each.said.role.value}: {_line(each.said.text)}" for each in older]
        earlier = "\n".join(filter(None, (self._summary, "", *lines)))
        dialogue = [Utterance(Role.SYSTEM, task), Utterance(Role.USER, earlier)]
        thoughts = ThoughtFilter()
        words = ""
        async with aclosing(self._model.reply(dialogue, [])) as deltas:
            async for delta in deltas:
                if isinstance(delta, TextDelta):
                    words += thoughts.feed(delta.text)
                # Stop a model that does not end.
                if len(words) > most * 8:
                    break
        return cut(" ".join((words + thoughts.finish()).split()), most)

    def _written(self, outcome: object) -> None:
        self._writing = None
        failure = outcome if isinstance(outcome, Failure) else None
        if failure is None:
            self._failing = False
        elif not failure.check(CancelledError, XiaozhiError):
            self._log.failure(
                "{session_id}: the summary raised an exception",
                failure,
                session_id=self._session_id,
            )
        elif not failure.check(CancelledError) and not self._failing:
            self._failing = True
            self._log.warn(
                "{session_id}: the dialogue was not summarised, retry after a later turn: {error}",
                session_id=self._session_id,
                error=failure.getErrorMessage(),
            )


def _line(words: str) -> str:
    return cut(" ".join(words.split()), _LONGEST)


def cut(words: str, most: int) -> str:
    """Cut a text to about ``most`` tokens, at a word border and with an ellipsis."""
    if tokens(words) <= most:
        return words
    words = words[: most * 4]
    while tokens(words) >= most:
        words = words[: len(words) * most // (tokens(words) + 1)]
    at = len(words)
    while not is_word_border(words + "x", at):
        at -= 1
    return words[:at].rstrip() + "…"
