"""Session of a device at the AI service: opening, change of agents, end."""

from __future__ import annotations

from twisted.logger import Logger
from zope.interface import implementer

from xiaozhi.ai.session.conversation import Conversation
from xiaozhi.ai.session.leases import AgentSearch, Leases
from xiaozhi.ai.session.services import AgentServices
from xiaozhi.ai.session.shared import SharedServices
from xiaozhi.ai.session.states import SessionState
from xiaozhi.base import trace
from xiaozhi.interfaces import IServiceEvents, IServiceLink
from xiaozhi.runtime.cancelling import Gate
from xiaozhi.wire.messages import Audio, Downlink, SessionOpen, Uplink


@implementer(IServiceEvents)
class Session:
    """A session, as the bridge sees it.

    Messages wait in the inbox until the session's agent is known; then a conversation
    handles them. It adopts later changes of the agent at its next turn.

    :param leases: finds the agent that serves the device.
    :ivar gate: closed while the edge has paused audio.
    """

    _log = Logger()

    def __init__(
        self,
        opening: SessionOpen,
        link: IServiceLink,
        shared: SharedServices,
        leases: Leases,
    ) -> None:
        self.gate = Gate(is_open=True)
        self._opening = opening
        self._link = link
        self._shared = shared
        self._counts = shared.counts
        self._closed = self._draining = False
        self._conversation: Conversation | None = None
        session_id, device = opening.session_id, opening.device
        self._search = AgentSearch(session_id, device, leases, shared.clock, self)
        self._inbox = shared.runtime.scheduler.inbox(self._search.hurry)
        self._search.start(shared.runtime.agent_wait)

    @property
    def state(self) -> SessionState:
        """The state of the conversation; idle until the agent is known."""
        if self._closed:
            return SessionState.CLOSED
        return SessionState.IDLE if self._conversation is None else self._conversation.state

    # --- the agent

    def serve(self, services: AgentServices) -> None:
        """Open the session with its first agent and handle the queued messages."""
        shared = self._shared.serving(services)
        try:
            conversation = self._conversation = Conversation(self._opening, shared, self)
        except Exception:
            self._log.failure(
                "{session_id}: no conversation with agent {agent}, the session ends",
                session_id=self._opening.session_id,
                agent=services.agent.id,
            )
            services.release()
            # Later: the bridge may not know the session yet.
            self._shared.clock.callLater(0, self.end, "internal_error")
            return
        self._inbox.open(conversation)
        if self._draining:
            conversation.draining()

    def adopt(self, services: AgentServices) -> None:
        """Switch to another agent, or another version of it, at the next turn."""
        assert self._conversation is not None
        self._conversation.adopt(services)

    # --- from the edge

    def received(self, message: Uplink) -> None:
        self._inbox.put(message, trace.current())

    def pause_sending(self) -> None:
        self.gate.close()

    def resume_sending(self) -> None:
        self.gate.open()

    def draining(self) -> None:
        self._draining = True
        if self._conversation is not None:
            self._conversation.draining()

    def closed(self, code: str, message: str) -> None:
        """Stop all work: the session is over."""
        if self._closed:
            return
        self._closed = True
        self._inbox.clear()
        self._search.close()
        conversation, self._conversation = self._conversation, None
        if conversation is not None:
            conversation.close()

    # --- to the edge

    def send(self, message: Downlink) -> None:
        """Send a message to the edge."""
        if type(message) is not Audio:
            self._counts.messages.add("down", type(message).__name__.lower())
        self._link.send(message)

    def end(self, code: str) -> None:
        """End the session on both sides at once."""
        self.closed(code, "")
        self._link.close(code, "")
