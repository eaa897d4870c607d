"""History: dialogues that outlive their sessions.

What is said is noted here at once and written behind: a turn waits for no
database, and a process that is killed loses what its last write had not reached.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import UUID

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from xiaozhi.agents.settings import HistorySettings
from xiaozhi.base.errors import StoreError
from xiaozhi.base.fairqueue import FairQueue, cut
from xiaozhi.base.ids import new_id
from xiaozhi.base.values import DeviceNote, DialogueEntry, NoteKind, Utterance
from xiaozhi.interfaces import IDialogueStore
from xiaozhi.runtime.periodic import PeriodicJob

T = TypeVar("T")
_Entry = DialogueEntry | DeviceNote

_RETRY_FIRST, _RETRY_LONGEST = 0.5, 10.0
_BATCH = 100
# Bytes that an entry takes beside its words, about.
_ENTRY = 500
# Seconds for which health tells of a loss.
_RECENT = 60.0


def octets_of(entry: _Entry) -> int:
    """Return about how many bytes of memory an entry takes."""
    if isinstance(entry, DeviceNote):
        return _ENTRY + 4 * len(entry.text)
    calls = sum(len(call.name) + len(call.arguments) for call in entry.said.calls)
    return _ENTRY + 4 * (len(entry.said.text) + calls)


class History:
    """Writes what is said in order, as soon as the write before is done, and gives it
    back when a device opens its next session.

    Bounded to ``capacity`` entries of ``capacity_bytes`` that wait for the store; beyond,
    the oldest of the device that has most is dropped. Nothing here fails or delays a turn.

    :ivar dropped: entries that will not be written: for want of room, refused by
        the store, or unwritten at the end.
    """

    _log = Logger()

    def __init__(
        self,
        store: IDialogueStore,
        clock: IReactorTime,
        seconds: Callable[[], float],
        settings: HistorySettings,
        *,
        new_id: Callable[[], UUID] = new_id,
    ) -> None:
        """:param seconds: wall clock: seconds since the epoch."""
        self.dropped = 0
        self._store = store
        self._clock = clock
        self._seconds = seconds
        self._settings = settings
        self._new_id = new_id
        self._waiting: FairQueue[_Entry] = FairQueue()
        self._lost_at: float | None = None
        self._batch: tuple[DialogueEntry | DeviceNote, ...] = ()
        self._state = "idle"  # then started, stopping, stopped
        self._is_open = False
        self._writing: Deferred[None] | None = None
        self._pause: Deferred[None] | None = None
        self._trouble = ""
        self._load_failing = False
        self._purging = PeriodicJob(
            "purging dialogues", self._purge, clock, interval=settings.purge_interval, first=60.0
        )

    @property
    def pending(self) -> int:
        """Entries not written yet."""
        return len(self._batch) + len(self._waiting)

    def loss(self) -> str:
        """A report of entries lost in the last minute; empty: none."""
        if self._lost_at is None or self._clock.seconds() - self._lost_at > _RECENT:
            return ""
        return f"entries are being lost, {self.dropped} since the start; see the log"

    def _lose(self, count: int) -> None:
        self.dropped += count
        self._lost_at = self._clock.seconds()

    def trouble(self) -> str:
        """Why nothing is written at present; empty while it is."""
        return self._trouble

    # --- for dialogues ------------------------------------------------------------

    def note(self, device_id: str, said: Utterance) -> DialogueEntry:
        """Keep an entry. Never blocks, never raises."""
        text = cut(said.text, self._settings.max_entry_bytes)
        if text is not said.text:
            said = replace(said, text=text)
        entry = DialogueEntry(self._new_id(), device_id, self._now(), said)
        self._keep(entry)
        return entry

    def note_device(
        self, device_id: str, kind: NoteKind, words: str, upto: UUID | None = None
    ) -> None:
        """Keep something about a device; as :meth:`note`."""
        self._keep(DeviceNote(self._new_id(), device_id, self._now(), kind, words, upto))

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._seconds(), UTC)

    def _keep(self, entry: DialogueEntry | DeviceNote) -> None:
        if self._state == "stopped":
            self._lose(1)
            return
        size, settings = octets_of(entry), self._settings
        while self._waiting and (
            self.pending >= settings.capacity
            or self._waiting.octets + size > settings.capacity_bytes
        ):
            self._waiting.drop()
            self._lose(1)
        self._waiting.append(entry, entry.device_id, size)
        self._write()

    async def recall(self, device_id: str, limit: int) -> list[DialogueEntry]:
        """Return the newest entries of a device that may be continued, including unwritten
        ones. Never fails."""
        if not self._settings.ttl or not limit:
            return []
        since = self._since()
        unwritten = [e for e in self._unwritten(device_id) if isinstance(e, DialogueEntry)]
        found = await self._loaded(device_id, self._store.latest(device_id, limit, since))
        known = {entry.id for entry in found}
        found += [e for e in unwritten if e.id not in known and e.at >= since]
        return found[-limit:]

    async def notes(self, device_id: str) -> dict[NoteKind, DeviceNote]:
        """Return the stored facts about a device; summaries only of dialogues that may
        continue. Never fails."""
        unwritten = [n for n in self._unwritten(device_id) if isinstance(n, DeviceNote)]
        found = await self._loaded(device_id, self._store.notes(device_id))
        known = {note.kind: note for note in (*found, *unwritten)}
        summary = known.get(NoteKind.SUMMARY)
        if summary is not None and (not self._settings.ttl or summary.at < self._since()):
            del known[NoteKind.SUMMARY]
        return known

    def _since(self) -> datetime:
        return self._now() - timedelta(seconds=self._settings.ttl)

    def _unwritten(self, device_id: str) -> list[DialogueEntry | DeviceNote]:
        return [e for e in (*self._batch, *self._waiting) if e.device_id == device_id]

    async def _loaded(self, device_id: str, loading: Deferred[list[T]]) -> list[T]:
        try:
            found = await loading
            self._load_failing = False
        except CancelledError:
            raise
        except Exception as error:
            found = []
            if not self._load_failing and not self._trouble:
                self._log.warn(
                    "dialogue history of {device_id}: not loaded: {error}",
                    device_id=device_id,
                    error=str(error),
                )
            self._load_failing = True
        return found

    # --- start and stop ----------------------------------------------------------------------

    async def start(self) -> None:
        """Open the store. One that cannot be reached is no reason not to talk: it is
        opened as soon as it can be.

        :raises StoreError: it can be reached but not be used.
        """
        try:
            await self._store.start()
            self._is_open = True
        except StoreError as error:
            if error.code != "store_unavailable":
                raise
            self._failed(error)
        self._state = "started"
        self._purging.start()
        self._write()

    async def stop(self, timeout: float = 5.0) -> None:
        """Write what there is and close the store.

        :param timeout: seconds to wait for a store that does not take it.
        """
        self._purging.stop()
        self._state = "stopping"
        if self._pause is not None and not self._pause.called:
            self._pause.callback(None)
        if self._writing is not None:
            await self._writing.addTimeout(timeout, self._clock)
        self._state = "stopped"
        if self.pending:
            self._log.warn("dialogue history: {count} entries were not written", count=self.pending)
            self._lose(self.pending)
            self._waiting.clear()
            self._batch = ()
        await self._store.stop()

    # --- writing --------------------------------------------------------------------

    def _write(self) -> None:
        if self._state != "started" or self._writing is not None:
            return
        if self._is_open and not self.pending:
            return
        writing = self._writing = Deferred.fromCoroutine(self._write_all())

        def written(_: object) -> None:
            self._writing = None
            self._write()

        writing.addBoth(written)

    async def _write_all(self) -> None:
        failures = 0
        size = _BATCH
        while not self._is_open or self._next_batch(size):
            try:
                if not self._is_open:
                    await self._store.start()
                    self._is_open = True
                else:
                    await self._store.append(self._batch)
                    self._batch = ()
                    size = _BATCH
            except CancelledError:
                raise
            except Exception as error:
                if isinstance(error, StoreError) and error.code == "store_rejected":
                    size = self._refused(error)
                    continue
                failures += 1
                self._failed(error)
                await self._retry_after(failures)
            else:
                failures = 0
                if self._trouble:
                    self._log.info("dialogue history: the store takes entries again")
                    self._trouble = ""

    def _next_batch(self, size: int) -> bool:
        if not self._batch:
            taken = [self._waiting.popleft() for _ in range(min(size, len(self._waiting)))]
            self._batch = tuple(taken)
        return bool(self._batch)

    def _refused(self, error: StoreError) -> int:
        """One of the batch cannot be kept: alone it is dropped, in company they are
        tried one by one. :return: the size of the next batch."""
        if len(self._batch) > 1:
            for entry in reversed(self._batch):
                self._waiting.appendleft(entry, entry.device_id, octets_of(entry))
        else:
            self._lose(1)
            self._log.error(
                "dialogue history of {device_id}: an entry cannot be kept: {error}",
                device_id=self._batch[0].device_id,
                error=str(error),
            )
        self._batch = ()
        return 1

    def _failed(self, error: Exception) -> None:
        if not self._trouble:
            self._log.warn(
                "dialogue history: not written, will try again: {error}", error=str(error)
            )
        self._trouble = error.message if isinstance(error, StoreError) else type(error).__name__

    async def _retry_after(self, failures: int) -> None:
        delay = min(_RETRY_FIRST * 2 ** min(failures - 1, 30), _RETRY_LONGEST)
        pause = self._pause = Deferred(lambda _: None)
        call = self._clock.callLater(delay, pause.callback, None)
        try:
            await pause
        finally:
            if call.active():
                call.cancel()
            self._pause = None

    def _purge(self, size: int) -> Deferred[int]:
        if not self._is_open or not self._settings.retention:
            return succeed(0)
        now = datetime.fromtimestamp(self._seconds(), UTC)
        return self._store.purge(now - timedelta(seconds=self._settings.retention), size)


class Forgetful:
    """In the place of a :class:`History` for sessions of devices that nobody holds:
    nothing that was said is kept or given back."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        """:param seconds: wall clock: seconds since the epoch."""
        self._seconds = seconds

    def note(self, device_id: str, said: Utterance) -> DialogueEntry:
        """See :class:`History`."""
        at = datetime.fromtimestamp(self._seconds(), UTC)
        return DialogueEntry(new_id(), device_id, at, said)

    def note_device(
        self, device_id: str, kind: NoteKind, words: str, upto: UUID | None = None
    ) -> None:
        """See :class:`History`."""

    async def recall(self, device_id: str, limit: int) -> list[DialogueEntry]:
        """See :class:`History`."""
        return []

    async def notes(self, device_id: str) -> dict[NoteKind, DeviceNote]:
        """See :class:`History`."""
        return {}
