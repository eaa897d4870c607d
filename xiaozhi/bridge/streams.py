"""Between those who decide (reactor, clock) and those who carry (gRPC, memory).

All calls, both ways, are made on the reactor's thread.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from xiaozhi.bridge.items import Item


class IStream(Interface):
    """One bidirectional stream, as one end sees it."""

    batching: bool = Attribute("Set to True once the other side is known to take batches.")

    remote: str = Attribute("Address of the other side, without a port; empty: unknown.")

    pending: int = Attribute("Items written and not carried yet.")

    def write(items: Sequence[bytes]) -> bool:
        """Send, in order. The stream owns the list from now on.

        Items written while an earlier write is on its way travel together.

        :return: False: enough is on its way. More is still taken, but
            ``stream_writable`` will be called once there is room again.
        """

    def close() -> None:
        """Send what was written, if that can be done in a moment, and hang up.

        The listener hears nothing more. Idempotent.
        """


class IStreamListener(Interface):
    """Receives the events of a stream."""

    def stream_received(items: Sequence[Item]) -> None:
        """Items came, in order, out of their batch."""

    def stream_writable() -> None:
        """There is room after a ``write`` that returned False."""

    def stream_closed(reason: str) -> None:
        """The stream failed or the other side hung up; nothing follows.

        :param reason: one line for people.
        """


class IDialer(Interface):
    """Makes streams from the edge to AI processes."""

    def start() -> Deferred[None]:
        """Get ready to dial."""

    def stop() -> Deferred[None]:
        """Hang up whatever is left. Fires when nothing runs any more."""

    def dial(target: str, listener: IStreamListener) -> IStream:
        """Returns at once; items may be written at once. A target that cannot be
        reached shows as ``stream_closed``, never before this has returned.

        :param target: ``host:port``.
        """


class IStreamAcceptor(Interface):
    """Receives the new streams at the AI service."""

    def stream_opened(stream: IStream) -> IStreamListener:
        """An edge dialled in."""


class IStreamPort(Interface):
    """Where the AI service takes streams in."""

    address: str = Attribute("``host:port`` as bound; empty before ``start``.")

    def start(acceptor: IStreamAcceptor) -> Deferred[None]:
        """Bind and listen.

        :raises BridgeError: through the Deferred; names the address.
        """

    def stop() -> Deferred[None]:
        """End all streams and stop listening. Fires when nothing runs any more."""
