"""Every message of the XiaoZhi protocol as one frozen value.

Both services and the software device use these values. ``jsontext``, ``frames`` and ``convert``
translate them to and from text, binary frames and protobuf. Section numbers refer to the protocol
facts in ``docs/protocol-notes.md``.

Messages of a spoken answer carry ``turn``, the number of the turn in its session, or 0 outside a
turn. It is never sent to a device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from xiaozhi.wire.vocabulary import EMOTIONS as EMOTIONS
from xiaozhi.wire.vocabulary import AudioParams as AudioParams
from xiaozhi.wire.vocabulary import Features as Features
from xiaozhi.wire.vocabulary import ListenMode as ListenMode
from xiaozhi.wire.vocabulary import ListenState as ListenState
from xiaozhi.wire.vocabulary import PlaybackState as PlaybackState
from xiaozhi.wire.vocabulary import TtsState as TtsState

# --- from a device ----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message of a device. Everything except the type is optional.

    :ivar version: the device's binary framing: 1, 2, 3 (§3.1); other numbers mean raw frames, like
        1; 0: absent.
    :ivar audio: the uplink's format.
    """

    version: int = 1
    features: Features = Features()
    transport: str = "websocket"
    audio: AudioParams = AudioParams()


@dataclass(frozen=True, slots=True)
class Listen:
    """Start or end of capture, a wake word, or typed text.

    :ivar mode: with ``start``; the default is ``auto``.
    :ivar text: with ``detect``: the wake word, or the text that a person typed.
    :ivar turn: with ``start``, added by the edge: the turn it interrupts; 0: none.
    :ivar packets: with ``stop``, added by the edge: audio packets since ``start``.
    """

    state: ListenState
    mode: ListenMode = ListenMode.AUTO
    text: str = ""
    turn: int = 0
    packets: int = 0


@dataclass(frozen=True, slots=True)
class Chat:
    """Typed text for the agent."""

    text: str


@dataclass(frozen=True, slots=True)
class Abort:
    """Stop of the answer. ``reason`` is empty or ``wake_word_detected``."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Say:
    """Text to speak to the person. It comes from the edge, never from a device."""

    text: str


@dataclass(frozen=True, slots=True)
class Leave:
    """Edge → AI: the edge is stopping. End the session with ``draining`` when it is idle."""


@dataclass(frozen=True, slots=True)
class Image:
    """A picture and a question about it: bytes or a URL, never both empty.

    :ivar data: the encoded picture (JPEG, PNG, …), decoded from base64.
    """

    text: str = ""
    format: str = ""
    data: bytes = b""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Vision:
    """A camera command of some clients (``gen_pic``, ``read_img``, …).

    :ivar payload: the JSON object as received, without its envelope.
    """

    command: str
    payload: bytes = b"{}"


@dataclass(frozen=True, slots=True)
class Ping:
    """A keep-alive in JSON; answered with :class:`Pong`."""


# --- to a device ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ServerHello:
    """The one answer to a hello.

    :ivar audio: format of the downlink.
    :ivar more: further members of the transport, e.g. ``udp``.
    """

    session_id: str
    audio: AudioParams
    transport: str = "websocket"
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stt:
    """The recognised text, displayed as the person's words."""

    text: str
    turn: int = 0


@dataclass(frozen=True, slots=True)
class Tts:
    """Progress of a spoken answer: exactly one stop for each start (§4.5).

    :ivar aside: the sentence is not part of the answer, which is still pending. Not sent to the
        device.
    """

    state: TtsState
    text: str = ""
    turn: int = 0
    aside: bool = False


@dataclass(frozen=True, slots=True)
class Llm:
    """The face to show; ``text`` is its emoji for clients that display one."""

    emotion: str
    text: str = ""
    turn: int = 0


@dataclass(frozen=True, slots=True)
class Alert:
    """A status line, a text, a face and a sound; all are required."""

    status: str
    message: str
    emotion: str = "neutral"


@dataclass(frozen=True, slots=True)
class System:
    """A command to the device; only ``reboot`` exists."""

    command: str


@dataclass(frozen=True, slots=True)
class Error:
    """An error in a message that the device sent."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to :class:`Ping`.

    :ivar timestamp: ms since the epoch on the server's clock.
    """

    timestamp: int


# --- either way -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mcp:
    """One JSON-RPC 2.0 object, as the bytes that were received (§5)."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Iot:
    """The IoT protocol before MCP (§4.8), as the bytes that were received.

    :ivar payload: the message's fields as one JSON object, without ``type`` and ``session_id``.
    """

    payload: bytes


@dataclass(frozen=True, slots=True)
class Goodbye:
    """End of the conversation."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A message of an unknown type: kept unchanged, never an error.

    :ivar payload: as for :class:`Iot`.
    """

    type: str
    payload: bytes = b"{}"


@dataclass(slots=True)
class Audio:
    """One Opus packet.

    Not frozen: frozen construction costs three times as much, and one is made for every frame.
    Treat it as frozen.

    :ivar payload: the packet, without framing. Empty only from a browser that marks the end of a
        recording (§13).
    :ivar timestamp: ms; echoed by devices with server-side echo cancelling, otherwise 0.
    :ivar ahead: it is sent so long before its playback that it may wait on the way. Only its sender
        knows this.
    """

    payload: bytes
    timestamp: int = 0
    turn: int = 0
    ahead: bool = field(default=False, compare=False)


# --- between the two services only -------------------------------------------


@dataclass(frozen=True, slots=True)
class Device:
    """The connected device, as authentication established it.

    :ivar guest: no client owns its device id: it may hold conversations, but gets no earlier
        dialogue and no earlier messages.
    """

    device_id: str
    client_id: str
    user_id: str
    guest: bool = False


@dataclass(frozen=True, slots=True)
class SessionOpen:
    """Opens a session at the AI service, or resumes it.

    :ivar session_id: ``[A-Za-z0-9_-]+``, made by the edge.
    :ivar downlink: the format of answers, as announced to the device.
    :ivar host: name or address by which the device reached the edge, without a port; empty:
        unknown.
    :ivar incarnation: how often the edge has opened this session, including this time.
    :ivar restored: messages to process first if the process does not know the session.
    """

    session_id: str
    device: Device
    hello: Hello
    downlink: AudioParams
    host: str = ""
    incarnation: int = 1
    restored: tuple[Uplink, ...] = ()

    @property
    def resumed(self) -> bool:
        """Whether the edge opens it again: the device has already received its hello."""
        return self.incarnation > 1


@dataclass(frozen=True, slots=True)
class SessionClose:
    """Ends a session from either side.

    :ivar code: stable, e.g. ``device_gone``, ``replaced``, ``farewell``.
    """

    code: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Flush:
    """AI → edge: discard what has not been played of ``turn`` and end it."""

    turn: int


@dataclass(frozen=True, slots=True)
class Pause:
    """AI → edge: pause ``turn``, or continue where it was paused."""

    turn: int
    paused: bool


@dataclass(frozen=True, slots=True)
class Playback:
    """Edge → AI: how much of a turn the device has played.

    :ivar state: ``started`` with the first frame; ``finished`` when the device has played
        everything and received its ``tts stop``; ``flushed`` when playback was cut.
    :ivar played_ms: duration of the sound played, by the edge's clock.
    """

    turn: int
    state: PlaybackState
    played_ms: int = 0


@dataclass(frozen=True, slots=True)
class Language:
    """AI → edge: the language of the conversation, for the edge's own texts.

    :ivar language: BCP 47.
    """

    language: str


Uplink = (
    Listen
    | Chat
    | Abort
    | Image
    | Vision
    | Ping
    | Mcp
    | Iot
    | Goodbye
    | Unknown
    | Say
    | Leave
    | Audio
    | Playback
)
"""Messages from the edge to a session at the AI service."""

Downlink = (
    Stt
    | Tts
    | Llm
    | Alert
    | System
    | Error
    | Pong
    | Image
    | Mcp
    | Iot
    | Goodbye
    | Unknown
    | Audio
    | Flush
    | Pause
    | Language
)
"""Messages from a session at the AI service to the edge."""

DeviceText = Hello | Listen | Chat | Abort | Image | Vision | Ping | Mcp | Iot | Goodbye | Unknown
"""Messages from a device as JSON."""

ServerText = (
    ServerHello
    | Stt
    | Tts
    | Llm
    | Alert
    | System
    | Error
    | Pong
    | Image
    | Mcp
    | Iot
    | Goodbye
    | Unknown
)
"""Messages to a device as JSON."""
