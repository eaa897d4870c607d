"""The configuration file of the edge, as ``etc/im.yaml`` documents it."""

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
    """Where devices connect; HTTP health checks come to the same port.

    :ivar port: 0 takes any free one.
    :ivar reuse_port: several edge processes may have this port at once; the kernel
        gives each its share of connections.
    """

    host: str = "0.0.0.0"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8000
    reuse_port: bool = False


class StoreSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The session, message and event log.

    :ivar url: ``sqlite:///path`` or ``postgresql://user:password@host:port/database``;
        empty: ``im.sqlite3`` in the state directory.
    :ivar required: whether the edge refuses to start while the store cannot be reached;
        else it serves devices and spools, as it does when the store goes away later.
    :ivar pool_size: connections to PostgreSQL.
    :ivar content: whether the message log keeps what was said.
    :ivar flush_interval: seconds that records wait to be written together.
    :ivar batch_size: records written in one transaction.
    :ivar capacity: records that may wait in memory; beyond, the oldest messages and
        events are dropped. From half of it on they go to the spool.
    :ivar capacity_bytes: of them, about; beyond, as beyond ``capacity``.
    :ivar max_content_bytes: of a message's content, in UTF-8; the rest is cut.
    :ivar spool_bytes: of records that wait on disk while the store is away; beyond, the
        oldest messages and events are dropped; 0: there is no spool.
    :ivar spool_after: seconds without an answer of the store before they go there.
    :ivar retention_days: older rows are removed; 0: never.
    :ivar purge_interval: seconds between two rounds of removal.
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
    """Sessions' wire traffic in files.

    :ivar dir: where; empty: nothing is recorded.
    :ivar max_age: seconds after which a recording is removed; 0: never.
    :ivar max_bytes: of all together; the oldest goes first; 0: any.
    :ivar max_session_bytes: of one; what comes then is not recorded.
    :ivar purge_interval: seconds between two rounds of removing.
    """

    dir: str = ""
    max_age: Annotated[float, Meta(ge=0, le=315_360_000)] = 604_800.0
    max_bytes: Annotated[int, Meta(ge=0, le=1 << 44)] = 1 << 30
    max_session_bytes: Annotated[int, Meta(ge=4096, le=1 << 40)] = 64 << 20
    purge_interval: Annotated[float, Meta(ge=1, le=86_400)] = 600.0


class ImSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file.

    :ivar state_dir: made if it is not there; nothing outside it is written
        unless a path says so.
    :ivar node: this process's name among others; empty: host name and random digits.
    :ivar drain_timeout: seconds that devices get to leave at a shutdown.
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
