"""Schema of the edge's configuration file; ``etc/im.yaml`` documents it."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct, field

from xiaozhi.auth import AuthSettings, DevicesSettings
from xiaozhi.bridge.settings import ClientSettings
from xiaozhi.cache import InboxSettings, PresenceSettings
from xiaozhi.im.settings import GatewaySettings, LimitSettings, LinkSettings, PacerSettings
from xiaozhi.metrics.settings import MetricsSettings
from xiaozhi.runtime.logs import EdgeLogSettings


class PortSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The address at which devices connect; HTTP health checks use the same port.

    :ivar port: 0: any free port.
    :ivar reuse_port: let several edge processes share the port; the kernel distributes the
        connections.
    """

    host: str = "0.0.0.0"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8000
    reuse_port: bool = False


class StoreSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The session, message and event log.

    :ivar url: ``sqlite:///path`` or ``postgresql://user:password@host:port/database``;
        empty: ``im.sqlite3`` in the state directory.
    :ivar required: whether the edge refuses to start while the store is unreachable;
        otherwise it serves devices and spools, as in a later outage of the store.
    :ivar pool_size: connections to PostgreSQL.
    :ivar content: whether the message log keeps the words of messages.
    :ivar flush_interval: seconds that records wait to be written together.
    :ivar batch_size: records per transaction.
    :ivar capacity: maximum records in memory; beyond that, the oldest messages and events are
        dropped. From half of it on, records are spooled.
    :ivar capacity_bytes: maximum estimated size of these; the same policy applies.
    :ivar max_content_bytes: maximum UTF-8 bytes of a message's content; the rest is cut off.
    :ivar spool_bytes: maximum bytes of records on disk while the store is away; beyond that,
        the oldest messages and events are dropped; 0: no spool.
    :ivar spool_after: seconds without an answer of the store before records are spooled.
    :ivar retention_days: age at which rows are removed; 0: never.
    :ivar purge_interval: seconds between two purges.
    :ivar stale_after: seconds without activity after which an open session is marked as
        ended, because its process has crashed; more than a minute longer than
        ``link.idle_timeout``.
    """

    url: str = ""
    required: bool = True
    pool_size: Annotated[int, Meta(ge=1, le=100)] = 4
    content: bool = False
    flush_interval: Annotated[float, Meta(gt=0, le=60)] = 0.2
    batch_size: Annotated[int, Meta(ge=1, le=10_000)] = 500
    capacity: Annotated[int, Meta(ge=100, le=1_000_000)] = 10_000
    capacity_bytes: Annotated[int, Meta(ge=1_048_576, le=1 << 34)] = 16_777_216
    max_content_bytes: Annotated[int, Meta(ge=64, le=1_048_576)] = 4096
    spool_bytes: Annotated[int, Meta(ge=0, le=1 << 40)] = 268_435_456
    spool_after: Annotated[float, Meta(gt=0, le=600)] = 1.0
    retention_days: Annotated[float, Meta(ge=0, le=36_500)] = 90.0
    purge_interval: Annotated[float, Meta(ge=1, le=86_400)] = 3600.0
    stale_after: Annotated[float, Meta(ge=60, le=86_400)] = 600.0


class RecordSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Recordings of sessions' wire traffic in files.

    :ivar dir: directory; empty: nothing is recorded.
    :ivar max_age: seconds after which a recording is removed; 0: never.
    :ivar max_bytes: maximum total size; the oldest is removed first; 0: no limit.
    :ivar max_session_bytes: maximum size of one; further messages are not recorded.
    :ivar purge_interval: seconds between two purges.
    """

    dir: str = ""
    max_age: Annotated[float, Meta(ge=0, le=315_360_000)] = 604_800.0
    max_bytes: Annotated[int, Meta(ge=0, le=1 << 44)] = 1 << 30
    max_session_bytes: Annotated[int, Meta(ge=4096, le=1 << 40)] = 64 << 20
    purge_interval: Annotated[float, Meta(ge=1, le=86_400)] = 600.0


class ImSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file.

    :ivar state_dir: directory for state, created if it does not exist; other directories are
        written only if a setting names them.
    :ivar node: name of this process; empty: host name and random digits.
    :ivar drain_timeout: seconds for devices to finish at a shutdown.
    """

    listen: PortSettings = field(default_factory=PortSettings)
    state_dir: str = "var"
    node: str = ""
    drain_timeout: Annotated[float, Meta(ge=0, le=600)] = 5.0
    auth: AuthSettings = field(default_factory=AuthSettings)
    devices: DevicesSettings = field(default_factory=DevicesSettings)
    bridge: ClientSettings = field(default_factory=ClientSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    presence: PresenceSettings = field(default_factory=PresenceSettings)
    inbox: InboxSettings = field(default_factory=InboxSettings)
    link: LinkSettings = field(default_factory=LinkSettings)
    pacer: PacerSettings = field(default_factory=PacerSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    record: RecordSettings = field(default_factory=RecordSettings)
    log: EdgeLogSettings = field(default_factory=EdgeLogSettings)

    def __post_init__(self) -> None:
        # Otherwise live sessions would be marked as ended.
        if self.store.stale_after <= self.link.idle_timeout + 60:
            raise ValueError("needs store.stale_after > link.idle_timeout + 60")
