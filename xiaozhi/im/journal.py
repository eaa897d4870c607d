"""The write-behind log in front of the session store.

A device's message must not wait for a database. What happens is noted here at
once and written a moment later, in batches, again and again while the store is
away. What is noted in one session is written in that order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from xiaozhi.errors import StoreError
from xiaozhi.interfaces import ISessionStore
from xiaozhi.values import (
    Direction,
    EventLogged,
    LogRecord,
    MessageLogged,
    SessionChanged,
    SessionStarted,
    SessionStatus,
)
from xiaozhi.wire.messages import Device

_TICK = timedelta(microseconds=1)
_CLOCK_SLIP = timedelta(seconds=1)


class Journal:
    """Notes records and writes them behind.

    Bounded to ``capacity`` records, those being written included. Beyond it the
    oldest messages and events go first; rows of sessions, which the others refer
    to, only when there is nothing else. What is dropped is counted and reported.

    :ivar dropped: records lost since the start: for want of room, refused by the
        store, or unwritten at the end.
    """

    _log = Logger()

    def __init__(
        self,
        store: ISessionStore,
        clock: IReactorTime,
        *,
        keep_content: bool,
        flush_interval: float = 0.2,
        batch_size: int = 500,
        capacity: int = 10_000,
        retry_delays: tuple[float, float] = (0.5, 10.0),
        new_id: Callable[[], UUID] = uuid4,
    ) -> None:
        """
        :param keep_content: whether what was said is written, or only that it was.
        :param flush_interval: seconds the first record of a batch waits for others.
        :param batch_size: records to a transaction.
        :param retry_delays: seconds before the first retry, doubling up to the second.
        """
        self.dropped = 0
        self._store = store
        self._clock = clock
        self._keep_content = keep_content
        self._flush_interval = flush_interval
        self._batch_size = batch_size
        self._capacity = capacity
        self._retry_delays = retry_delays
        self._new_id = new_id
        self._sessions: deque[SessionStarted | SessionChanged] = deque()
        self._entries: deque[MessageLogged | EventLogged] = deque()
        self._batch: list[LogRecord] = []
        self._state = "idle"  # then started, stopping, stopped
        self._flush_call: IDelayedCall | None = None
        self._writing: Deferred[None] | None = None
        self._retry_call: IDelayedCall | None = None
        self._dropped_in_burst = 0
        self._failures = 0
        self._trouble = ""
        self._last_time = datetime.fromtimestamp(0, UTC)

    @property
    def pending(self) -> int:
        """Records not written yet."""
        return len(self._sessions) + len(self._entries) + len(self._batch)

    def trouble(self) -> str:
        """Why records are not written at present; empty while they are."""
        return self._trouble

    # --- noting -----------------------------------------------------------------

    def session_started(
        self, session_id: str, device: Device, metadata: Mapping[str, Any] | None = None
    ) -> None:
        """A device's session began."""
        self.record(
            SessionStarted(
                session_id,
                device.device_id,
                device.client_id,
                device.user_id,
                self._now(),
                dict(metadata or {}),
            )
        )

    def session_changed(self, session_id: str, status: SessionStatus) -> None:
        """A session went on, rested or ended."""
        self.record(SessionChanged(session_id, status, self._now()))

    def message(
        self, session_id: str, message_type: str, direction: Direction, content: str | None
    ) -> None:
        """A message went by.

        :param message_type: ``audio`` stands for a whole utterance; its content is
            figures, not what was said, and is always kept.
        """
        kept = content if self._keep_content or message_type == "audio" else None
        self.record(
            MessageLogged(self._new_id(), session_id, message_type, direction, kept, self._now())
        )

    def event(
        self, session_id: str, event_type: str, data: Mapping[str, Any] | None = None
    ) -> None:
        """Something happened to a connection."""
        self.record(
            EventLogged(self._new_id(), session_id, event_type, self._now(), dict(data or {}))
        )

    def record(self, record: LogRecord) -> None:
        """Note a record. Never blocks, never raises."""
        if self._state == "stopped":
            self.dropped += 1
            return
        if self.pending >= self._capacity and not self._make_room(record):
            return
        if isinstance(record, SessionStarted | SessionChanged):
            self._sessions.append(record)
        else:
            self._entries.append(record)
        self._schedule()

    # --- life -------------------------------------------------------------------

    def start(self) -> None:
        """Begin to write; what was noted before is written too."""
        self._state = "started"
        self._schedule()

    def stop(self, timeout: float = 5.0) -> Deferred[None]:
        """Write what there is and end. The Deferred never fails.

        :param timeout: seconds to wait for a store that does not take it.
        """
        if self._state != "started":
            self._finish()
            return succeed(None)
        self._state = "stopping"
        self._write()
        if self._retry_call is not None:
            self._retry_call.reset(0)
        ended: Deferred[None] = Deferred()
        if self._writing is None:
            self._finish()
            return succeed(None)
        writing = self._writing
        limit = self._clock.callLater(timeout, writing.cancel)

        def finished(_: object) -> None:
            if limit.active():
                limit.cancel()
            self._finish()
            ended.callback(None)

        writing.addBoth(finished)
        return ended

    def _finish(self) -> None:
        self._state = "stopped"
        if self._flush_call is not None:
            self._flush_call.cancel()
            self._flush_call = None
        if self.pending:
            self._log.warn("session log: {count} records were not written", count=self.pending)
            self.dropped += self.pending
        self._sessions.clear()
        self._entries.clear()
        self._batch.clear()

    # --- writing ----------------------------------------------------------------

    def _schedule(self) -> None:
        if self._state != "started" or self._writing is not None or not self.pending:
            return
        delay = 0.0 if self.pending >= self._batch_size else self._flush_interval
        if self._flush_call is None:
            self._flush_call = self._clock.callLater(delay, self._write)
        elif delay == 0.0 and self._flush_call.getTime() > self._clock.seconds():
            self._flush_call.reset(0)

    def _write(self) -> None:
        if self._flush_call is not None:
            if self._flush_call.active():
                self._flush_call.cancel()
            self._flush_call = None
        if self._writing is not None or not self.pending:
            return
        writing = Deferred.fromCoroutine(self._write_all())

        def written(result: object) -> None:
            self._writing = None
            self._schedule()

        self._writing = writing
        writing.addBoth(written)

    async def _write_all(self) -> None:
        """One transaction after the other until nothing is left.

        A batch the store refuses for its content is halved until the record at
        fault stands alone, and that one is dropped.
        """
        size = self._batch_size
        while self._fill_batch():
            part = tuple(self._batch[:size])
            try:
                await self._store.append(part)
            except CancelledError:
                raise
            except Exception as error:
                if isinstance(error, StoreError) and error.code != "store_rejected":
                    await self._wait_for_store(error)
                elif len(part) > 1:
                    size = len(part) // 2
                else:
                    self._refused(part[0], error)
                continue
            del self._batch[: len(part)]
            size = min(size * 2, self._batch_size)
            self._succeeded()

    def _fill_batch(self) -> bool:
        if not self._batch:
            # Sessions first: what else is in the batch may refer to them.
            while self._sessions and len(self._batch) < self._batch_size:
                self._batch.append(self._sessions.popleft())
            while self._entries and len(self._batch) < self._batch_size:
                self._batch.append(self._entries.popleft())
        return bool(self._batch)

    async def _wait_for_store(self, error: StoreError) -> None:
        if self._failures == 0:
            self._log.warn("session log: not written, will try again: {error}", error=str(error))
        first, longest = self._retry_delays
        delay = min(first * 2 ** min(self._failures, 30), longest)
        self._failures += 1
        self._trouble = error.message
        pause: Deferred[None] = Deferred(lambda _: call.cancel())
        call = self._retry_call = self._clock.callLater(delay, pause.callback, None)
        try:
            await pause
        finally:
            self._retry_call = None

    def _succeeded(self) -> None:
        if self._failures:
            self._log.info("session log: the store takes records again")
            self._failures = 0
            self._trouble = ""
        if self._dropped_in_burst:
            self._log.warn(
                "session log: {count} records were dropped while it was full",
                count=self._dropped_in_burst,
            )
            self._dropped_in_burst = 0

    def _refused(self, record: LogRecord, error: Exception) -> None:
        self._batch.pop(0)
        self.dropped += 1
        self._log.error(
            "session log: a {kind} of session {session_id} cannot be stored: {error}",
            kind=type(record).__name__,
            session_id=record.session_id,
            error=str(error),
        )

    def _make_room(self, record: LogRecord) -> bool:
        """:return: whether there is room now for this record."""
        if self._dropped_in_burst == 0:
            self._log.warn("session log: full, dropping the oldest records")
        self._dropped_in_burst += 1
        self.dropped += 1
        if self._entries:
            self._entries.popleft()
            return True
        if isinstance(record, SessionStarted | SessionChanged) and self._sessions:
            self._sessions.popleft()
            return True
        return False

    def _now(self) -> datetime:
        """The time, but no two alike: the store orders records by it."""
        now = datetime.fromtimestamp(self._clock.seconds(), UTC)
        # A clock that was really set back is believed.
        if timedelta(0) <= self._last_time - now < _CLOCK_SLIP:
            now = self._last_time + _TICK
        self._last_time = now
        return now
