"""``twistd xiaozhi-im``: where the edge's parts meet."""

from __future__ import annotations

import random
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from xiaozhi import __version__
from xiaozhi.auth import (
    AdminToken,
    Roster,
    admin_token,
    device_identity,
    make_tokens,
    read_secret,
)
from xiaozhi.base.errors import StoreError
from xiaozhi.bridge.client import BridgeClient
from xiaozhi.bridge.discovery import Discovery, reactor_resolve
from xiaozhi.bridge.grpc_client import GrpcDialer
from xiaozhi.bridge.loop import AsyncioThread
from xiaozhi.bridge.security import client_security
from xiaozhi.cache import whereabouts
from xiaozhi.im.ingress.gateway import Gateway
from xiaozhi.im.ingress.pages import EdgeSite, Surroundings
from xiaozhi.im.ingress.port import EdgePortFactory
from xiaozhi.im.metrics import EdgeMetrics
from xiaozhi.im.schema import ImSettings
from xiaozhi.im.session.link import DeviceLink
from xiaozhi.im.sessionlog.journal import Journal
from xiaozhi.im.sessionlog.retention import upkeep
from xiaozhi.im.settings import EdgeSettings
from xiaozhi.im.websocket.protocol import DeviceFactory
from xiaozhi.im.websocket.recording import AREA as RECORDINGS
from xiaozhi.im.websocket.recording import RecordedLink, Recorder
from xiaozhi.interfaces import ISessionStore, ISpool
from xiaozhi.metrics.page import Metrics, MetricsSite
from xiaozhi.metrics.process import ProcessMetrics, ReactorLag
from xiaozhi.runtime.clocks import use_monotonic_timers, wall_time
from xiaozhi.runtime.component import Component
from xiaozhi.runtime.config import load
from xiaozhi.runtime.listening import Listener
from xiaozhi.runtime.logs import observer_for
from xiaozhi.runtime.offload import ThreadOffload
from xiaozhi.runtime.periodic import PeriodicJob
from xiaozhi.runtime.service import Program, ServiceOptions, one_line_errors, state_directory
from xiaozhi.storage import Spool, devices_from_url, store_from_url
from xiaozhi.storage.files import Area, DirectoryFiles
from xiaozhi.web.insiders import Insiders
from xiaozhi.web.posting import Posting

_log = Logger()


class Options(ServiceOptions):
    """``twistd xiaozhi-im --config etc/im.yaml [--set KEY=VALUE …]``"""

    synopsis = "[options]"
    longdesc = "The edge: XiaoZhi devices by WebSocket, the AI service by gRPC."


def makeService(options: Options) -> IService:
    """Read the configuration and put the edge together; nothing is started."""
    from twisted.internet import reactor

    use_monotonic_timers(reactor)
    with one_line_errors("xiaozhi-im"):
        return edge_service(load(options.path, ImSettings, options.overrides), reactor, options)


def edge_service(settings: ImSettings, reactor: Any, options: Options | None = None) -> Program:
    """The edge, as one service.

    Parts start from the store outwards, so that a device finds everything there;
    they stop in reverse: first nobody new comes in, then everybody is sent
    away, and the log is written to its end last.

    :raises ConfigError: the settings cannot be used.
    """
    state = state_directory(settings.state_dir)
    node = settings.node or f"{socket.gethostname()}-{uuid4().hex[:6]}"
    boot = uuid4().hex
    auth = settings.auth.kept_in(state)
    roster = _roster(settings, state, reactor)
    tokens = make_tokens(auth, reactor, roster)
    store = store_from_url(_store_url(settings, state), reactor, pool_size=settings.store.pool_size)
    journal = Journal(
        store,
        reactor,
        keep_content=settings.store.content,
        spool=_spool(settings, state, reactor),
        node=node,
        flush_interval=settings.store.flush_interval,
        batch_size=settings.store.batch_size,
        capacity=settings.store.capacity,
        capacity_bytes=settings.store.capacity_bytes,
        max_content_bytes=settings.store.max_content_bytes,
        spool_after=settings.store.spool_after,
    )
    started = datetime.now(UTC).isoformat(timespec="seconds")

    def describe() -> dict[str, Any]:
        return {
            "address": f"{socket.gethostname()}:{listener.number}",
            "started": started,
            "connections": gateway.connections,
        }

    where = whereabouts(settings.presence, settings.inbox, reactor, node, boot, describe)
    discovery = Discovery(
        settings.bridge.targets,
        reactor_resolve(reactor),
        reactor,
        settings.bridge.resolve_interval,
        settings.bridge.resolve_timeout,
    )
    security = client_security(settings.bridge, read_secret)
    thread = AsyncioThread(reactor)
    bridge = BridgeClient(
        GrpcDialer(thread, settings.bridge, security, discovery.server_name),
        settings.bridge,
        reactor,
        random.random,
        node,
        boot,
    )
    recording = _recording(settings, reactor)
    gateway = Gateway(
        bridge=bridge,
        journal=journal,
        authenticator=tokens,
        presence=where.presence,
        inbox=where.inbox,
        clock=reactor,
        settings=EdgeSettings(
            link=settings.link,
            pacer=settings.pacer,
            limits=settings.limits,
            gateway=settings.gateway,
            log_messages=settings.log.messages,
        ),
        node=node,
        make_link=DeviceLink if recording is None else recording.make_link,
    )
    roster.when_changed(gateway.owner_changed)
    # With a spool nothing is lost while the store is away.
    vital, useful = (
        {"store": journal.trouble},
        {"presence": where.trouble, "devices": roster.trouble, "log": journal.loss},
    )
    if settings.store.spool_bytes:
        useful |= vital
        vital = {}
    around = Surroundings(
        vital=vital,
        useful=useful,
        details={"store": journal.status},
        nodes=where.nodes,
    )
    management = AdminToken(admin_token(auth))
    gate = settings.gateway
    insiders = Insiders(management.check, gate.trusted_proxies, trust_loopback=gate.trust_loopback)
    posting = Posting(
        where.inbox,
        management.check,
        device_identity,
        ttl=settings.inbox.ttl,
        max_ttl=settings.inbox.max_ttl,
        max_bytes=settings.inbox.max_bytes,
    )
    metrics = Metrics()
    shared = metrics if settings.metrics.shared else None
    site = EdgeSite(gateway, bridge, around, posting, insiders, reactor, metrics=shared)
    door = EdgePortFactory(gateway.edge, DeviceFactory(gateway), site)
    listen = settings.listen
    listener = Listener(reactor, listen.host, listen.port, door, reuse_port=listen.reuse_port)
    lag = ReactorLag(reactor)
    metrics.add(ProcessMetrics("im", __version__, lag))
    metrics.add(EdgeMetrics(gateway, door, site, bridge, journal, thread.crossings, where.trouble))

    log = observer_for(settings.log, options.parent if options else None)
    program = Program(reactor, options, log=log)
    if not settings.auth.required:
        program.add(
            Component("notice", lambda: _log.warn("auth.required is off: any device may connect"))
        )
    program.add(Component("reactor lag", lag.start, lag.stop))
    if (own := settings.metrics.separate) is not None:
        page = MetricsSite(metrics, reactor)
        program.add(Listener(reactor, *own, page, "metrics.listen", one_key=True))
    program.add(
        Component(
            "device registry",
            lambda: Deferred.fromCoroutine(roster.start()),
            lambda: Deferred.fromCoroutine(roster.stop()),
        )
    )
    program.add(Component("store", lambda: _opened(store, settings), store.stop))
    program.add(Component("journal", journal.start, journal.stop))
    for each in upkeep(
        store,
        journal,
        node=node,
        clock=reactor,
        retention_days=settings.store.retention_days,
        purge_interval=settings.store.purge_interval,
        stale_after=settings.store.stale_after,
    ):
        program.add(Component(each.name, each.start, each.stop))
    if recording is not None:
        program.add(recording.offload)
        program.add(Component("recordings", recording.start, recording.stop))
    program.add(Component("presence", where.start, where.stop))
    program.add(Component("bridge", bridge.start, bridge.stop))
    program.add(Component("targets", lambda: discovery.start(bridge.retarget), discovery.stop))
    program.add(Component("timers", stop=gateway.stop))
    program.add(
        Component("devices", stop=lambda: gateway.drain(settings.drain_timeout)),
        stop_limit=settings.drain_timeout + 10,
    )
    program.add(listener)
    return program


@dataclass(frozen=True)
class _Recording:
    """What is needed to record sessions."""

    directory: str
    offload: ThreadOffload
    recorder: Recorder
    upkeep: PeriodicJob

    def make_link(self, *args: Any) -> DeviceLink:
        return RecordedLink(self.recorder.recording(), *args)

    def start(self) -> None:
        _log.warn(
            "what devices and people say is recorded in {directory}", directory=self.directory
        )
        self.upkeep.start()

    def stop(self) -> Deferred[Any]:
        self.upkeep.stop()
        return self.recorder.stop()


def _recording(settings: ImSettings, reactor: Any) -> _Recording | None:
    own = settings.record
    if not own.dir:
        return None
    offload = ThreadOffload(reactor, 1)
    areas = {RECORDINGS: Area(own.max_age, own.max_bytes, ".jsonl")}
    files = DirectoryFiles(Path(own.dir), areas, offload)
    recorder = Recorder(files, reactor, own.max_session_bytes, wall_time(reactor))
    upkeep = PeriodicJob(
        "removing recordings", files.purge, reactor, interval=own.purge_interval, first=10.0
    )
    return _Recording(own.dir, offload, recorder, upkeep)


def _roster(settings: ImSettings, state: Path, reactor: Any) -> Roster:
    own = settings.devices
    registry = devices_from_url(own.address(state), reactor, pool_size=own.pool_size)
    return Roster(registry, reactor, own.poll_interval)


def _store_url(settings: ImSettings, state: Path) -> str:
    return settings.store.url or f"sqlite:///{state / 'im.sqlite3'}"


def _spool(settings: ImSettings, state: Path, reactor: Any) -> ISpool | None:
    limit = settings.store.spool_bytes
    return Spool(state / "spool", reactor, limit=limit) if limit else None


def _opened(store: ISessionStore, settings: ImSettings) -> Deferred[None]:
    """Open the store; one that may be away is opened later by whoever writes to it."""

    def failed(failure: Failure) -> None:
        error = failure.value
        reached = not isinstance(error, StoreError) or error.code != "store_unavailable"
        if settings.store.required or reached:
            failure.raiseException()
        _log.error("started without it: {error}", error=str(error))

    return store.start().addErrback(failed)
