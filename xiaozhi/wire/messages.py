"""Every message of the XiaoZhi protocol as one frozen value.

Both services and the software device use these values. ``jsontext``, ``frames`` and
``convert`` translate them to and from text, binary frames and protobuf.
Section numbers refer to the protocol facts in ``docs/protocol-notes.md``.

Messages of a spoken answer carry ``turn``, the number of the turn in its session, or 0
outside a turn. It never reaches a device.
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
    """The first message of a device. Everything but the type is optional.

    :ivar version: binary framing the device uses: 1, 2, 3 (§3.1); other
        numbers mean raw frames, like 1; 0 where the device did not say.
    :ivar audio: the uplink's format.
    """

    version: int = 1
    features: Features = Features()
    transport: str = "websocket"
    audio: AudioParams = AudioParams()


@dataclass(frozen=True, slots=True)
class Listen:
    """Capture starts or stops, or a wake word or typed text was given.

    :ivar mode: with ``start``; a device that leaves it out means ``auto``.
    :ivar text: with ``detect``: the wake word, or what a person typed.
    :ivar turn: with ``start``, added by the edge: the turn it interrupts; 0: none.
    :ivar packets: with ``stop``, added by the edge: sound packets since ``start``.
    """

    state: ListenState
    mode: ListenMode = ListenMode.AUTO
    text: str = ""
    turn: int = 0
    packets: int = 0


@dataclass(frozen=True, slots=True)
class Chat:
    """Typed text for the assistant."""

    text: str


@dataclass(frozen=True, slots=True)
class Abort:
    """Stop speaking now. ``reason`` is empty or ``wake_word_detected``."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Say:
    """Say this to the person. It comes from the edge, never from a device."""

    text: str


@dataclass(frozen=True, slots=True)
class Leave:
    """Edge → AI: the edge is stopping. End the session with ``draining`` when it rests."""


@dataclass(frozen=True, slots=True)
class Image:
    """A picture and what to ask about it: bytes or a URL, never both empty.

    :ivar data: the encoded picture (JPEG, PNG, …), already out of base64.
    """

    text: str = ""
    format: str = ""
    data: bytes = b""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Vision:
    """A camera command of some clients (``gen_pic``, ``read_img``, …).

    :ivar payload: the JSON object as it came, without its envelope.
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

    :ivar audio: what the device will be sent.
    :ivar more: the transport's own members, e.g. ``udp``.
    """

    session_id: str
    audio: AudioParams
    transport: str = "websocket"
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stt:
    """The recognised text, shown as the person's words."""

    text: str
    turn: int = 0


@dataclass(frozen=True, slots=True)
class Tts:
    """The course of a spoken answer: exactly one stop per start (§4.5).

    :ivar aside: the sentence is not of the answer, which is still waited for. Not for the
        device.
    """

    state: TtsState
    text: str = ""
    turn: int = 0
    aside: bool = False


@dataclass(frozen=True, slots=True)
class Llm:
    """The face to show; ``text`` is its emoji for clients that show one."""

    emotion: str
    text: str = ""
    turn: int = 0


@dataclass(frozen=True, slots=True)
class Alert:
    """A status line, a text, a face and a sound; all three are needed."""

    status: str
    message: str
    emotion: str = "neutral"


@dataclass(frozen=True, slots=True)
class System:
    """A command to the device; ``reboot`` is the one that exists."""

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
    """One JSON-RPC 2.0 object, carried as the bytes it came in (§5)."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Iot:
    """The things protocol before MCP (§4.8), as the bytes it came in.

    :ivar payload: the message's fields as one JSON object, without ``type``
        and ``session_id``.
    """

    payload: bytes


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The talk is over."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A message of a type we do not know: kept whole, never an error.

    :ivar payload: as for :class:`Iot`.
    """

    type: str
    payload: bytes = b"{}"


@dataclass(slots=True)
class Audio:
    """One Opus packet.

    Not frozen, because frozen construction costs three times as much and this
    is built for every frame; treat it as if it were.

    :ivar payload: the packet, without framing. Empty only from a browser that
        marks the end of a recording (§13).
    :ivar timestamp: ms; echoed by devices with server-side echo cancelling,
        otherwise 0.
    :ivar ahead: it is sent so much earlier than it is played that it may wait a moment
        on its way. Known to its sender only.
    """

    payload: bytes
    timestamp: int = 0
    turn: int = 0
    ahead: bool = field(default=False, compare=False)


# --- between the two services only -------------------------------------------


@dataclass(frozen=True, slots=True)
class Device:
    """The connected device, as authentication established it.

    :ivar guest: nobody holds its device id: it is talked with, but nothing that was
        said or posted before is for it.
    """

    device_id: str
    client_id: str
    user_id: str
    guest: bool = False


@dataclass(frozen=True, slots=True)
class SessionOpen:
    """Opens a session at the AI service, or takes it up again.

    :ivar session_id: ``[A-Za-z0-9_-]+``, made by the edge.
    :ivar downlink: how answers must be encoded; the device was told the same.
    :ivar host: name or address by which the device reached the edge, without a
        port; empty: it did not say.
    :ivar incarnation: how often the edge has opened this session, this time
        included.
    :ivar restored: what a process that does not know the session must be told
        before anything else.
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
        """The edge comes back with it: the device has had its hello long ago."""
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
    """AI → edge: throw away what has not been played of ``turn`` and end it."""

    turn: int


@dataclass(frozen=True, slots=True)
class Pause:
    """AI → edge: stop playing ``turn``, or go on with it where it was."""

    turn: int
    paused: bool


@dataclass(frozen=True, slots=True)
class Playback:
    """Edge → AI: what the device really got to play of a turn.

    :ivar state: ``started`` with the first frame; ``finished`` when the
        device has played it all and had its ``tts stop``; ``flushed`` when it
        was cut.
    :ivar played_ms: sound played, by the edge's clock.
    """

    turn: int
    state: PlaybackState
    played_ms: int = 0


@dataclass(frozen=True, slots=True)
class Language:
    """AI → edge: the language of the talk, for what the edge shows by itself.

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
