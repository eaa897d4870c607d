"""Facilities of the process for tool sources; each source has its own share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from xiaozhi.base.errors import StoreError, ToolError
from xiaozhi.interfaces import IDeviceInbox, IToolStore, ToolHttp
from xiaozhi.tools.http import HttpFetcher
from xiaozhi.wire.mail import Mail

#: Maximum timers of one source.
TIMERS_LIMIT = 10_000
#: Maximum characters of a key and of an owner, and UTF-8 bytes of a value.
KEY_LIMIT, VALUE_LIMIT = 255, 65_536


@dataclass(slots=True)
class _Timer:
    call: IDelayedCall | None = None
    running: Deferred[None] | None = None


class SourceTimers:
    """The :class:`~xiaozhi.interfaces.ToolTimers` of one source."""

    _log = Logger()

    def __init__(self, source: str, clock: IReactorTime, most: int = TIMERS_LIMIT) -> None:
        self._source = source
        self._clock = clock
        self._most = most
        # Bound: `most`.
        self._timers: dict[int, _Timer] = {}
        self._last = 0
        self._stopped = False

    def after(self, seconds: float, work: Callable[[], Awaitable[None]]) -> Callable[[], None]:
        """See :class:`~xiaozhi.interfaces.ToolTimers`."""
        if self._stopped or len(self._timers) >= self._most:
            words = "it stops" if self._stopped else f"there are {self._most} timers already"
            raise ToolError("too_many_timers", f"{self._source}: {words}")
        self._last += 1
        number, timer = self._last, _Timer()
        self._timers[number] = timer

        def due() -> None:
            timer.call = None
            timer.running = Deferred.fromCoroutine(self._run(work))
            timer.running.addBoth(lambda _: self._timers.pop(number, None))

        timer.call = self._clock.callLater(max(0.0, seconds), due)

        def take_back() -> None:
            self._end(number)

        return take_back

    def stop(self) -> None:
        """Cancel all timers and accept no more. Idempotent."""
        self._stopped = True
        for number in tuple(self._timers):
            self._end(number)

    def _end(self, number: int) -> None:
        timer = self._timers.pop(number, None)
        if timer is None:
            return
        if timer.call is not None:
            timer.call.cancel()
        if timer.running is not None:
            timer.running.cancel()

    async def _run(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except CancelledError:
            return
        except Exception:
            self._log.failure("tools: a timer of {source} raised an exception", source=self._source)


class SourceValues:
    """The :class:`~xiaozhi.interfaces.ToolValues` of one source."""

    def __init__(self, source: str, store: IToolStore) -> None:
        self._source = source
        self._store = store

    def get(self, owner: str, key: str) -> Deferred[str | None]:
        """See :class:`~xiaozhi.interfaces.ToolValues`."""
        found: Deferred[str | None] = self._store.get(self._source, owner, key)
        return found

    def put(self, owner: str, key: str, value: str) -> Deferred[None]:
        """See :class:`~xiaozhi.interfaces.ToolValues`."""
        if not key or max(len(owner), len(key)) > KEY_LIMIT:
            return fail(
                StoreError("bad_key", f"{self._source}: a key or owner is empty or too long")
            )
        if len(value.encode("utf-8", "replace")) > VALUE_LIMIT:
            words = f"{self._source}: a value exceeds {VALUE_LIMIT} bytes"
            return fail(StoreError("value_too_large", words))
        done: Deferred[None] = self._store.put(self._source, owner, key, value)
        return done

    def remove(self, owner: str, key: str) -> Deferred[None]:
        """See :class:`~xiaozhi.interfaces.ToolValues`."""
        done: Deferred[None] = self._store.remove(self._source, owner, key)
        return done

    def of(self, owner: str) -> Deferred[dict[str, str]]:
        """See :class:`~xiaozhi.interfaces.ToolValues`."""
        found: Deferred[dict[str, str]] = self._store.of(self._source, owner)
        return found


class Mailbox:
    """A :class:`~xiaozhi.interfaces.ToolMailbox` over the devices' inboxes.

    :param inbox: None: this process cannot reach devices.
    """

    def __init__(self, inbox: IDeviceInbox | None) -> None:
        self._inbox = inbox

    def announce(self, device_id: str, words: str, ttl: float = 3600.0) -> Deferred[bool]:
        """See :class:`~xiaozhi.interfaces.ToolMailbox`."""
        return Deferred.fromCoroutine(self._announce(device_id, words, ttl))

    async def _announce(self, device_id: str, words: str, ttl: float) -> bool:
        if self._inbox is None:
            raise ToolError("no_mailbox", "devices are unreachable: presence.url is not set")
        if not words.strip():
            raise ToolError("no_words", "there is nothing to announce")
        try:
            receipt = await self._inbox.post(device_id, Mail(say=words), ttl)
        except StoreError as error:
            raise ToolError(error.code, "the device is unreachable now") from error
        return bool(receipt.delivered)


@dataclass(frozen=True, slots=True)
class SourceRuntime:
    """The :class:`~xiaozhi.interfaces.ToolRuntime` of one source."""

    clock: IReactorTime
    seconds: Callable[[], float]
    http: ToolHttp
    values: SourceValues
    timers: SourceTimers
    mailbox: Mailbox


@dataclass(frozen=True, slots=True)
class ToolFacilities:
    """The facilities of the process for all tool sources."""

    clock: IReactorTime
    seconds: Callable[[], float]
    http: ToolHttp
    store: IToolStore
    mailbox: Mailbox

    @classmethod
    def of(
        cls,
        reactor: Any,
        seconds: Callable[[], float],
        store: IToolStore,
        inbox: IDeviceInbox | None = None,
    ) -> ToolFacilities:
        """Make the facilities on a reactor.

        :param seconds: wall clock: seconds since the epoch.
        :param inbox: None: devices are unreachable outside a turn.
        """
        return cls(reactor, seconds, HttpFetcher(reactor), store, Mailbox(inbox))

    def runtime(self, source: str) -> SourceRuntime:
        """Make a source's share; stop its timers together with the source."""
        return SourceRuntime(
            self.clock,
            self.seconds,
            self.http,
            SourceValues(source, self.store),
            SourceTimers(source, self.clock),
            self.mailbox,
        )
