"""Enumerations and small values that messages are made of; ``messages`` re-exports them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

# The emotions that every client can display (§4.2). A client ignores other names.
EMOTIONS = frozenset(
    {
        "neutral",
        "happy",
        "laughing",
        "funny",
        "sad",
        "angry",
        "crying",
        "loving",
        "embarrassed",
        "surprised",
        "shocked",
        "thinking",
        "winking",
        "cool",
        "relaxed",
        "delicious",
        "kissy",
        "confident",
        "sleepy",
        "silly",
        "confused",
    }
)


@dataclass(frozen=True, slots=True)
class AudioParams:
    """Encoding of the audio in one direction.

    :ivar format: ``opus``; the protocol also names ``pcm``, which no client requests.
    :ivar sample_rate: Hz.
    :ivar frame_duration: ms of sound in one packet.
    """

    format: str = "opus"
    sample_rate: int = 16000
    channels: int = 1
    frame_duration: int = 60


@dataclass(frozen=True, slots=True)
class Features:
    """Capabilities that a device declares in its hello (§2.1)."""

    mcp: bool = False
    aec: bool = False
    glyph_push: bool = False


class ListenState(Enum):
    START = "start"
    STOP = "stop"
    DETECT = "detect"


class ListenMode(Enum):
    """How an utterance ends: by the button (manual) or by the server (§4.4)."""

    AUTO = "auto"
    MANUAL = "manual"
    REALTIME = "realtime"


class TtsState(Enum):
    START = "start"
    SENTENCE_START = "sentence_start"
    STOP = "stop"


class PlaybackState(Enum):
    STARTED = "started"
    FINISHED = "finished"
    FLUSHED = "flushed"
