"""gRPC streams: the part that both sides share.

It decides only how many items may be in flight.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Any

import grpc.aio
from zope.interface import implementer

from xiaozhi.bridge.grpc.loop import AsyncioThread
from xiaozhi.bridge.items import AnyDirection, Item, batched, unbatched
from xiaozhi.bridge.settings import Limits
from xiaozhi.bridge.streams import IStream, IStreamListener

_EOF = grpc.aio.EOF  # type: ignore[attr-defined]  # the stubs do not know it

CHAT_STREAM = "/xiaozhi.v1.AIService/ChatStream"

# Items in flight to gRPC at which the writer must pause, and the number at which
# it resumes. gRPC itself takes one message
# at a time and stops when the other side's flow control window is full.
_HIGH = 1024
_LOW = 256

# Messages read ahead of the reactor. Beyond, reading stops, and gRPC's window stops the
# other side.
_AHEAD = 32

# Seconds that a stream closed here gets to send its last items.
_LAST_WORDS = 0.25


def channel_options(limits: Limits) -> list[tuple[str, Any]]:
    """Return gRPC options for both sides that permit each other's pings."""
    milliseconds = int(limits.keepalive * 1000)
    return [
        ("grpc.max_send_message_length", limits.max_message_bytes),
        ("grpc.max_receive_message_length", limits.max_message_bytes),
        ("grpc.keepalive_time_ms", milliseconds),
        ("grpc.keepalive_timeout_ms", int(limits.keepalive_timeout * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        # Permit a ping every second, whatever the other side configured.
        ("grpc.http2.min_ping_interval_without_data_ms", min(1000, milliseconds // 2)),
    ]


async def _at_once() -> None:
    pass


@implementer(IStream)
class GrpcStream:
    """One end of a stream: the reactor writes, the asyncio thread sends and receives.

    :param outgoing: and ``incoming``: requests or responses.
    """

    def __init__(
        self,
        thread: AsyncioThread,
        outgoing: AnyDirection,
        incoming: AnyDirection,
        max_bytes: int,
        remote: str = "",
    ) -> None:
        self.batching = False
        self.remote = remote
        self.listener: IStreamListener | None = None  # None once closed
        self._thread = thread
        self._crossings = thread.crossings
        self._reactor: Any = thread.reactor
        self._outgoing = outgoing
        self._incoming = incoming
        self._max_bytes = max_bytes
        # Written in this turn of the reactor, to cross to the other thread together: waking
        # it costs more than an item. Bounded by _HIGH over all items in flight.
        self._fresh: list[bytes] = []
        # Numbers of items; one counted on the reactor, one on the asyncio thread.
        self._written = 0
        self._sent = 0
        # Events for the reactor, in order; filled on the asyncio thread.
        self._news: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._telling = False
        # The rest belongs to the asyncio thread.
        self._queue: list[bytes] = []
        self._since = 0.0  # when the oldest of them was written
        self._wake = asyncio.Event()
        self._closing = False
        self._asked = False
        self._reader: asyncio.Future[None] | None = None
        self._reason = "the stream was cancelled"

    # --- IStream, on the reactor

    @property
    def pending(self) -> int:
        return self._written - self._sent

    def write(self, items: Sequence[bytes]) -> bool:
        if self.listener is None:
            return True
        self._written += len(items)
        if not self._fresh:
            self._reactor.callLater(0, self._hand_over, monotonic())
        self._fresh += items
        if self._written - self._sent < _HIGH:
            return True
        self._thread.post(self._ask)
        return False

    def close(self) -> None:
        if self.listener is not None:
            self.listener = None
            self._hand_over(monotonic())
            self._thread.post(self._close)

    def _hand_over(self, since: float) -> None:
        if self._fresh:
            items, self._fresh = self._fresh, []
            self._thread.post(self._enqueue, items, since)

    def _tell(self) -> None:
        """Deliver one event, then the next in a later turn: a burst of messages must not
        delay the pacing of sound.
        """
        if self._news:
            call, args = self._news.popleft()
            call(*args)
        if self._news:
            self._reactor.callLater(0, self._tell)
            return
        self._telling = False
        if self._news:  # between the two lines before
            self._telling = True
            self._reactor.callLater(0, self._tell)

    def _received(self, items: Sequence[Item], read_at: float) -> None:
        self._crossings.inward.observe(monotonic() - read_at)
        if self.listener is not None:
            self.listener.stream_received(items)

    def _writable(self) -> None:
        if self.listener is not None:
            self.listener.stream_writable()

    def _closed(self, reason: str) -> None:
        listener, self.listener = self.listener, None
        if listener is not None:
            listener.stream_closed(reason)

    # --- on the asyncio thread

    async def carry(
        self,
        read: Callable[[], Awaitable[Any]],
        write: Callable[[bytes], Awaitable[None]],
        hang_up: Callable[[], Awaitable[None]],
        ready: Callable[[], Awaitable[object]] = _at_once,
    ) -> None:
        """Send and receive until the stream ends; report the reason to the listener.

        :param read: returns ``grpc.aio.EOF`` at the end.
        :param hang_up: called after the last write when this side closes.
        :param ready: awaited before the first write.
        """
        self._reader = asyncio.ensure_future(self._read_all(read))
        writer = asyncio.ensure_future(self._write_all(write, hang_up, ready))
        try:
            await asyncio.wait({self._reader})
        finally:
            self._reader.cancel()
            writer.cancel()
            try:
                await asyncio.gather(self._reader, writer, return_exceptions=True)
            finally:
                # Also after another cancellation: the listener must be notified.
                self._report(self._closed, self._reason)

    def leave(self) -> None:
        """End :meth:`carry`."""
        if self._reader is not None:
            self._reader.cancel()

    async def _read_all(self, read: Callable[[], Awaitable[Any]]) -> None:
        """Read until the stream ends; return the reason."""
        try:
            ahead = 0
            while (item := await read()) is not _EOF:
                items = unbatched(self._incoming, item)
                self._report(self._received, items, monotonic())
                ahead += 1
                if ahead == _AHEAD:
                    ahead = 0
                    await self._reactor_follows()
            self._reason = "the other side hung up"
        except grpc.aio.AioRpcError as error:
            self._reason = one_line(error)
        except asyncio.InvalidStateError:
            self._reason = "the stream broke"

    def _report(self, call: Callable[..., None], *args: Any) -> None:
        self._news.append((call, args))
        if not self._telling:
            self._telling = True
            self._reactor.callFromThread(self._tell)

    async def _reactor_follows(self) -> None:
        """Wait until the reactor has processed everything read."""
        seen = asyncio.Event()
        self._report(self._thread.post, seen.set)
        await seen.wait()

    async def _write_all(
        self,
        write: Callable[[bytes], Awaitable[None]],
        hang_up: Callable[[], Awaitable[None]],
        ready: Callable[[], Awaitable[object]],
    ) -> None:
        """Write the queued items; items queued meanwhile join the next write."""
        # The reader notices a broken stream too, and has the reason.
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await ready()
            while not self._closing or self._queue:
                if not self._queue:
                    self._wake.clear()
                    await self._wake.wait()
                    continue
                items, self._queue = self._queue, []
                self._crossings.outward.observe(monotonic() - self._since)
                for message, count in batched(
                    self._outgoing, items, self.batching, self._max_bytes
                ):
                    await write(message)
                    self._sent += count
                    self._answer()
            await hang_up()

    def _enqueue(self, items: Sequence[bytes], written_at: float) -> None:
        if not self._queue:
            self._since = written_at
        self._queue.extend(items)
        self._wake.set()

    def _ask(self) -> None:
        self._asked = True
        self._answer()

    def _answer(self) -> None:
        if self._asked and self._written - self._sent <= _LOW:
            self._asked = False
            self._report(self._writable)

    def _close(self) -> None:
        self._closing = True
        self._wake.set()
        asyncio.get_running_loop().call_later(_LAST_WORDS, self.leave)


def one_line(error: grpc.aio.AioRpcError) -> str:
    """Describe a call's failure and the remedy in one line."""
    details = " ".join((error.details() or "").split())
    told = f"{error.code().name}: {details}"[:300]
    advice = next((advice for sign, advice in _ADVICE.items() if re.search(sign, told)), "")
    return f"{told}; {advice}" if advice else told


# By patterns in gRPC's message; the first match counts.
_ADVICE = {
    "CERTIFICATE_VERIFY_FAILED": "bridge.tls.ca_file must hold the authority that signed the AI"
    " service's certificate, and that must not have expired",
    "Hostname Verification": "set bridge.tls.server_name to a name that stands in the AI"
    " service's certificate",
    "WRONG_VERSION_NUMBER": "no TLS there: enable grpc.tls there or disable bridge.tls here",
    "failed to connect.*Socket closed": "if it wants TLS, set bridge.tls.enabled; if it wants a"
    " certificate signed by its grpc.tls.client_ca_file, set bridge.tls.certificate_file",
    "^UNAUTHENTICATED": "bridge.token here and grpc.token there must be the same",
    "^RESOURCE_EXHAUSTED.*streams": "too many streams come from this address: raise"
    " grpc.max_streams_per_peer there",
    "Connection refused": "start it there or set bridge.targets",
}
