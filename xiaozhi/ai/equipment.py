"""What a session is given of what all sessions share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from twisted.internet.defer import Deferred

from xiaozhi.ai.assistant import Assistant
from xiaozhi.ai.remembering.dialogue import Dialogue
from xiaozhi.ai.remembering.summary import make_memory
from xiaozhi.ai.scripts import language_of
from xiaozhi.ai.speaking.speech import Mouth
from xiaozhi.ai.talklanguage import TalkLanguage
from xiaozhi.ai.texts import text
from xiaozhi.ai.thinking.abilities import Abilities
from xiaozhi.ai.thinking.mind import Mind
from xiaozhi.ai.thinking.roles import Roles
from xiaozhi.ai.waiting import Gate
from xiaozhi.values import NoteKind, Role
from xiaozhi.wire.messages import Alert, Downlink, Language, SessionOpen


def mouth_of(
    opening: SessionOpen, assistant: Assistant, send: Callable[[Downlink], None], gate: Gate
) -> Mouth:
    """What it speaks with, in the form its device wants.

    :param gate: closed while the edge asks to hold audio back.
    """
    assistant.rehearse(opening.downlink)
    return Mouth(
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


def roles_of(opening: SessionOpen, assistant: Assistant) -> Roles:
    """Who the assistant can be for its device."""
    keep = partial(assistant.history.note_device, opening.device.device_id, NoteKind.ROLE)
    return Roles(assistant.settings, opening.device, assistant.seconds, keep)


def mind_of(
    opening: SessionOpen,
    assistant: Assistant,
    abilities: Abilities,
    roles: Roles,
    send: Callable[[Downlink], None],
) -> Mind:
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
    return Mind(
        session_id=opening.session_id,
        model=model,
        dialogue=dialogue,
        toolbox=abilities.toolbox,
        tools_ready=abilities.ready,
        tools_wait=assistant.settings.mcp.ready,
        recall_wait=settings.load_timeout,
        language=settings.language,
        clock=assistant.clock,
        limits=assistant.settings.turn,
        counts=assistant.counts,
        talk=talk,
    )
