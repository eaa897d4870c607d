"""Schema of the AI service's configuration file; ``etc/ai.yaml`` documents it."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct, field

from xiaozhi.agents.sections import Selected
from xiaozhi.agents.settings import HistorySettings, SessionSettings
from xiaozhi.ai.http.settings import HttpSettings
from xiaozhi.auth import AuthSettings, DevicesSettings
from xiaozhi.base.ownership import ClaimLimits
from xiaozhi.bridge.settings import ServerSettings
from xiaozhi.cache import InboxSettings, PresenceAddress
from xiaozhi.metrics.settings import MetricsSettings
from xiaozhi.providers.kit.failover.settings import FailoverSettings
from xiaozhi.runtime.logs import LogSettings


class AreaSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of kept files; the least recently used are removed first.

    :ivar max_age: seconds since a file was last used; 0: no limit.
    :ivar max_bytes: total size of all files; 0: no limit.
    """

    max_age: Annotated[float, Meta(ge=0, le=315_360_000)] = 0.0
    max_bytes: Annotated[int, Meta(ge=0, le=1 << 40)] = 0


class PicturesSettings(AreaSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of kept pictures.

    :ivar keep: whether pictures that devices send are kept at all. They show people's homes:
        inform the people first.
    """

    keep: bool = False


class FilesSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Files that are kept for a while.

    :ivar directory: created if it does not exist; empty: ``files`` in the state directory.
    :ivar purge_interval: seconds between two purges.
    :ivar phrases: sound of phrases.
    :ivar pictures: pictures that devices send.
    """

    directory: str = ""
    purge_interval: Annotated[float, Meta(ge=1, le=86_400)] = 600.0
    phrases: AreaSettings = AreaSettings(max_age=7_776_000.0, max_bytes=64 << 20)
    pictures: PicturesSettings = PicturesSettings(max_age=604_800.0, max_bytes=1 << 30)


class RegistrySettings(DevicesSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """See :class:`DevicesSettings`; with limits for devices and clients that ask for codes.

    :ivar max_devices: maximum number of known device ids; further ones are served as guests.
    :ivar unused_ttl: seconds after which a device that never opened a session is forgotten.
    :ivar code_ttl: lifetime of an approval code, in seconds.
    :ivar max_codes: maximum number of valid codes; beyond that, the oldest of those asked for
        least often becomes invalid.
    :ivar max_codes_per_device: the same for one device id.
    :ivar agents: agent ids by device id or pattern. An exact id takes precedence, then the
        first pattern that matches; ``default`` serves all other devices.
    """

    max_devices: Annotated[int, Meta(ge=1, le=10_000_000)] = 100_000
    unused_ttl: Annotated[float, Meta(ge=3600, le=315_360_000)] = 604_800.0
    code_ttl: Annotated[float, Meta(ge=60, le=86_400)] = 1800.0
    max_codes: Annotated[int, Meta(ge=1, le=100_000)] = 10_000
    max_codes_per_device: Annotated[int, Meta(ge=1, le=10_000)] = 100
    agents: dict[str, str] = field(default_factory=dict)

    @property
    def limits(self) -> ClaimLimits:
        """The limits of the registry."""
        return ClaimLimits(
            self.max_devices, self.max_codes, self.max_codes_per_device, self.code_ttl
        )


class AiSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file.

    :ivar state_dir: directory for state; created if it does not exist.
    :ivar node: name of this process; empty: host name and a number.
    :ivar threads: number of worker threads.
    :ivar drain_timeout: seconds for running turns to end at a shutdown; after that, their
        sessions move to another process anyway.
    :ivar providers: settings by kind and name: ``{"tts": {"espeak": {…}}}``.
    :ivar tools: settings by tool source; false disables one.
    :ivar agent_timeout: seconds that a new session waits for its device's agent. After that,
        the default agent serves until the first turn after the other one is found.
    :ivar agents: by id, differences from ``session`` and ``selected``; see
        :class:`~xiaozhi.agents.sections.AgentSection`.
    """

    state_dir: str = "var"
    node: str = ""
    threads: Annotated[int, Meta(ge=1, le=64)] = 4
    drain_timeout: Annotated[float, Meta(ge=0, le=600)] = 15.0
    agent_timeout: Annotated[float, Meta(ge=0.05, le=60)] = 3.0
    auth: AuthSettings = field(default_factory=AuthSettings)
    devices: RegistrySettings = field(default_factory=RegistrySettings)
    grpc: ServerSettings = field(default_factory=ServerSettings)
    http: HttpSettings = field(default_factory=HttpSettings)
    history: HistorySettings = field(default_factory=HistorySettings)
    files: FilesSettings = field(default_factory=FilesSettings)
    presence: PresenceAddress = field(default_factory=PresenceAddress)
    inbox: InboxSettings = field(default_factory=InboxSettings)
    session: SessionSettings = field(default_factory=SessionSettings)
    selected: Selected = field(default_factory=Selected)
    failover: FailoverSettings = field(default_factory=FailoverSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    log: LogSettings = field(default_factory=LogSettings)
    providers: dict[str, Any] = {}
    tools: dict[str, Any] = {}
    agents: dict[str, Any] = {}

    def __post_init__(self) -> None:
        # Otherwise the last provider of a list would have no time left. The timeouts of a
        # turn are extended instead, see TurnSettings.of_lists.
        chosen = self.selected.vlllm
        before = 0 if isinstance(chosen, str) else max(0, len(chosen) - 1)
        if before * self.failover.vlllm >= self.http.vision.timeout:
            raise ValueError(
                f"needs failover.vlllm × {before} < http.vision.timeout, or the last of"
                " selected.vlllm has no time left"
            )
