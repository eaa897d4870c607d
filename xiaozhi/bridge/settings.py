"""Settings of the bridge. Times are in seconds, sizes in bytes."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct, field

Address = Annotated[str, Meta(pattern=r"^.+:\d+$", description="host:port")]
# An IPv6 address needs brackets, or its end would be ambiguous.
TargetAddress = Annotated[
    str, Meta(pattern=r"^(dns:)?(\[[0-9A-Fa-f:.]+\]|[^\[\]:/\s]+):\d+$", description="host:port")
]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
MessageBytes = Annotated[int, Meta(ge=65_536, le=1 << 30)]


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings that both ends share.

    :ivar coalesce: how long audio waits to share a message; 0: until the reactor's next turn.
    :ivar queue_messages: per session, control messages that may wait for a stream; the same
        number may be unacknowledged.
    :ivar queue_audio: per session, packets that may wait for a stream; the oldest is dropped.
    :ivar audio_max_age: audio that waited longer is dropped.
    :ivar credit: per session, audio packets that the other side may send before we grant
        more.
    :ivar resume_timeout: how long a session whose stream broke waits for another to the
        same AI process; the AI service must keep it at least that long.
    :ivar max_message_bytes: the longest message on a stream; both sides need the same.
    :ivar keepalive: how often gRPC probes a silent connection.
    :ivar keepalive_timeout: how long it waits for the answer.
    :ivar token: a secret that the edge sends and the AI service requires; overrides
        ``token_file``; without both no token is required.
    :ivar token_file: file with the token.
    """

    coalesce: Annotated[float, Meta(ge=0, le=0.1)] = 0.0003
    queue_messages: Annotated[int, Meta(ge=1, le=100_000)] = 256
    queue_audio: Annotated[int, Meta(ge=1, le=100_000)] = 256
    audio_max_age: Seconds = 2.0
    credit: Annotated[int, Meta(ge=8, le=100_000)] = 128
    resume_timeout: Seconds = 2.0
    max_message_bytes: MessageBytes = 16 << 20
    keepalive: Annotated[float, Meta(ge=1, le=86_400)] = 20.0
    keepalive_timeout: Annotated[float, Meta(ge=0.1, le=86_400)] = 10.0
    token: str = ""
    token_file: str = ""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"  # keeps the token out of logs


class ClientTls(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """TLS at the edge. All files are PEM.

    :ivar ca_file: authority of the AI service's certificates; empty: the well-known ones.
    :ivar certificate_file: client certificate with its chain; empty: no certificate.
    :ivar key_file: its private key.
    :ivar server_name: the name in the AI service's certificate; empty: the target's host.
    """

    enabled: bool = False
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""
    server_name: str = ""

    def __post_init__(self) -> None:
        if bool(self.certificate_file) != bool(self.key_file):
            raise ValueError("certificate_file and key_file are given both or neither")


class ServerTls(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """TLS at the AI service. All files are PEM.

    :ivar certificate_file: our certificate with its chain.
    :ivar key_file: its private key.
    :ivar client_ca_file: authority of the edges' certificates; if set, every edge must present one.
    """

    enabled: bool = False
    certificate_file: str = ""
    key_file: str = ""
    client_ca_file: str = ""

    def __post_init__(self) -> None:
        if self.enabled and not (self.certificate_file and self.key_file):
            raise ValueError("needs certificate_file and key_file")


class ClientSettings(Limits, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The edge's side.

    :ivar targets: AI processes; a new session goes to the least loaded one that is up.
        ``dns:host:port`` stands for all addresses of the name.
    :ivar resolve_interval: how often those names are looked up.
    :ivar resolve_timeout: a name that takes longer counts as not found.
    :ivar sessions_per_stream: a stream gets this many sessions before the next is used,
        then all get as many again: a busy stream sends larger batches, which are cheaper.
    :ivar coalesce_busy: how long audio waits to share a message when packets of many
        devices arrive often: inaudible, and fewer messages cost less.
    :ivar queue_bytes: of pending control messages of all sessions; above it, a session with
        more than 64 KiB pending may not add more.
    :ivar connect_timeout: from dialling until the other side has announced itself.
    :ivar heartbeat_interval: between an answer and the next ping.
    :ivar heartbeat_timeout: how long an answer may take.
    :ivar heartbeat_misses: missing answers in a row after which the stream is closed.
    :ivar backoff_base: the first retry comes within this time; each later one within
        twice the time of the one before.
    :ivar backoff_cap: retries are never further apart than this.
    :ivar backoff_jitter: the random part of each wait, 0 to 1.
    :ivar backoff_reset: after a stream was up this long, retries begin at the base again.
    """

    targets: Annotated[tuple[TargetAddress, ...], Meta(min_length=1)] = ("127.0.0.1:50051",)
    resolve_interval: Annotated[float, Meta(ge=0.1, le=86400)] = 10.0
    resolve_timeout: Annotated[float, Meta(ge=0.1, le=600)] = 5.0
    tls: ClientTls = field(default_factory=ClientTls)
    streams_per_target: Annotated[int, Meta(ge=1, le=64)] = 2
    sessions_per_stream: Annotated[int, Meta(ge=1, le=100_000)] = 500
    coalesce_busy: Annotated[float, Meta(ge=0, le=0.1)] = 0.008
    queue_bytes: Annotated[int, Meta(ge=65_536, le=1 << 34)] = 32 << 20
    connect_timeout: Seconds = 5.0
    heartbeat_interval: Seconds = 10.0
    heartbeat_timeout: Seconds = 5.0
    heartbeat_misses: Annotated[int, Meta(ge=1)] = 2
    backoff_base: Seconds = 0.2
    backoff_cap: Seconds = 10.0
    backoff_jitter: Annotated[float, Meta(ge=0, le=1)] = 1.0
    backoff_reset: Seconds = 5.0

    @property
    def given_targets(self) -> tuple[str, ...]:
        """The addresses among the targets; the others are names to resolve."""
        return tuple(target for target in self.targets if not target.startswith("dns:"))


class ServerSettings(Limits, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The AI service's side.

    :ivar listen: port 0 takes any free one.
    :ivar idle_timeout: a stream without any item, even a heartbeat, for this long is
        closed. Must be longer than the edge's heartbeat interval.
    :ivar stop_grace: how long running streams may take to end when stopping.
    :ivar allow_unauthenticated: listen on other addresses than loopback without a token or
        client certificates. Anyone who reaches the port can then act as any device.
    :ivar max_streams_per_peer: streams from one address; more are refused. Edges behind
        one proxy share its address.
    :ivar max_sessions_per_stream: more are refused. When a stream breaks, another may carry
        the sessions of both.
    :ivar max_sessions_per_peer: sessions from one address; more are refused.
    """

    listen: Address = "127.0.0.1:50051"
    queue_audio: Annotated[int, Meta(ge=1, le=100_000)] = 1024
    audio_max_age: Seconds = 30.0
    resume_timeout: Seconds = 10.0
    idle_timeout: Seconds = 60.0
    stop_grace: Annotated[float, Meta(ge=0, le=600)] = 0.2
    allow_unauthenticated: bool = False
    max_streams_per_peer: Annotated[int, Meta(ge=1, le=100_000)] = 256
    max_sessions_per_stream: Annotated[int, Meta(ge=1, le=10_000_000)] = 20_000
    max_sessions_per_peer: Annotated[int, Meta(ge=1, le=10_000_000)] = 40_000
    tls: ServerTls = field(default_factory=ServerTls)
