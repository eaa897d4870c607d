"""Seams of the bridge: one session seen from the edge and from the AI service.

The edge sends ``Uplink`` messages and receives ``Downlink`` messages, the AI service the
other way round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zope.interface import Attribute, Interface

from xiaozhi.base.values import BridgeStatus
from xiaozhi.wire.messages import Downlink, SessionOpen, Uplink


class ISessionLink(Interface):
    """The handle of one side of a session: what both sides have in common."""

    dropped = Attribute("Messages of ours that were dropped so far, by reason.")
    sequence: int = Attribute(
        "Number of the last message sent; with the session's id before it, the message's id."
        " While messages wait: the number it will have if none of them is dropped."
    )

    def close(code: str, message: str) -> None:
        """End the session on both sides. Idempotent; nothing is received after."""

    def pause() -> None:
        """Accept no more audio than was already granted to the other side."""

    def resume() -> None:
        """Undo :meth:`pause`."""


class IEdgeLink(ISessionLink):
    """The edge's handle of a session."""

    def send(message: Uplink) -> None:
        """Send a message to the AI service, in order and once.

        A message lost with a broken stream is sent again. Never blocks; never raises for a
        fault of the other side. While the other side is away messages wait, bounded: audio
        by age, the rest by number. Dropped messages are counted and reported.
        """

    def retract(unwanted: Callable[[object], bool]) -> None:
        """Take messages back unless the AI service has acknowledged them.

        They are not sent again. One that has arrived without an acknowledgement stays
        there.

        :param unwanted: selects messages.
        """


class IServiceLink(ISessionLink):
    """The AI service's handle of a session."""

    def send(message: Downlink) -> None:
        """Send a message to the edge; see :meth:`IEdgeLink.send`."""


class ISessionEvents(Interface):
    """Receives the events of a session on the reactor: what both sides have in common."""

    def pause_sending() -> None:
        """The other side accepts little more audio: hold it back."""

    def resume_sending() -> None:
        """The other side accepts audio again."""

    def closed(code: str, message: str) -> None:
        """The other side ended the session; nothing follows."""


class IEdgeEvents(ISessionEvents):
    """Receives the events of a session at the edge."""

    def received(message: Downlink) -> None:
        """A message arrived; messages come in order, each once."""

    def interrupted() -> None:
        """The AI process was lost and the running turn ends; or it stops and there is no
        other. The link stays usable; the session resumes when a process is available."""

    def restored() -> Sequence[Uplink]:
        """Another AI process is about to serve the session.

        :return: messages for it to receive first, so that it knows what the device does.
        """


class IServiceEvents(ISessionEvents):
    """Receives the events of a session at the AI service."""

    def received(message: Uplink) -> None:
        """A message arrived; messages come in order, each once."""

    def draining() -> None:
        """The process stops soon: close the link with the code ``moving`` as soon as the
        session is idle."""


class IBridge(Interface):
    """The edge's way to AI sessions."""

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
        :raises BridgeError: refuses it; the edge receives the code.
        """
