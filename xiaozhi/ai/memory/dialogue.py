"""The dialogue of this session and earlier ones, as the model receives it."""

from __future__ import annotations

from collections import deque
from uuid import UUID

from twisted.internet.interfaces import IReactorTime

from xiaozhi.agents.roles import Roles
from xiaozhi.agents.settings import DialogueSettings
from xiaozhi.ai.memory.history import Forgetful, History
from xiaozhi.ai.memory.pending import Cut, PendingAnswer
from xiaozhi.base.values import DialogueEntry, NoteKind, Role, Summary, Utterance
from xiaozhi.interfaces import ILanguageModel, IMemory
from xiaozhi.languages.texts import text
from xiaozhi.runtime.cancelling import Gate


class Dialogue:
    """The dialogue with a device, headed by the system prompt.

    A question is written to the history at once; its answer follows when it is known how much
    of it was heard. The dialogue continues the device's earlier sessions from the history.

    :param memory: selects the part of the dialogue for the model.
    :param roles: provides the system prompt.
    :param settings: its language applies until the person has spoken.
    :ivar heard_timeout: see ``session.dialogue.heard_timeout``.
    :ivar recalled: opens when :meth:`recall` is complete, even if it found nothing.
    :ivar settled: open while only the running answer is pending.
    """

    def __init__(
        self,
        device_id: str,
        memory: IMemory,
        roles: Roles,
        history: History | Forgetful,
        clock: IReactorTime,
        settings: DialogueSettings,
    ) -> None:
        self.recalled = Gate(is_open=False)
        self.settled = Gate(is_open=True)
        self.heard_timeout = settings.heard_timeout
        self._device_id = device_id
        self._memory = memory
        self._roles = roles
        self._history = history
        self._clock = clock
        self._language = settings.language
        # Oldest first: answers that await the edge's playback report, then the running one.
        # Bound: the turns that can begin within `heard_timeout`.
        self._pending: deque[PendingAnswer] = deque()
        self._first: Utterance | None = None
        self._last: Utterance | None = None
        # Entries of this session that recall() may find in the history.
        self._own: set[UUID] = set()

    def adopt(self, roles: Roles, model: ILanguageModel, settings: DialogueSettings) -> None:
        """Continue the same dialogue with another agent's roles, model and settings."""
        self._roles = roles
        self.heard_timeout = settings.heard_timeout
        self._memory.adopt(model, settings)

    async def recall(self) -> None:
        """Load the dialogue of earlier sessions and prepend it to this session's."""
        older: list[DialogueEntry] = []
        for entry in await self._history.recall(self._device_id, self._memory.capacity):
            # A session that resumes repeats an unanswered question: keep it once.
            repeated = bool(older) and _same_question(older[-1].said, entry.said)
            if entry.id not in self._own and not repeated:
                older.append(entry)
        if older and _same_question(older[-1].said, self._first):
            older.pop()
        if older and self._last is None:
            self._last = older[-1].said
        notes = await self._history.notes(self._device_id)
        if (role := notes.get(NoteKind.ROLE)) is not None:
            self._roles.recalled(role.text)
        note = notes.get(NoteKind.SUMMARY)
        self._memory.recall(older, None if note is None else Summary(note.text, note.upto))
        self._own.clear()
        self.recalled.open()

    # --- a turn -----------------------------------------------------------------------

    def asked(self, words: str, turn: int, language: str) -> PendingAnswer:
        """Add the person's words, the beginning of a turn.

        :param turn: its number.
        :param language: BCP 47, of the words.
        :return: the turn's answer, to be filled and then ended by :meth:`answered` or :meth:`cut`.
        """
        self._language = language
        pending = PendingAnswer(turn, Utterance(Role.USER, words), language)
        self._pending.append(pending)
        if len(self._pending) == 1:
            self._note_question(pending)
        else:
            self.settled.close()
        return pending

    def answered(self, pending: PendingAnswer) -> None:
        """End a turn whose answer was played completely."""
        pending.settle(None)
        self._note_settled()

    def cut(self, pending: PendingAnswer, cut: Cut) -> None:
        """End a turn early.

        The dialogue keeps the part that the edge reports as played. Without a report within
        ``heard_timeout``, it keeps the estimate in ``cut``.
        """
        pending.cut = cut
        if pending.played_ms is not None:
            self._settle(pending)
        else:
            pending.timer = self._clock.callLater(self.heard_timeout, self._settle, pending)

    def played(self, turn: int, milliseconds: int) -> None:
        """Handle the edge's report of how much of an ended turn was played."""
        for pending in self._pending:
            if pending.turn == turn and not pending.settled:
                pending.played_ms = milliseconds
                if pending.cut is not None:
                    self._settle(pending)
                return

    def close(self) -> None:
        """End the session. A running turn stays without an answer: it is repeated when the
        session resumes."""
        self._memory.close()
        for pending in [*self._pending]:
            if pending.cut is not None and not pending.settled:
                pending.settle(pending.cut.script.heard(pending.cut.played_ms))
        self._note_settled()

    def _settle(self, pending: PendingAnswer) -> None:
        cut = pending.cut
        assert cut is not None
        played = cut.played_ms if pending.played_ms is None else pending.played_ms
        pending.settle(cut.script.heard(played), cut.otherwise)
        self._note_settled()

    def _note_settled(self) -> None:
        while self._pending and self._pending[0].settled:
            pending = self._pending.popleft()
            entries = [pending.entry] if pending.entry is not None else []
            entries += map(self._note, pending.answer)
            self._memory.note(entries, pending.language)
            if self._pending:
                self._note_question(self._pending[0])
        if len(self._pending) <= 1:
            self.settled.open()

    # --- for the model -----------------------------------------------------------------

    def entries(self) -> list[Utterance]:
        """Return the model's input: the system prompt, then the newest part of the dialogue.

        The dialogue begins with the person's words.
        """
        running = [
            each for pending in self._pending for each in (pending.question, *pending.answer)
        ]
        known = self._memory.before(running)
        said = list(known.said)
        if said and running and _same_question(said[-1], running[0]):
            said.pop()
        prompt = self._roles.prompt(self._language)
        if known.summary:
            prompt += "\n\n" + text("summary", self._language).format(summary=known.summary)
        return [Utterance(Role.SYSTEM, prompt), *said, *running]

    def _note_question(self, pending: PendingAnswer) -> None:
        if not _same_question(pending.question, self._last):
            pending.entry = self._note(pending.question)

    def _note(self, said: Utterance) -> DialogueEntry:
        entry = self._history.note(self._device_id, said)
        self._first = self._first or said
        self._last = said
        if not self.recalled.is_open:
            self._own.add(entry.id)
        return entry


def _same_question(one: Utterance, other: Utterance | None) -> bool:
    return one == other and one.role is Role.USER
