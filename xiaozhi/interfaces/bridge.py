"""Seams of the bridge: one session seen from the edge and from the AI service."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from zope.interface import Attribute, Interface

from xiaozhi.base.values import BridgeStatus
from xiaozhi.wire.messages import SessionOpen


class ISessionLink(Interface):
    """The handle for messages to the other side of a session."""

    dropped = Attribute("Messages of ours that were dropped so far, by reason.")
    sequence: int = Attribute(
        "Number of the last message sent; with the session's id before it, the message's id."
        " While messages wait: the number it will have if none of them is dropped."
    )

    def send(message: Any) -> None:
        """Send an ``Uplink`` from the edge, a ``Downlink`` from the AI service.

        In order, and once: what a broken stream has swallowed is sent again. Never
        blocks, never raises for a peer's fault.

        While the other side is away messages wait, bounded: audio by age,
        the rest by number; what is dropped is counted and reported.
        """

    def retract(unwanted: Callable[[Any], bool]) -> None:
        """Take messages back, as far as the other side has not received them.

        What it is not known to have received is not sent again; if it was received
        all the same, that stays so.

        :param unwanted: says which, of those that are not acknowledged.
        """

    def close(code: str, message: str) -> None:
        """End the session on both sides. Idempotent; nothing is received after."""

    def pause() -> None:
        """Take in no more audio than was granted to the other side already."""

    def resume() -> None:
        """Take :meth:`pause` back."""


class ISessionEvents(Interface):
    """Receives the messages of the other side of a session, in order, on the reactor."""

    def received(message: Any) -> None:
        """A message came: an ``Uplink`` at the AI service, a ``Downlink`` at the edge."""

    def pause_sending() -> None:
        """The other side takes little more audio: hold it back."""

    def resume_sending() -> None:
        """The other side can take audio again."""

    def interrupted() -> None:
        """At the edge only: the AI process was lost, and the running turn will not
        go on; or it stops and there is no other. The link stays usable and the
        session comes back by itself."""

    def restored() -> Sequence[Any]:
        """At the edge only: another AI process is about to take the session over.

        :return: the ``Uplink`` messages it must be told first to know what the
            device is doing.
        """

    def draining() -> None:
        """At the AI service only: the process stops soon. Close the link with the
        code ``moving`` as soon as nothing is going on."""

    def closed(code: str, message: str) -> None:
        """The other side ended the session; nothing follows."""


class IBridge(Interface):
    """The edge's way to AI sessions."""

    available: bool = Attribute("Whether an AI process would take a new session now.")

    def open(opening: SessionOpen, events: ISessionEvents) -> ISessionLink:
        """Open a session. Returns at once; messages wait if the AI is away."""

    def status() -> BridgeStatus:
        """How the bridge is."""


class ISessionAcceptor(Interface):
    """The AI service's side: makes a session when the edge opens one."""

    def accept(opening: SessionOpen, link: ISessionLink) -> ISessionEvents:
        """:param link: stays valid until ``closed`` is called on the result."""
