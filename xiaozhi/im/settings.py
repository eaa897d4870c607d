"""Settings of the edge, with units, bounds and defaults."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from xiaozhi.web.limits.origins import Origins

Seconds = Annotated[float, Meta(ge=0.01, le=86400)]
Count = Annotated[int, Meta(ge=1, le=10_000_000)]
ByLanguage = str | dict[str, str]
Rate = Annotated[float, Meta(ge=0.001, le=1_000_000)]


class PacerSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pacing of speech to a device (§3.3, §4.5).

    :ivar lead_frames: packets that a device holds ahead of the one it plays; with 2, three
        leave at once. Small boards fail at 6.
    :ivar start_gap: seconds from ``tts start`` to the first packet; earlier packets can be
        lost while the device clears its queue.
    :ivar stop_margin: seconds from the estimated end of playback to ``tts stop``.
    :ivar stop_hold: maximum seconds that a ``tts stop`` is delayed while the button is pressed
        over an answer; longer than a press can last.
    :ivar high_water: queued packets at which the AI is asked to pause.
    :ivar low_water: queued packets at which the AI may resume.
    :ivar max_frames: maximum queued packets; further packets are dropped.
    """

    lead_frames: Annotated[int, Meta(ge=0, le=10)] = 2
    start_gap: Annotated[float, Meta(ge=0, le=1)] = 0.06
    stop_margin: Annotated[float, Meta(ge=0, le=5)] = 0.12
    stop_hold: Seconds = 60.0
    high_water: Count = 100
    low_water: Annotated[int, Meta(ge=0, le=10_000_000)] = 50
    max_frames: Count = 1000

    def __post_init__(self) -> None:
        if not self.low_water < self.high_water <= self.max_frames:
            raise ValueError("needs low_water < high_water <= max_frames")


class LimitSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of a device; beyond them its connection is closed with 1008 or 1009.

    Rates and bursts belong to the device: reconnecting does not refill them. Every WebSocket
    frame counts, including control frames and fragments.

    :ivar messages_per_second: texts and packets, sustained.
    :ivar message_burst: messages that may arrive at once after a quiet time.
    :ivar bytes_per_second: payload bytes, sustained.
    :ivar byte_burst: bytes that may arrive at once; at least one message.
    :ivar max_message_bytes: maximum WebSocket message and frame.
    :ivar max_text_bytes: maximum text other than ``image``; of an ``mcp`` without the base64
        of pictures and sounds in it. A longer one is answered with an error.
    :ivar max_typed_bytes: maximum words of ``chat``, of ``listen`` with ``detect``, and of
        ``image``, in UTF-8. Longer ones are answered with an error.
    :ivar message_timeout: seconds from the first byte of a WebSocket message to its last.
    :ivar max_json_depth: maximum nesting of a text.
    :ivar malformed_in_a_row: maximum consecutive malformed messages.
    :ivar backlog_bytes: maximum bytes of text in the send queue of a device that does not read
        (audio is paused long before).
    """

    messages_per_second: Count = 100
    message_burst: Count = 300
    bytes_per_second: Count = 262_144
    byte_burst: Count = 4_194_304
    max_message_bytes: Annotated[int, Meta(ge=1024, le=67_108_864)] = 1_048_576
    max_text_bytes: Annotated[int, Meta(ge=1024, le=67_108_864)] = 65_536
    max_typed_bytes: Annotated[int, Meta(ge=64, le=1_048_576)] = 8192
    message_timeout: Seconds = 30.0
    max_json_depth: Annotated[int, Meta(ge=4, le=256)] = 32
    malformed_in_a_row: Count = 10
    backlog_bytes: Annotated[int, Meta(ge=65_536, le=67_108_864)] = 524_288

    def __post_init__(self) -> None:
        if self.byte_burst < self.max_message_bytes:
            raise ValueError("byte_burst must be at least max_message_bytes")


class LinkSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One device connection. Times in seconds.

    :ivar hello_timeout: from the upgrade to the device's hello.
    :ivar idle_timeout: without a text or packet in either direction. A device considers a
        socket dead after 120 s of silence, and its replacement disturbs the next conversation
        (§1.5): stay below that.
    :ivar keep: ids of devices whose connections stay open without limit: they receive a
        harmless message after ``keep_interval`` instead.
    :ivar keep_interval: silence in both directions before that message; below 120 (§1.5).
    :ivar ping_interval: silence after which a WebSocket ping is sent.
    :ivar ping_timeout: from a ping to any sign of life.
    :ivar close_timeout: from our Close frame to dropping TCP: devices do not echo it (§1.1).
    :ivar congestion_timeout: how long a device may leave its socket unread.
    :ivar restart_timeout: from a ``tts stop`` to the automatic ``listen start`` of a device in
        auto mode, which plays its buffer first (§4.4). Such a start does not interrupt.
    :ivar follow_timeout: the same for the start that follows an ``abort`` or ``detect``.
    :ivar reaction_time: how long a turn must have played before an unexpected start
        interrupts it.
    :ivar outage_patience: after an outage of the AI of this length, a device that asks a
        question receives an alert, once per question.
    :ivar outage_status: ``status`` of that alert, for all languages or by language
        (BCP 47); empty: the text of the catalogue.
    :ivar outage_message: ``message`` of that alert, likewise.
    :ivar outage_emotion: ``emotion`` of that alert (§4.2).
    :ivar language: BCP 47, of the edge's texts until the AI service has reported the language
        of the conversation, unless the device's ``Accept-Language`` is usable; the same as the
        AI's ``session.dialogue.language``.
    :ivar alert_sound: seconds of microphone audio to drop after an alert, which makes the
        device play a sound (§4.2); 0: none.
    :ivar downlink_sample_rate: Hz, sent to devices in the hello.
    :ivar downlink_frame_duration: ms in one packet to a device.
    """

    hello_timeout: Seconds = 30.0
    idle_timeout: Seconds = 110.0
    keep: frozenset[str] = frozenset()
    keep_interval: Seconds = 80.0
    ping_interval: Seconds = 30.0
    ping_timeout: Seconds = 20.0
    close_timeout: Seconds = 1.0
    congestion_timeout: Seconds = 20.0
    restart_timeout: Seconds = 3.0
    follow_timeout: Seconds = 1.5
    reaction_time: Annotated[float, Meta(ge=0, le=10)] = 0.5
    outage_patience: Seconds = 3.0
    outage_status: ByLanguage = ""
    outage_message: ByLanguage = ""
    outage_emotion: str = "sad"
    language: str = "en"
    alert_sound: Annotated[float, Meta(ge=0, le=10)] = 1.2
    downlink_sample_rate: Literal[8000, 12000, 16000, 24000, 48000] = 24000
    downlink_frame_duration: Literal[20, 40, 60] = 60


class GatewaySettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The port. Times in seconds.

    :ivar paths: paths at which devices may connect, with or without a trailing slash.
    :ivar max_connections: maximum connected devices; more are refused with 503.
    :ivar max_waiting: maximum connections that have not sent their request yet; the same limit
        applies separately to connections for ``/health`` and the other pages.
    :ivar head_timeout: for a request head; and for a whole request other than an upgrade.
    :ivar max_head_bytes: maximum request head.
    :ivar max_partial_bytes: maximum bytes of unfinished WebSocket messages of all devices;
        beyond that, a device with more than 64 KiB of one is closed with 1013.
    :ivar max_per_address: maximum concurrent connections of any kind from one address (IPv6:
        from one /64). A whole building may share one address.
    :ivar max_waiting_per_address: how many of these may not have sent their request yet.
    :ivar address_rate: new connections per second from one address, sustained.
    :ivar address_burst: new connections from one address that may arrive at once.
    :ivar max_per_site: as ``max_per_address``, for a whole IPv6 /48.
    :ivar max_waiting_per_site: as ``max_waiting_per_address``, for a whole IPv6 /48.
    :ivar site_rate: as ``address_rate``, for a whole IPv6 /48.
    :ivar site_burst: as ``address_burst``, for a whole IPv6 /48.
    :ivar device_rate: connections per second of one admitted device, sustained.
    :ivar device_burst: connections of one device that may arrive at once.
    :ivar origins: ``Origin`` of web pages that may connect and read answers; devices send
        none and are always admitted: see :class:`~xiaozhi.web.limits.origins.Origins`.
    :ivar trusted_proxies: networks whose ``X-Forwarded-For`` is trusted; they are not limited
        themselves.
    :ivar unlimited: networks without limits.
    :ivar trust_loopback: whether requests from this machine that did not pass a proxy may read
        the details of ``/health``; False: only with the management token.
    :ivar log_interval: refusals of one kind are logged in one line for this long after the
        first.
    """

    paths: tuple[str, ...] = ("/ws", "/xiaozhi/v1/")
    max_connections: Count = 20_000
    max_waiting: Count = 1000
    head_timeout: Seconds = 10.0
    max_head_bytes: Annotated[int, Meta(ge=1024, le=1_048_576)] = 16_384
    max_partial_bytes: Annotated[int, Meta(ge=1_048_576, le=1 << 34)] = 33_554_432
    max_per_address: Count = 2000
    max_waiting_per_address: Count = 200
    address_rate: Rate = 100.0
    address_burst: Count = 2000
    max_per_site: Count = 4000
    max_waiting_per_site: Count = 400
    site_rate: Rate = 200.0
    site_burst: Count = 4000
    device_rate: Rate = 1.0
    device_burst: Count = 60
    origins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    unlimited: tuple[str, ...] = ("127.0.0.0/8", "::1")
    trust_loopback: bool = True
    log_interval: Seconds = 10.0

    def __post_init__(self) -> None:
        for network in (*self.trusted_proxies, *self.unlimited):
            ip_network(network, strict=False)  # raises a ValueError with a complete message
        Origins(self.origins)  # as does this
        if not self.paths or not all(path.startswith("/") for path in self.paths):
            raise ValueError("paths must each begin with a slash, and at least one is needed")


class EdgeSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of the edge's connections.

    :ivar log_messages: write a log line for each message of a device, without its content.
    """

    link: LinkSettings = field(default_factory=LinkSettings)
    pacer: PacerSettings = field(default_factory=PacerSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    log_messages: bool = False
