"""History: dialogues that outlive their sessions.

Entries are queued and written in the background, so no turn waits for the database. A process
that is killed loses its unwritten entries.
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
# Estimated bytes of an entry besides its text.
_ENTRY = 500
# Seconds for which /health reports a loss.
_RECENT = 60.0


def octets_of(entry: _Entry) -> int:
    """Return an estimate of an entry's memory in bytes."""
    if isinstance(entry, DeviceNote):
        return _ENTRY + 4 * len(entry.text)
    calls = sum(len(call.name) + len(call.arguments) for call in entry.said.calls)
    return _ENTRY + 4 * (len(entry.said.text) + calls)


class History:
    """Writes dialogue entries in order, one batch at a time, and loads them when a device
    opens its next session.

    At most ``capacity`` entries of ``capacity_bytes`` in total wait for the store; beyond that,
    the oldest entry of the device with the most is dropped. Nothing here fails or delays a turn.

    :ivar dropped: entries lost because the queue was full, the store rejected them, or they
        were unwritten at the end.
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
        """Return a message if entries were lost in the last minute, else an empty string."""
        if self._lost_at is None or self._clock.seconds() - self._lost_at > _RECENT:
            return ""
        return f"entries are being lost, {self.dropped} since the start; see the log"

    def _lose(self, count: int) -> None:
        self.dropped += count
        self._lost_at = self._clock.seconds()

    def trouble(self) -> str:
        """Return the reason why writing fails at present; empty while it works."""
        return self._trouble

    # --- for dialogues ------------------------------------------------------------

    def note(self, device_id: str, said: Utterance) -> DialogueEntry:
        """Queue an entry to be written. Never blocks, never raises."""
        text = cut(said.text, self._settings.max_entry_bytes)
        if text is not said.text:
            said = replace(said, text=text)
        entry = DialogueEntry(self._new_id(), device_id, self._now(), said)
        self._keep(entry)
        return entry

    def note_device(
        self, device_id: str, kind: NoteKind, words: str, upto: UUID | None = None
    ) -> None:
        """Queue a note about a device. Never blocks, never raises.

        :param upto: the last entry that a summary covers.
        """
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
        """Return up to ``limit`` of a device's newest entries within ``ttl``, oldest first,
        including unwritten ones. Never fails."""
        if not self._settings.ttl or not limit:
            return []
        since = self._since()
        unwritten = [e for e in self._unwritten(device_id) if isinstance(e, DialogueEntry)]
        found = await self._loaded(device_id, self._store.latest(device_id, limit, since))
        known = {entry.id for entry in found}
        found += [e for e in unwritten if e.id not in known and e.at >= since]
        return found[-limit:]

    async def notes(self, device_id: str) -> dict[NoteKind, DeviceNote]:
        """Return the newest note of each kind about a device, a summary only if it is within
        ``ttl``. Never fails."""
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
        """Open the store. If it is unreachable, retry in the background: conversations do not
        depend on it.

        :raises StoreError: the store is reachable but unusable.
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
        """Write the queued entries and close the store.

        :param timeout: seconds after which unwritten entries are dropped.
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
                    self._log.info("dialogue history: the store accepts entries again")
                    self._trouble = ""

    def _next_batch(self, size: int) -> bool:
        if not self._batch:
            taken = [self._waiting.popleft() for _ in range(min(size, len(self._waiting)))]
            self._batch = tuple(taken)
        return bool(self._batch)

    def _refused(self, error: StoreError) -> int:
        """Handle a rejected batch: drop a single entry; retry several one by one.

        :return: the size of the next batch.
        """
        if len(self._batch) > 1:
            for entry in reversed(self._batch):
                self._waiting.appendleft(entry, entry.device_id, octets_of(entry))
        else:
            self._lose(1)
            self._log.error(
                "dialogue history of {device_id}: the store rejected an entry, dropped: {error}",
                device_id=self._batch[0].device_id,
                error=str(error),
            )
        self._batch = ()
        return 1

    def _failed(self, error: Exception) -> None:
        if not self._trouble:
            self._log.warn("dialogue history: write failed, retrying: {error}", error=str(error))
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
    """Replaces :class:`History` for guests: keeps nothing and recalls nothing."""

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
