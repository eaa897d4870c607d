"""Sections of the configuration about agents."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from xiaozhi.agents.agent import DEFAULT
from xiaozhi.agents.settings import RoleSettings

Texts = str | tuple[str, ...]
Names = str | tuple[str, ...]
Factor = Annotated[float, Meta(ge=0.1, le=10)]


class Selected(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The provider of each kind, by name; their settings are under ``providers``.

    Several names make a failover group: each is used when those before it fail.
    """

    asr: Names = "sphinx"
    llm: Names = "intents"
    tts: Names = "espeak"
    vlllm: Names = "stand_in"
    vad: str = "webrtc"


class VoiceSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An agent's voice; fields that are not set keep the synthesiser's default.

    :ivar id: the vendor's name of a voice.
    :ivar rate: speech rate; 1: the voice's own. ``pitch`` and ``volume`` likewise.
    """

    id: str | UnsetType = UNSET
    rate: Factor | UnsetType = UNSET
    pitch: Factor | UnsetType = UNSET
    volume: Factor | UnsetType = UNSET


class ToolsSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The tools an agent may use: see :class:`~xiaozhi.base.toolpolicy.ToolPolicy`."""

    sources: tuple[str, ...] | UnsetType = UNSET
    allow: tuple[str, ...] | UnsetType = UNSET
    deny: tuple[str, ...] | UnsetType = UNSET
    confirm: tuple[str, ...] | UnsetType = UNSET


class MemorySection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The memory of an agent: fields of ``session.dialogue`` under shorter names.

    :ivar kind: ``session.dialogue.memory``; the others are named as there.
    """

    kind: Literal["none", "window", "summary"] | UnsetType = UNSET
    window: int | UnsetType = UNSET
    entries: int | UnsetType = UNSET
    summary: int | UnsetType = UNSET
    summary_timeout: float | UnsetType = UNSET


class AgentSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One agent: its differences from the agent it inherits from.

    :ivar name: name for people.
    :ivar inherits: id of another agent; ``default`` is ``session`` and ``selected``.
    :ivar prompt: description of the assistant: ``{role}`` of ``session.dialogue.prompt``.
    :ivar language: BCP 47, until the person has spoken.
    :ivar greeting: answer to a wake word.
    :ivar providers: references by kind, instead of those in ``selected``.
    :ivar listen: fields of ``session.listen``. The sections ``wake``, ``idle``, ``turn``,
        ``dialogue``, ``mcp``, ``speech`` and ``announce`` likewise.
    :ivar roles: roles instead of ``session.roles``; ``role`` is the first one.
    """

    name: str = ""
    inherits: str = DEFAULT
    prompt: str | UnsetType = UNSET
    language: str | UnsetType = UNSET
    greeting: Texts | UnsetType = UNSET
    providers: dict[str, Texts] = {}
    voice: VoiceSection = VoiceSection()
    memory: MemorySection = MemorySection()
    tools: ToolsSection = ToolsSection()
    roles: dict[str, RoleSettings] | UnsetType = UNSET
    role: str | UnsetType = UNSET
    listen: dict[str, Any] = {}
    wake: dict[str, Any] = {}
    idle: dict[str, Any] = {}
    turn: dict[str, Any] = {}
    dialogue: dict[str, Any] = {}
    mcp: dict[str, Any] = {}
    speech: dict[str, Any] = {}
    announce: dict[str, Any] = {}
