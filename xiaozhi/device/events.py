"""Events of a software device, for observers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum


class TalkState(Enum):
    """The states of a talk (§4.3)."""

    IDLE = "idle"
    CONNECTING = "connecting"
    LISTENING = "listening"
    SPEAKING = "speaking"


# Anything else is refused and logged (§4.3).
ALLOWED: dict[TalkState, frozenset[TalkState]] = {
    TalkState.IDLE: frozenset({TalkState.CONNECTING, TalkState.LISTENING, TalkState.SPEAKING}),
    TalkState.CONNECTING: frozenset({TalkState.LISTENING, TalkState.IDLE}),
    TalkState.LISTENING: frozenset({TalkState.SPEAKING, TalkState.IDLE}),
    TalkState.SPEAKING: frozenset({TalkState.LISTENING, TalkState.IDLE}),
}


@dataclass(frozen=True, slots=True)
class StateChanged:
    state: TalkState


@dataclass(frozen=True, slots=True)
class Connected:
    """The server's hello is here.

    :ivar sample_rate: Hz of what the server will send.
    """

    session_id: str
    sample_rate: int
    frame_duration: int


@dataclass(frozen=True, slots=True)
class ListeningStarted:
    """``listen start`` went out."""

    mode: str


@dataclass(frozen=True, slots=True)
class Heard:
    """``stt``: what the server understood."""

    text: str


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """``tts start``."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """``tts sentence_start``."""

    text: str


@dataclass(frozen=True, slots=True)
class PacketPlayed:
    """An Opus packet was accepted for playing.

    :ivar gap_ms: silence the listener heard before it; 0 for the first.
    """

    payload: bytes
    duration_ms: float
    gap_ms: float


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """``tts stop``.

    :ivar stray: it came outside speaking and had no effect.
    """

    stray: bool


@dataclass(frozen=True, slots=True)
class Drained:
    """The last packet that was there has been played out."""


@dataclass(frozen=True, slots=True)
class Face:
    """``llm``: the face to show."""

    emotion: str


@dataclass(frozen=True, slots=True)
class ToolCalled:
    """The server ran a tool of this device.

    :ivar result: the result's text, or the error's message.
    """

    name: str
    arguments: str
    result: str
    failed: bool


@dataclass(frozen=True, slots=True)
class Alerted:
    """``alert``, shown with a sound."""

    status: str
    message: str
    emotion: str


@dataclass(frozen=True, slots=True)
class ServerError:
    """The server did not like something we sent."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something the firmware would only log: a refused state, a packet that
    cannot be decoded, audio outside speaking.

    :ivar code: ``refused_state``, ``audio_dropped``, ``queue_full``,
        ``flushed``, ``undecodable``, ``bad_frame``, ``bad_text``, ``ignored``,
        ``mic_dropped``, ``tool_failed``, ``crash``.
    """

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The socket is gone. ``code`` is 1006 where no Close frame came."""

    code: int
    reason: str


Event = (
    StateChanged
    | Connected
    | ListeningStarted
    | Heard
    | SpeechStarted
    | Sentence
    | PacketPlayed
    | SpeechStopped
    | Drained
    | Face
    | ToolCalled
    | Alerted
    | ServerError
    | Trouble
    | Disconnected
)

Watcher = Callable[[Event], None]
