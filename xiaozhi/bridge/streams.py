"""Interfaces between the bridge's decisions (reactor, clock) and its carriers (gRPC, memory).

All calls, both ways, are made on the reactor's thread.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from xiaozhi.bridge.items import Item


class IStream(Interface):
    """One end of a bidirectional stream."""

    batching: bool = Attribute("Set to True once the other side announced that it reads batches.")

    remote: str = Attribute("Address of the other side, without a port; empty: unknown.")

    pending: int = Attribute("Items written and still in flight.")

    def write(items: Sequence[bytes]) -> bool:
        """Send items in order. The stream owns the list from now on.

        Items written while an earlier write is in flight travel together.

        :return: False: the stream is full. It still accepts items, but the caller should
            wait for ``stream_writable``.
        """

    def close() -> None:
        """Send the written items, within a short grace time, and close.

        The listener receives no further events. Idempotent.
        """


class IStreamListener(Interface):
    """Receives the events of a stream."""

    def stream_received(items: Sequence[Item]) -> None:
        """Items arrived, in order, already unbatched."""

    def stream_writable() -> None:
        """The stream accepts items again, after a ``write`` that returned False."""

    def stream_closed(reason: str) -> None:
        """The stream failed or the other side hung up; nothing follows.

        :param reason: one line, for logs and status.
        """


class IDialer(Interface):
    """Makes streams from the edge to AI processes."""

    def start() -> Deferred[None]:
        """Prepare for dialling."""

    def stop() -> Deferred[None]:
        """Close the remaining streams; fires when all have ended."""

    def dial(target: str, listener: IStreamListener) -> IStream:
        """Dial; returns at once, and items may be written at once. An unreachable target
        leads to ``stream_closed``, never before this has returned.

        :param target: ``host:port``.
        """


class IStreamAcceptor(Interface):
    """Receives the new streams at the AI service."""

    def stream_opened(stream: IStream) -> IStreamListener:
        """Accept a new stream of an edge."""


class IStreamPort(Interface):
    """The AI service's port for streams of edges."""

    address: str = Attribute("``host:port`` as bound; empty before ``start``.")

    def start(acceptor: IStreamAcceptor) -> Deferred[None]:
        """Bind and listen.

        :raises BridgeError: through the Deferred; names the address.
        """

    def stop() -> Deferred[None]:
        """Stop listening and end all streams; fires when all have ended."""
