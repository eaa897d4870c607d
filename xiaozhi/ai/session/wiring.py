"""What a session is given of what all sessions share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from twisted.internet.defer import Deferred

from xiaozhi.agents.roles import Roles
from xiaozhi.ai.listening.listener import UtteranceListener
from xiaozhi.ai.llm.context import TurnContext
from xiaozhi.ai.memory.dialogue import Dialogue
from xiaozhi.ai.memory.summary import make_memory
from xiaozhi.ai.session.announcements import Announcements
from xiaozhi.ai.session.shared import SharedServices
from xiaozhi.ai.session.tools import SessionTools
from xiaozhi.ai.speech.output import SpeechOutput
from xiaozhi.ai.turn.turn import Turn
from xiaozhi.base.values import NoteKind, Role, Transcript
from xiaozhi.interfaces import IRecognition
from xiaozhi.languages.scripts import language_of
from xiaozhi.languages.talk import TalkLanguage
from xiaozhi.languages.texts import text
from xiaozhi.runtime.cancelling import Gate
from xiaozhi.wire.messages import Alert, Downlink, Language, SessionOpen


def ears_of(
    assistant: SharedServices,
    uttered: Callable[[IRecognition], None],
    voiced: Callable[[int], None],
    hushed: Callable[[], None],
    worded: Callable[[str], None],
) -> UtteranceListener:
    """What it hears with; the callbacks are those of :class:`UtteranceListener`."""
    providers, settings = assistant.providers, assistant.settings.listen
    activity = providers.vad.detector()
    return UtteranceListener(
        providers.asr, activity, settings, assistant.clock, uttered, voiced, hushed, worded
    )


def announcements_of(
    session_id: str,
    assistant: SharedServices,
    free: Callable[[], bool],
    begin: Callable[[Callable[[Turn], Awaitable[bool]]], None],
) -> Announcements:
    """What it is asked to say by others; the callbacks are those of :class:`Announcements`."""
    settings = assistant.settings
    most, announce = settings.announcements, settings.announce
    return Announcements(session_id, most, announce, assistant.clock, free, begin)


async def typed(words: str) -> Transcript:
    """What a person has typed, as if it had been recognised."""
    return Transcript(words)


def mouth_of(
    opening: SessionOpen, assistant: SharedServices, send: Callable[[Downlink], None], gate: Gate
) -> SpeechOutput:
    """What it speaks with, in the form its device wants.

    :param gate: closed while the edge asks to hold audio back.
    """
    assistant.rehearse(opening.downlink)
    return SpeechOutput(
        synthesizer=assistant.providers.tts,
        send=send,
        gate=gate,
        downlink=opening.downlink,
        offload=assistant.offload,
        clock=assistant.clock,
        settings=assistant.settings.speech,
        limits=assistant.settings.turn,
        phrases=assistant.phrases,
    )


def not_heard(language: str) -> Alert:
    """What the display says when sound was lost on its way."""
    return Alert(text("deaf_title", language), text("deaf", language), "confused")


def roles_of(opening: SessionOpen, assistant: SharedServices) -> Roles:
    """Who the assistant can be for its device."""
    keep = partial(assistant.history.note_device, opening.device.device_id, NoteKind.ROLE)
    return Roles(assistant.settings, opening.device, assistant.seconds, keep)


def mind_of(
    opening: SessionOpen,
    assistant: SharedServices,
    abilities: SessionTools,
    roles: Roles,
    send: Callable[[Downlink], None],
) -> TurnContext:
    """What it thinks with; what was said before is being looked up from now on."""
    settings = assistant.settings.dialogue
    device_id = opening.device.device_id
    model = assistant.providers.llm
    keep = partial(assistant.history.note_device, device_id, NoteKind.SUMMARY)
    dialogue = Dialogue(
        device_id,
        make_memory(settings, model, assistant.clock, opening.session_id, keep),
        roles,
        assistant.history,
        assistant.clock,
        settings.heard_timeout,
        settings.language,
    )
    talk = TalkLanguage(settings.language, lambda language: send(Language(language)))

    def recalled(_: None) -> None:
        asked = [entry.text for entry in dialogue.entries() if entry.role is Role.USER]
        if asked:
            talk.assume(language_of(asked[-1], settings.language))

    Deferred.fromCoroutine(dialogue.recall()).addCallback(recalled)
    return TurnContext(
        session_id=opening.session_id,
        model=model,
        dialogue=dialogue,
        toolbox=abilities.toolbox,
        describe=abilities.describe,
        tools_ready=abilities.ready,
        tools_wait=assistant.settings.mcp.ready,
        recall_wait=settings.load_timeout,
        language=settings.language,
        clock=assistant.clock,
        limits=assistant.settings.turn,
        counts=assistant.counts,
        talk=talk,
    )
