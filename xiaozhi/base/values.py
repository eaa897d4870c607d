"""Values that providers, stores and sessions exchange."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any
from uuid import UUID

# --- sound and pictures -------------------------------------------------------


class Encoding(Enum):
    """Encoding of sound bytes."""

    PCM = "pcm_s16le"
    WAV = "wav"
    MP3 = "mp3"
    OGG_OPUS = "ogg_opus"


@dataclass(frozen=True, slots=True)
class SoundFormat:
    """Format of a synthesiser's output.

    :ivar sample_rate: Hz; needed only for PCM, containers state it.
    """

    encoding: Encoding = Encoding.PCM
    sample_rate: int = 16000
    channels: int = 1


@dataclass(frozen=True, slots=True)
class SentenceMark:
    """The next pieces of an incremental synthesiser's sound speak this text.

    :ivar text: as it was fed; empty: unknown.
    """

    text: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """An encoded picture whose header has been checked."""

    data: bytes
    media_type: str
    width: int
    height: int


# --- output of recognisers, models and tools ------------------------------------


@dataclass(frozen=True, slots=True)
class Transcript:
    """A recognised utterance. An empty text means no speech.

    :ivar language: BCP 47, empty if unknown.
    :ivar emotion: of the speaker's voice, named as devices name faces; empty: unknown.
    """

    text: str
    language: str = ""
    emotion: str = ""


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as offered to a language model.

    :ivar name: ``[A-Za-z0-9_-]{1,64}``; device names have had their dots
        replaced.
    :ivar parameters: a JSON schema of type object.
    :ivar title: the tool's name at its source; empty: the same.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    title: str = ""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's request to run a tool.

    :ivar arguments: a JSON object as text, as the model wrote it.
    """

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of an answer, in order, not aligned to words."""

    text: str


Delta = TextDelta | ToolCall


class Role(Enum):
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class Utterance:
    """One entry of a dialogue.

    :ivar calls: tools the assistant asked for in this entry.
    :ivar call_id: with :attr:`Role.TOOL`, the call this text answers.
    """

    role: Role
    text: str
    calls: tuple[ToolCall, ...] = ()
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class DialogueEntry:
    """A stored utterance of a person or of the assistant.

    :ivar id: from the writer, so that an entry written twice is stored once.
    :ivar at: aware; retention removes old entries by it.
    """

    id: UUID
    device_id: str
    at: datetime
    said: Utterance


class NoteKind(Enum):
    """A stored fact about a device apart from its dialogue."""

    ROLE = "role"
    SUMMARY = "summary"


@dataclass(frozen=True, slots=True)
class DeviceNote:
    """A fact about a device; the newest of its kind counts.

    :ivar id: from the writer, as for an entry.
    :ivar at: aware; retention removes old summaries by it.
    :ivar upto: for a summary, the last dialogue entry it covers.
    """

    id: UUID
    device_id: str
    at: datetime
    kind: NoteKind
    text: str
    upto: UUID | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """A summary of a dialogue.

    :ivar upto: the last entry it covers; None: not known.
    """

    text: str
    upto: UUID | None = None


@dataclass(frozen=True, slots=True)
class Recollection:
    """The dialogue before the running turn, as a model receives it.

    :ivar summary: of the dialogue before ``said``; may be empty.
    """

    said: tuple[Utterance, ...] = ()
    summary: str = ""


# --- the session log -------------------------------------------------------------


class SessionStatus(Enum):
    ACTIVE = "active"
    INACTIVE = "inactive"
    DISCONNECTED = "disconnected"


class LogDirection(Enum):
    """Direction seen from the server: inbound is from the device."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


@dataclass(frozen=True, slots=True)
class SessionStarted:
    """A row of ``device_sessions``. ``at`` is aware, in UTC, like every time here.

    :ivar node: the edge process that holds it.
    """

    session_id: str
    device_id: str
    client_id: str
    user_id: str
    at: datetime
    metadata: Mapping[str, Any] = field(default_factory=dict)
    node: str = ""


@dataclass(frozen=True, slots=True)
class SessionChanged:
    """A later state of a session: ``status`` and ``last_active_at``. A record older than
    the row changes nothing, unless it ends the session.
    """

    session_id: str
    status: SessionStatus
    at: datetime


@dataclass(frozen=True, slots=True)
class MessageLogged:
    """A row of ``message_logs``. ``id`` comes from the writer, so that a record written
    twice is one row.

    :ivar content: None if transcripts are not stored.
    :ivar device_id: the device whose share of the queue it uses; not in the row.
    """

    id: UUID
    session_id: str
    message_type: str
    direction: LogDirection
    content: str | None
    at: datetime
    device_id: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class EventLogged:
    """A row of ``connection_events``; ``id`` and ``device_id`` as in
    :class:`MessageLogged`."""

    id: UUID
    session_id: str
    event_type: str
    at: datetime
    data: Mapping[str, Any] = field(default_factory=dict)
    device_id: str = field(default="", compare=False)


LogRecord = SessionStarted | SessionChanged | MessageLogged | EventLogged


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A stored row of ``device_sessions``."""

    session_id: str
    device_id: str
    client_id: str
    user_id: str
    connected_at: datetime
    last_active_at: datetime
    status: SessionStatus
    metadata: Mapping[str, Any]
    node: str = ""


# --- presence -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Presence:
    """The connection of a device.

    :ivar node: name of the edge process.
    :ivar since: seconds since the epoch on that process's clock; for display only, never
        compared.
    """

    device_id: str
    session_id: str
    node: str
    since: float


@dataclass(frozen=True, slots=True)
class Receipt:
    """The outcome of a message posted to a device.

    :ivar delivered: it was sent to the device. False: it is stored or, if ``expires`` is 0,
        was dropped.
    :ivar node: the edge that holds the device; empty: none.
    :ivar expires: end of its storage for the device's next connection, in seconds since the
        epoch.
    """

    delivered: bool
    node: str = ""
    expires: float = 0.0


# --- health ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """State of one provider.

    :ivar name: its reference in the configuration.
    :ivar model: the vendor's name for the model that answers; may be empty.
    :ivar state: of its circuit breaker: ``closed``: in use; ``open``: not called after
        failures; ``half_open``: the next call decides.
    :ivar failures: in a row.
    :ivar wait: seconds until the next attempt.
    :ivar trouble: its last failure, for display; empty while it works.
    :ivar failed: attempts that failed since the start, by code.
    :ivar refused: features that the vendor refused and it no longer uses: ``tools``.
    :ivar capabilities: the abilities to show, see
        :meth:`~xiaozhi.base.capabilities.Capabilities.summary`.
    """

    kind: str
    name: str
    model: str
    state: str
    failures: int = 0
    wait: float = 0.0
    trouble: str = ""
    failed: Mapping[str, int] = field(default_factory=dict)
    refused: tuple[str, ...] = ()
    capabilities: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """One stream of the bridge.

    :ivar state: ``up``, ``opening``, ``waiting`` for the next attempt, or ``stopped``.
    :ivar round_trip: seconds, of the last heartbeat; None: none yet.
    :ivar outbox: items in flight to the network.
    :ivar reconnects: number of successful redials.
    :ivar last_error: reason of the last failure, for display.
    """

    state: str
    sessions: int
    round_trip: float | None
    outbox: int
    reconnects: int
    last_error: str = ""

    @property
    def up(self) -> bool:
        return self.state == "up"


@dataclass(frozen=True, slots=True)
class TargetStatus:
    """One AI process, as the edge sees it.

    :ivar address: ``host:port``.
    :ivar streams: one per slot, whether it is up or not.
    :ivar draining: it will stop and refuses new sessions.
    """

    address: str
    streams: tuple[StreamStatus, ...]
    draining: bool = False


@dataclass(frozen=True, slots=True)
class BridgeStatus:
    """The bridge, for ``/health`` and metrics.

    :ivar state: ``connected``: new sessions are accepted; ``connecting`` or ``disconnected``.
    :ivar streams: streams that are up.
    :ivar detail: per target, for ``/health``.
    :ivar waiting: sessions without a stream.
    :ivar outbox: items in flight to the network, of all streams.
    :ivar dropped: dropped messages by reason.
    :ivar targets: at the edge, the known AI processes.
    :ivar draining: at the AI service, whether it will stop.
    """

    state: str
    streams: int
    sessions: int
    detail: Mapping[str, Any] = field(default_factory=dict)
    waiting: int = 0
    outbox: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    targets: tuple[TargetStatus, ...] = ()
    draining: bool = False
