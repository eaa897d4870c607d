"""``twistd xiaozhi-im``: assembles the edge from its parts."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Coroutine
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
    AuthSettings,
    Roster,
    admin_token,
    device_identity,
    make_tokens,
    read_secret,
)
from xiaozhi.base.errors import StoreError
from xiaozhi.bridge.edge.client import BridgeClient
from xiaozhi.bridge.edge.discovery import Discovery, reactor_resolve
from xiaozhi.bridge.grpc.dialer import GrpcDialer
from xiaozhi.bridge.grpc.loop import AsyncioThread
from xiaozhi.bridge.security import client_security
from xiaozhi.cache import presence_backend
from xiaozhi.cache.backend import PresenceBackend
from xiaozhi.im.ingress.gateway import EdgeServices, Gateway
from xiaozhi.im.ingress.pages import EdgePages, Surroundings, edge_site
from xiaozhi.im.ingress.port import EdgePortFactory
from xiaozhi.im.metrics import EdgeMetrics, Front
from xiaozhi.im.schema import ImSettings
from xiaozhi.im.sessionlog.journal import Journal, JournalSettings
from xiaozhi.im.sessionlog.retention import retention_jobs
from xiaozhi.im.settings import EdgeSettings
from xiaozhi.im.websocket.channel import Socket, WebSocketChannel
from xiaozhi.im.websocket.protocol import DeviceFactory
from xiaozhi.im.websocket.recording import AREA as RECORDINGS
from xiaozhi.im.websocket.recording import RecordedChannel, Recorder
from xiaozhi.interfaces import IDeviceInbox, ISessionStore, ISpool
from xiaozhi.metrics.process import ProcessMetrics, ReactorLag
from xiaozhi.metrics.registry import Metrics
from xiaozhi.runtime.clocks import use_monotonic_timers, wall_time
from xiaozhi.runtime.component import Component
from xiaozhi.runtime.config import load
from xiaozhi.runtime.hangup import HangupHandler
from xiaozhi.runtime.listening import Listener
from xiaozhi.runtime.logs import observer_for
from xiaozhi.runtime.offload import ThreadOffload
from xiaozhi.runtime.periodic import PeriodicJob
from xiaozhi.runtime.service import Program, ServiceOptions, one_line_errors, state_directory
from xiaozhi.storage import Spool, devices_from_url, store_from_url
from xiaozhi.storage.files import Area, DirectoryFiles
from xiaozhi.web.guards import Insiders
from xiaozhi.web.pages import metrics_site
from xiaozhi.web.posting import Posting
from xiaozhi.web.site import WebSite

_log = Logger()


class Options(ServiceOptions):
    """``twistd xiaozhi-im --config etc/im.yaml [--set KEY=VALUE …]``"""

    synopsis = "[options]"
    longdesc = "The edge: XiaoZhi devices by WebSocket, the AI service by gRPC."


def makeService(options: Options) -> IService:
    """Read the configuration and assemble the edge without starting it."""
    from twisted.internet import reactor

    use_monotonic_timers(reactor)
    with one_line_errors("xiaozhi-im"):
        return edge_service(load(options.path, ImSettings, options.overrides), reactor, options)


def edge_service(settings: ImSettings, reactor: Any, options: Options | None = None) -> Program:
    """Assemble the edge as one service.

    Parts start from the store outwards, so that everything runs when devices connect. They
    stop in reverse order: the port closes, devices leave, and the session log is written last.

    :raises ConfigError: the settings are invalid.
    """
    own = _Identity.of(settings)
    roster = _roster(settings, own, reactor)
    tokens = make_tokens(own.auth, reactor, roster)
    log = _session_log(settings, own, reactor)
    started = datetime.now(UTC).isoformat(timespec="seconds")

    def describe() -> dict[str, Any]:
        address = f"{socket.gethostname()}:{front.listener.number}"
        return {"address": address, "started": started, "connections": gateway.connections}

    where = presence_backend(
        settings.presence, settings.inbox, reactor, own.node, own.boot, describe
    )
    bridge = _bridge(settings, own, reactor)
    recording = _recording(settings, reactor)
    gateway = Gateway(
        EdgeServices(bridge.client, log.journal, tokens, where.presence, where.inbox),
        reactor,
        EdgeSettings(
            link=settings.link,
            pacer=settings.pacer,
            limits=settings.limits,
            gateway=settings.gateway,
            log_messages=settings.log.messages,
        ),
        own.node,
    )
    roster.when_changed(gateway.owner_changed)
    metrics = Metrics()
    around = _surroundings(settings, log.journal, where, roster)
    devices = DeviceFactory(gateway, recording.make_channel if recording else WebSocketChannel)
    front = _front(settings, own, devices, bridge.client, around, where.inbox, metrics, reactor)
    lag = ReactorLag(reactor)
    metrics.add(ProcessMetrics("im", __version__, lag))
    entry = Front(front.port, front.site)
    crossings, trouble = bridge.thread.crossings, where.trouble
    metrics.add(EdgeMetrics(gateway, entry, bridge.client, log.journal, crossings, trouble))

    observer = observer_for(settings.log, options.parent if options else None)
    program = Program(reactor, options, log=observer)
    if not settings.auth.required:
        program.add(Component("notice", _warn_of_open_door))
    program.add(Component("reactor lag", lag.start, lag.stop))
    if (separate := settings.metrics.separate) is not None:
        page = metrics_site(metrics, reactor)
        program.add(Listener(reactor, separate, page, "metrics.listen", one_key=True))
    program.add(_coroutines("device registry", roster.start, roster.stop))
    log.add_to(program)
    if recording is not None:
        program.add(recording.offload)
        program.add(Component("recordings", recording.start, recording.stop))
    program.add(Component("presence", where.start, where.stop))
    bridge.add_to(program)
    program.add(Component("timers", stop=gateway.stop))
    program.add(
        Component("devices", stop=lambda: gateway.drain(settings.drain_timeout)),
        stop_limit=settings.drain_timeout + 10,
    )
    program.add(front.listener)
    hangup = HangupHandler(reactor, _nothing_to_read)
    program.add(Component("SIGHUP", hangup.start, hangup.stop))
    return program


@dataclass(frozen=True)
class _Identity:
    """Identity of this process.

    :ivar node: its name, for people.
    :ivar boot: an id that is new at every start.
    :ivar state: its state directory.
    :ivar auth: the directory of its secrets.
    """

    node: str
    boot: str
    state: Path
    auth: AuthSettings

    @classmethod
    def of(cls, settings: ImSettings) -> _Identity:
        node = settings.node or f"{socket.gethostname()}-{uuid4().hex[:6]}"
        state = state_directory(settings.state_dir)
        return cls(node, uuid4().hex, state, settings.auth.kept_in(state))


def _nothing_to_read() -> None:
    _log.info("SIGHUP: the edge reads its configuration only at the start")


def _warn_of_open_door() -> None:
    _log.warn("auth.required is off: any device may connect")


def _coroutines(
    name: str,
    start: Callable[[], Coroutine[Any, Any, None]],
    stop: Callable[[], Coroutine[Any, Any, None]],
) -> Component:
    return Component(
        name,
        lambda: Deferred.fromCoroutine(start()),
        lambda: Deferred.fromCoroutine(stop()),
    )


# --- the session log


@dataclass(frozen=True)
class _SessionLog:
    """The store, the journal that writes to it, and their periodic jobs."""

    settings: ImSettings
    store: ISessionStore
    journal: Journal
    jobs: tuple[PeriodicJob, ...]

    def add_to(self, program: Program) -> None:
        program.add(Component("store", lambda: _opened(self.store, self.settings), self.store.stop))
        program.add(Component("journal", self.journal.start, self.journal.stop))
        for job in self.jobs:
            program.add(Component(job.name, job.start, job.stop))


def _session_log(settings: ImSettings, own: _Identity, reactor: Any) -> _SessionLog:
    chosen = settings.store
    store = store_from_url(
        chosen.url or f"sqlite:///{own.state / 'im.sqlite3'}", reactor, pool_size=chosen.pool_size
    )
    spool: ISpool | None = None
    if chosen.spool_bytes:
        spool = Spool(own.state / "spool", reactor, limit=chosen.spool_bytes)
    settled = JournalSettings(
        keep_content=chosen.content,
        flush_interval=chosen.flush_interval,
        batch_size=chosen.batch_size,
        capacity=chosen.capacity,
        capacity_bytes=chosen.capacity_bytes,
        max_content_bytes=chosen.max_content_bytes,
        spool_after=chosen.spool_after,
    )
    journal = Journal(store, reactor, settled, spool, own.node)
    jobs = retention_jobs(
        store,
        journal,
        node=own.node,
        clock=reactor,
        retention_days=chosen.retention_days,
        purge_interval=chosen.purge_interval,
        stale_after=chosen.stale_after,
    )
    return _SessionLog(settings, store, journal, tuple(jobs))


def _opened(store: ISessionStore, settings: ImSettings) -> Deferred[None]:
    """Open the store; if it is unavailable, the writer opens it later."""

    def failed(failure: Failure) -> None:
        error = failure.value
        reached = not isinstance(error, StoreError) or error.code != "store_unavailable"
        if settings.store.required or reached:
            failure.raiseException()
        _log.error("session log: started without the store: {error}", error=str(error))

    return store.start().addErrback(failed)


# --- the bridge


@dataclass(frozen=True)
class _Bridge:
    """The pool of streams, its thread, and the addresses it dials."""

    client: BridgeClient
    thread: AsyncioThread
    discovery: Discovery

    def add_to(self, program: Program) -> None:
        program.add(Component("bridge", self.client.start, self.client.stop))
        program.add(
            Component(
                "targets",
                lambda: self.discovery.start(self.client.retarget),
                self.discovery.stop,
            )
        )


def _bridge(settings: ImSettings, own: _Identity, reactor: Any) -> _Bridge:
    chosen = settings.bridge
    discovery = Discovery(
        chosen.targets,
        reactor_resolve(reactor),
        reactor,
        chosen.resolve_interval,
        chosen.resolve_timeout,
    )
    thread = AsyncioThread(reactor)
    dialer = GrpcDialer(thread, chosen, client_security(chosen, read_secret), discovery.server_name)
    client = BridgeClient(dialer, chosen, reactor, random.random, own.node, own.boot)
    return _Bridge(client, thread, discovery)


# --- the port and its pages


@dataclass(frozen=True)
class _Front:
    """The port of the edge, and the pages behind it."""

    listener: Listener
    port: EdgePortFactory
    site: WebSite


def _front(
    settings: ImSettings,
    own: _Identity,
    devices: DeviceFactory,
    bridge: BridgeClient,
    around: Surroundings,
    inbox: IDeviceInbox,
    metrics: Metrics,
    reactor: Any,
) -> _Front:
    management = AdminToken(admin_token(own.auth))
    gate = settings.gateway
    insiders = Insiders(management.check, gate.trusted_proxies, trust_loopback=gate.trust_loopback)
    posting = Posting(
        inbox,
        management.check,
        device_identity,
        ttl=settings.inbox.ttl,
        max_ttl=settings.inbox.max_ttl,
        max_bytes=settings.inbox.max_bytes,
    )
    shared = metrics if settings.metrics.shared else None
    pages = EdgePages(
        gateway=devices.gateway,
        bridge=bridge,
        around=around,
        posting=posting,
        insiders=insiders,
        metrics=shared,
    )
    site = edge_site(pages, reactor)
    port = EdgePortFactory(devices.gateway.entrance, devices, site)
    listen = settings.listen
    listener = Listener(reactor, (listen.host, listen.port), port, reuse_port=listen.reuse_port)
    return _Front(listener, port, site)


def _surroundings(
    settings: ImSettings, journal: Journal, where: PresenceBackend, roster: Roster
) -> Surroundings:
    """Collect the checks for health.

    With a spool, the store is not vital: nothing is lost while it is away.
    """
    vital = {"store": journal.trouble}
    useful = {"presence": where.trouble, "devices": roster.trouble, "log": journal.loss}
    if settings.store.spool_bytes:
        useful |= vital
        vital = {}
    return Surroundings(
        vital=vital, useful=useful, details={"store": journal.status}, nodes=where.nodes
    )


def _roster(settings: ImSettings, own: _Identity, reactor: Any) -> Roster:
    chosen = settings.devices
    registry = devices_from_url(chosen.address(own.state), reactor, pool_size=chosen.pool_size)
    return Roster(registry, reactor, chosen.poll_interval)


# --- recordings


@dataclass(frozen=True)
class _Recording:
    """The parts that record sessions."""

    directory: str
    offload: ThreadOffload
    recorder: Recorder
    purging: PeriodicJob

    def make_channel(self, socket: Socket, announced: int) -> WebSocketChannel:
        return RecordedChannel(self.recorder.recording(), socket, announced)

    def start(self) -> None:
        _log.warn(
            "device traffic, including speech, is recorded in {directory}", directory=self.directory
        )
        self.purging.start()

    def stop(self) -> Deferred[Any]:
        self.purging.stop()
        return self.recorder.stop()


def _recording(settings: ImSettings, reactor: Any) -> _Recording | None:
    own = settings.record
    if not own.dir:
        return None
    offload = ThreadOffload(reactor, 1)
    areas = {RECORDINGS: Area(own.max_age, own.max_bytes, ".jsonl")}
    files = DirectoryFiles(Path(own.dir), areas, offload)
    recorder = Recorder(files, reactor, own.max_session_bytes, wall_time(reactor))
    purging = PeriodicJob(
        "removing recordings", files.purge, reactor, interval=own.purge_interval, first=10.0
    )
    return _Recording(own.dir, offload, recorder, purging)
