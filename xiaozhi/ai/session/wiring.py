"""Session wiring: builds the parts of a conversation from the services of its agent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Protocol

from twisted.internet.defer import Deferred
from zope.interface import implementer

from xiaozhi.agents.roles import Roles
from xiaozhi.ai.listening.echo import EchoGuard
from xiaozhi.ai.listening.listener import UtteranceEvents, UtteranceListener
from xiaozhi.ai.llm.context import TurnContext
from xiaozhi.ai.memory.dialogue import Dialogue
from xiaozhi.ai.memory.selected import SelectedMemory
from xiaozhi.ai.session.services import call_context
from xiaozhi.ai.session.shared import SessionServices
from xiaozhi.ai.session.tools import SessionTools
from xiaozhi.ai.speech.output import SpeechOutput
from xiaozhi.ai.turn.announcements import Announcements, AnnouncementTurns
from xiaozhi.base.call import CallContext, calling
from xiaozhi.base.values import NoteKind, Role, Transcript
from xiaozhi.interfaces import IRecognition, IRecognizer
from xiaozhi.languages.scripts import language_of
from xiaozhi.languages.talk import TalkLanguage
from xiaozhi.languages.texts import text
from xiaozhi.runtime.cancelling import Gate
from xiaozhi.wire.messages import Alert, Downlink, Language, SessionOpen


class EdgeSide(Protocol):
    """The session's connection to its edge."""

    @property
    def gate(self) -> Gate:
        """Closed while the edge has paused audio."""

    def send(self, message: Downlink) -> None:
        """Send a message to the edge."""

    def end(self, code: str) -> None:
        """End the session on both sides."""


@implementer(IRecognizer)
class ContextRecognizer:
    """Recogniser that is called in the context of a session.

    :param call: returns the context.
    """

    def __init__(self, recognizer: IRecognizer, call: Callable[[], CallContext]) -> None:
        self._recognizer = recognizer
        self._call = call

    def recognition(self, interim: Callable[[str], None] | None = None) -> IRecognition:
        with calling(self._call()):
            recognition: IRecognition = self._recognizer.recognition(interim)
        return recognition

    def close(self) -> Deferred[None]:
        closed: Deferred[None] = self._recognizer.close()
        return closed


def make_listener(
    shared: SessionServices, call: Callable[[], CallContext], events: UtteranceEvents
) -> UtteranceListener:
    """Make the utterance listener of a session."""
    agent = shared.agent
    recognizer = ContextRecognizer(agent.asr, call)
    listen = agent.settings.listen
    return UtteranceListener(recognizer, agent.vad.detector(), listen, shared.clock, events)


def make_announcements(
    session_id: str, shared: SessionServices, turns: AnnouncementTurns
) -> Announcements:
    """Make the queue of announcements of a session."""
    settings = shared.settings
    return Announcements(session_id, settings.announcements, settings.announce, shared.clock, turns)


async def typed(words: str) -> Transcript:
    """Return typed words as a transcript."""
    return Transcript(words)


def make_output(opening: SessionOpen, shared: SessionServices, end: EdgeSide) -> SpeechOutput:
    """Make the speech output of a session, in the format of its device."""
    agent = shared.agent
    agent.prewarm(opening.downlink)
    return SpeechOutput(
        synthesizer=agent.tts,
        send=end.send,
        gate=end.gate,
        downlink=opening.downlink,
        offload=shared.runtime.offload,
        clock=shared.clock,
        settings=agent.settings.speech,
        limits=agent.settings.turn,
        phrases=agent.phrases,
    )


def sound_lost(language: str) -> Alert:
    """Return an alert that some of the person's speech was lost."""
    return Alert(text("deaf_title", language), text("deaf", language), "confused")


def make_roles(opening: SessionOpen, shared: SessionServices) -> Roles:
    """Make the roles of the agent for a device."""
    keep = partial(shared.history.note_device, opening.device.device_id, NoteKind.ROLE)
    return Roles(shared.settings, opening.device, shared.runtime.seconds, keep)


def make_dialogue(
    opening: SessionOpen, shared: SessionServices, roles: Roles, talk: TalkLanguage
) -> Dialogue:
    """Make the dialogue of a session and start to load that of earlier ones."""
    settings = shared.settings.dialogue
    keep = partial(shared.history.note_device, opening.device.device_id, NoteKind.SUMMARY)
    model = shared.agent.llm
    dialogue = Dialogue(
        opening.device.device_id,
        SelectedMemory(settings, model, shared.clock, opening.session_id, keep),
        roles,
        shared.history,
        shared.clock,
        settings,
    )

    def recalled(_: None) -> None:
        asked = [entry.text for entry in dialogue.entries() if entry.role is Role.USER]
        if asked:
            talk.assume(language_of(asked[-1], settings.language))

    Deferred.fromCoroutine(dialogue.recall()).addCallback(recalled)
    return dialogue


def make_context(
    opening: SessionOpen, shared: SessionServices, tools: SessionTools, roles: Roles, end: EdgeSide
) -> TurnContext:
    """Make the turn context of a session."""
    settings = shared.settings
    send = end.send
    talk = TalkLanguage(settings.dialogue.language, lambda language: send(Language(language)))
    return TurnContext(
        session_id=opening.session_id,
        model=shared.agent.llm,
        dialogue=make_dialogue(opening, shared, roles, talk),
        toolbox=tools.toolbox,
        tools_ready=tools.ready,
        tools_wait=settings.mcp.ready,
        recall_wait=settings.dialogue.load_timeout,
        language=settings.dialogue.language,
        clock=shared.clock,
        limits=settings.turn,
        counts=shared.counts,
        talk=talk,
        describe=tools.describe,
        confirms=tools.confirms,
        echo=EchoGuard(shared.clock, settings.turn.echo),
        call=partial(_call, opening, shared, talk),
    )


def _call(opening: SessionOpen, shared: SessionServices, talk: TalkLanguage) -> CallContext:
    return call_context(opening, shared.agent.agent, talk.current)


def adopted_context(
    former: TurnContext, opening: SessionOpen, shared: SessionServices
) -> TurnContext:
    """Make the turn context for another agent; keep the dialogue, the device's tools, the
    language and the echo guard."""
    settings = shared.settings
    return replace(
        former,
        model=shared.agent.llm,
        tools_wait=settings.mcp.ready,
        recall_wait=settings.dialogue.load_timeout,
        language=settings.dialogue.language,
        limits=settings.turn,
        call=partial(_call, opening, shared, former.talk),
    )
