"""The configuration file of the AI service, as ``etc/ai.yaml`` documents it."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct, field

from xiaozhi.ai.http.settings import HttpSettings
from xiaozhi.ai.settings import HistorySettings, SessionSettings
from xiaozhi.auth import AuthSettings
from xiaozhi.bridge.settings import ServerSettings
from xiaozhi.cache import InboxSettings, PresenceAddress
from xiaozhi.logs import LogSettings
from xiaozhi.metrics.settings import MetricsSettings


class Selected(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The provider of each kind, by name; their settings are under ``providers``."""

    asr: str = "sphinx"
    llm: str = "intents"
    tts: str = "espeak"
    vlllm: str = "stand_in"
    vad: str = "webrtc"


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file.

    :ivar state_dir: made if it is not there.
    :ivar node: this process's name among others; empty: host name and a number.
    :ivar threads: worker threads for encoding.
    :ivar drain_timeout: seconds that running turns get to end at a shutdown; then
        their sessions move to another process all the same.
    :ivar providers: settings by kind and name: ``{"tts": {"espeak": {…}}}``.
    """

    state_dir: str = "var"
    node: str = ""
    threads: Annotated[int, Meta(ge=1, le=64)] = 4
    drain_timeout: Annotated[float, Meta(ge=0, le=600)] = 15.0
    auth: AuthSettings = field(default_factory=AuthSettings)
    grpc: ServerSettings = field(default_factory=ServerSettings)
    http: HttpSettings = field(default_factory=HttpSettings)
    history: HistorySettings = field(default_factory=HistorySettings)
    presence: PresenceAddress = field(default_factory=PresenceAddress)
    inbox: InboxSettings = field(default_factory=InboxSettings)
    session: SessionSettings = field(default_factory=SessionSettings)
    selected: Selected = field(default_factory=Selected)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    log: LogSettings = field(default_factory=LogSettings)
    providers: dict[str, Any] = {}
