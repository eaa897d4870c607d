"""Seams of the bridge: a session, as seen from the edge and from the AI service.

The edge sends ``Uplink`` messages and receives ``Downlink`` messages; the AI service does the
reverse.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zope.interface import Attribute, Interface

from xiaozhi.base.values import BridgeStatus
from xiaozhi.wire.messages import Downlink, SessionOpen, Uplink


class ISessionLink(Interface):
    """A handle of a session: the methods that both sides share."""

    dropped = Attribute("Our messages that were dropped so far, by reason.")
    sequence: int = Attribute(
        "Number of the last message sent; with the session's id before it, the message's id."
        " While messages wait: the number it will have if none of them is dropped."
    )

    def close(code: str, message: str) -> None:
        """End the session on both sides. Idempotent; nothing is received afterwards."""

    def pause() -> None:
        """Grant the other side no further audio credit."""

    def resume() -> None:
        """Undo :meth:`pause`."""


class IEdgeLink(ISessionLink):
    """The edge's handle of a session."""

    def send(message: Uplink) -> None:
        """Send a message to the AI service, in order and once.

        A message lost with a broken stream is sent again. Never blocks; never raises for a
        fault of the other side. While the other side is away, messages wait; audio is bounded
        by age, other messages by number. Dropped messages are counted and reported.
        """

    def retract(unwanted: Callable[[object], bool]) -> None:
        """Withdraw messages that the AI service has not acknowledged.

        They are not sent again. A message that has arrived without an acknowledgement is not
        affected.

        :param unwanted: selects the messages.
        """


class IServiceLink(ISessionLink):
    """The AI service's handle of a session."""

    def send(message: Downlink) -> None:
        """Send a message to the edge; see :meth:`IEdgeLink.send`."""


class ISessionEvents(Interface):
    """Receives the events of a session on the reactor: the events that both sides share."""

    def pause_sending() -> None:
        """Stop sending audio: the other side has granted little more credit."""

    def resume_sending() -> None:
        """Send audio again: the other side has granted more credit."""

    def closed(code: str, message: str) -> None:
        """Handle the end of the session by the other side; nothing follows."""


class IEdgeEvents(ISessionEvents):
    """Receives the events of a session at the edge."""

    def received(message: Downlink) -> None:
        """Handle a message; messages arrive in order, each once."""

    def interrupted() -> None:
        """Handle the loss of the AI process, which ends the running turn, or its stop while
        there is no other. The link stays usable; the session resumes when a process is
        available."""

    def restored() -> Sequence[Uplink]:
        """Prepare for another AI process, which is about to serve the session.

        :return: messages for it to receive first, which describe the device's state.
        """


class IServiceEvents(ISessionEvents):
    """Receives the events of a session at the AI service."""

    def received(message: Uplink) -> None:
        """Handle a message; messages arrive in order, each once."""

    def draining() -> None:
        """Close the link with the code ``moving`` as soon as the session is idle: the process
        stops soon."""


class IBridge(Interface):
    """The edge's access to sessions at the AI service."""

    available: bool = Attribute("Whether an AI process would accept a new session now.")

    def open(opening: SessionOpen, events: IEdgeEvents) -> IEdgeLink:
        """Open a session. Returns at once; messages wait if the AI service is away."""

    def status() -> BridgeStatus:
        """Return the state of the bridge."""


class ISessionAcceptor(Interface):
    """Makes sessions at the AI service when the edge opens them."""

    def accept(opening: SessionOpen, link: IServiceLink) -> IServiceEvents:
        """Make a session.

        :param link: valid until ``closed`` is called on the result.
        :raises BridgeError: refuses the session; the edge receives the code.
        """
