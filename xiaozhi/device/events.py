"""Events of a software device, for observers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum


class TalkState(Enum):
    """States of a device during a conversation (§4.3)."""

    IDLE = "idle"
    CONNECTING = "connecting"
    LISTENING = "listening"
    SPEAKING = "speaking"


# Permitted transitions; the firmware refuses and logs all others (§4.3).
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
    """The server's hello arrived.

    :ivar sample_rate: Hz, of the server's sound.
    """

    session_id: str
    sample_rate: int
    frame_duration: int


@dataclass(frozen=True, slots=True)
class ListeningStarted:
    """The device sent ``listen start``."""

    mode: str


@dataclass(frozen=True, slots=True)
class Heard:
    """``stt``: the text that the server recognised."""

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
    """An Opus packet entered the loudspeaker's queue.

    :ivar gap_ms: silence before it; 0 for the first packet.
    """

    payload: bytes
    duration_ms: float
    gap_ms: float


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """``tts stop``.

    :ivar stray: it arrived outside speaking and had no effect.
    """

    stray: bool


@dataclass(frozen=True, slots=True)
class Drained:
    """The loudspeaker's queue ran empty."""


@dataclass(frozen=True, slots=True)
class Face:
    """``llm``: the emotion to display."""

    emotion: str


@dataclass(frozen=True, slots=True)
class ToolCalled:
    """The server called a tool of this device.

    :ivar arguments: JSON.
    :ivar result: the text of the result, or the error message.
    """

    name: str
    arguments: str
    result: str
    failed: bool


@dataclass(frozen=True, slots=True)
class Alerted:
    """``alert``: a message that the device displays with a sound."""

    status: str
    message: str
    emotion: str


@dataclass(frozen=True, slots=True)
class ServerError:
    """``error``: the server rejected a message of the device."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """An irregularity that the firmware only logs, such as a refused transition, an
    undecodable packet or audio outside speaking.

    :ivar code: ``refused_state``, ``audio_dropped``, ``queue_full``,
        ``flushed``, ``undecodable``, ``bad_frame``, ``bad_text``, ``ignored``,
        ``mic_dropped``, ``tool_failed``, ``crash``.
    """

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection ended. ``code`` is 1006 if no Close frame arrived."""

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
