"""Send a reply piece by piece, no faster than the client reads it."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.web.http import Request
from zope.interface import implementer

from xiaozhi.web.replies import StreamReply


class ClientStalled(Exception):
    """The client has read no data for too long."""


@implementer(IPushProducer)
class _Valve:
    """Open while the connection accepts more data."""

    def __init__(self) -> None:
        self._opened: Deferred[None] | None = None

    def pauseProducing(self) -> None:
        if self._opened is None:
            self._opened = Deferred()

    def resumeProducing(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.callback(None)

    def stopProducing(self) -> None:
        """Do nothing: the request ends its work when the client disconnects."""

    async def passed(self, patience: float, clock: IReactorTime) -> None:
        """Wait until the valve is open.

        :raises ClientStalled: it stays closed for ``patience`` seconds.
        """
        if self._opened is not None:
            try:
                await self._opened.addTimeout(patience, clock)
            except DeferredTimeout as error:
                raise ClientStalled(f"the client read nothing for {patience:g} s") from error


async def send_stream(
    request: Request, reply: StreamReply, patience: float, clock: IReactorTime
) -> None:
    """Send the body of a reply whose status and headers are set.

    :param patience: maximum seconds in which the client reads no data.
    :raises ClientStalled: it read none for longer.
    """
    valve = _Valve()
    chunks: Any = reply.chunks
    request.registerProducer(valve, True)
    try:
        if request.method != b"HEAD":
            async for chunk in chunks:
                request.write(chunk)
                await valve.passed(patience, clock)
    finally:
        if not request._disconnected:
            request.unregisterProducer()
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()
    if not request._disconnected:
        request.finish()
