"""``twistd xiaozhi-ai``: assembles the AI service from its parts."""

from __future__ import annotations

import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from xiaozhi import __version__
from xiaozhi.ai.assembly import Agents, assemble_agents
from xiaozhi.ai.http.agents import AgentHandlers
from xiaozhi.ai.http.site import SiteParts, make_site
from xiaozhi.ai.memory.history import History
from xiaozhi.ai.metrics import AiMetrics, AiSources
from xiaozhi.ai.owners import device_owners
from xiaozhi.ai.schema import AiSettings
from xiaozhi.ai.session.leases import AgentLeases
from xiaozhi.ai.session.scheduler import Scheduler
from xiaozhi.ai.session.sessions import Sessions
from xiaozhi.ai.session.shared import SessionRuntime, SharedServices
from xiaozhi.ai.speech.phrases import AREA as PHRASES
from xiaozhi.ai.timeline.counts import AiCounts
from xiaozhi.ai.vision.store import AREA as PICTURES
from xiaozhi.auth import (
    AdminToken,
    AuthSettings,
    Roster,
    admin_token,
    device_identity,
    make_tokens,
    read_secret,
)
from xiaozhi.bridge.grpc.loop import AsyncioThread
from xiaozhi.bridge.grpc.port import GrpcPort
from xiaozhi.bridge.security import server_security
from xiaozhi.bridge.service.server import BridgeServer
from xiaozhi.cache import outside
from xiaozhi.cache.backend import NoPoster, RedisPoster
from xiaozhi.interfaces import Offload
from xiaozhi.metrics.process import ProcessMetrics, ReactorLag
from xiaozhi.metrics.registry import Metrics
from xiaozhi.providers.kit.catalogue import names
from xiaozhi.providers.kit.registry import ProviderRegistry
from xiaozhi.runtime.clocks import use_monotonic_timers, wall_time
from xiaozhi.runtime.component import Component
from xiaozhi.runtime.config import load, read_section
from xiaozhi.runtime.hangup import HangupHandler
from xiaozhi.runtime.listening import Listener
from xiaozhi.runtime.logs import observer_for
from xiaozhi.runtime.offload import ThreadOffload
from xiaozhi.runtime.periodic import PeriodicJob
from xiaozhi.runtime.service import Program, ServiceOptions, one_line_errors, state_directory
from xiaozhi.storage import dialogues_from_url, tool_values_from_url
from xiaozhi.storage.files import Area, DirectoryFiles
from xiaozhi.tools.runtime import ToolFacilities
from xiaozhi.tools.sources import ToolSources, choose_sources
from xiaozhi.web.guards import Insiders, management_guard
from xiaozhi.web.pages import metrics_site
from xiaozhi.web.posting import Posting
from xiaozhi.web.site import WebSite

_log = Logger()

Edges = RedisPoster | NoPoster


class Options(ServiceOptions):
    """``twistd xiaozhi-ai --config etc/ai.yaml [--set KEY=VALUE …]``"""

    synopsis = "[options]"
    longdesc = "The brain: recognition, dialogue, tools and speech behind gRPC and HTTP."


@dataclass(frozen=True, slots=True)
class Runtime:
    """Facilities for providers: an ``interfaces.ProviderRuntime``."""

    reactor: Any
    offload: Offload


def makeService(options: Options) -> IService:
    """Read the configuration and assemble the service without starting it."""
    from twisted.internet import reactor

    use_monotonic_timers(reactor)
    with one_line_errors("xiaozhi-ai"):
        settings = load(options.path, AiSettings, options.overrides)
        return ai_service(settings, reactor, options)


def ai_service(settings: AiSettings, reactor: Any, options: Options | None = None) -> Program:
    """Assemble the AI service as one service.

    Parts that sessions need start first, ports last; they stop in reverse order.

    :raises ConfigError: the settings are invalid.
    """
    own = _Identity.of(settings)
    owners = device_owners(settings, own.state, reactor)
    edges = outside(settings.presence, settings.inbox, reactor, own.node)
    offload = ThreadOffload(reactor, settings.threads)
    files = _files(settings, own, offload)
    agents = assemble_agents(settings, Runtime(reactor, offload), files, offload, options)
    registry, table = agents.registry, agents.table
    history = _history(settings, own, reactor)
    counts = _counts(settings)
    tools = _tools(settings, own, edges, reactor, options)

    def health() -> dict[str, Any]:
        report = _health(settings, bridge.server, registry, history, edges, owners.roster, tools)
        report["bridge"]["refused"] = bridge.port.refused
        refused = web.visitors.refusals.counts
        report["http"] = {"connections": web.site.connections, "refused": refused}
        return report

    metrics = Metrics()
    management = AdminToken(admin_token(own.auth))
    parts = SiteParts(
        tokens=make_tokens(own.auth, reactor, owners.roster),
        model=lambda: agents.vision,
        health=health,
        posting=_posting(settings, edges, management),
        insiders=_insiders(settings, management),
        requests=counts.requests,
        metrics=metrics if settings.metrics.shared else None,
        registrar=owners.registrar,
        agents=AgentHandlers(agents.files.reload, management_guard(management.check)),
    )
    web = make_site(settings.http, parts, reactor)
    shared = SharedServices(
        tools=tools,
        runtime=_session_runtime(settings, offload, reactor),
        history=history,
        vision=web.offer,
        counts=counts,
    )
    leases = AgentLeases(agents.files, table)
    sessions = Sessions(shared, leases, owners.roster.get, owners.registrar.met)
    owners.roster.when_changed(sessions.owner_changed)
    bridge = _bridge(settings, own, sessions, reactor)
    sources = AiSources(
        bridge=bridge.server.status,
        crossings=bridge.thread.crossings,
        history=history,
        threads=lambda: offload.unfinished,
        http_connections=lambda: web.site.connections,
        refused=lambda: bridge.port.refused,
        presence=edges.trouble,
        providers=registry.status,
    )
    metrics.add(AiMetrics(counts, sources))
    program = _program(settings, metrics, reactor, options)
    program.add(offload)
    program.add(Component("device registry", owners.start, owners.stop))
    program.add(Component("presence", edges.start, edges.stop))
    program.add(Component("providers", registry.prepare, registry.close))
    program.add(Component("tools", tools.start, tools.stop))
    program.add(_coroutines("history", history.start, history.stop))
    program.add(_purging(settings, files, reactor))
    program.add(Component("prewarming", table.start, table.stop))
    bridge.add_to(program, settings.drain_timeout)
    program.add(_listener(settings, web.site, reactor))
    program.add(_reloading(agents, reactor))
    return program


def _session_runtime(settings: AiSettings, offload: ThreadOffload, reactor: Any) -> SessionRuntime:
    scheduler, wait = Scheduler(reactor), settings.agent_timeout
    return SessionRuntime(reactor, wall_time(reactor), offload.within, scheduler, wait)


def _reloading(agents: Agents, reactor: Any) -> Component:
    hangup = HangupHandler(reactor, agents.files.reload)
    return Component("SIGHUP", hangup.start, hangup.stop)


@dataclass(frozen=True)
class _Identity:
    """Identity of this process.

    :ivar node: its name, for people.
    :ivar state: its state directory.
    :ivar auth: the directory of its secrets.
    """

    node: str
    state: Path
    auth: AuthSettings

    @classmethod
    def of(cls, settings: AiSettings) -> _Identity:
        node = settings.node or f"{socket.gethostname()}-{uuid4().hex[:6]}"
        state = state_directory(settings.state_dir)
        return cls(node, state, settings.auth.kept_in(state))


def _program(
    settings: AiSettings, metrics: Metrics, reactor: Any, options: Options | None
) -> Program:
    """Make the program with its log and the metrics of the process."""
    lag = ReactorLag(reactor)
    metrics.add(ProcessMetrics("ai", __version__, lag))
    log = observer_for(settings.log, options.parent if options else None)
    program = Program(reactor, options, log=log)
    program.add(Component("reactor lag", lag.start, lag.stop))
    if (separate := settings.metrics.separate) is not None:
        page = metrics_site(metrics, reactor)
        program.add(Listener(reactor, separate, page, "metrics.listen", one_key=True))
    return program


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


# --- counters


def _counts(settings: AiSettings) -> AiCounts:
    chosen = names(msgspec.structs.asdict(settings.selected))
    return AiCounts({kind: first for kind, (first, *_) in chosen.items()})


# --- tools and storage


def _tools(
    settings: AiSettings, own: _Identity, edges: Edges, reactor: Any, options: Options | None
) -> ToolSources:
    store = tool_values_from_url(_history_url(settings, own), reactor)
    facilities = ToolFacilities.of(reactor, wall_time(reactor), store, edges.inbox)
    read = partial(read_section, path=options.path if options else "configuration")
    return choose_sources(settings.tools, facilities, read)


def _history_url(settings: AiSettings, own: _Identity) -> str:
    return settings.history.url or f"sqlite:///{own.state / 'ai.sqlite3'}"


def _history(settings: AiSettings, own: _Identity, reactor: Any) -> History:
    history, url = settings.history, _history_url(settings, own)
    store = dialogues_from_url(url, reactor, pool_size=history.pool_size)
    return History(store, reactor, wall_time(reactor), history)


def _files(settings: AiSettings, own: _Identity, offload: ThreadOffload) -> DirectoryFiles:
    files = settings.files
    areas = {
        PHRASES: Area(files.phrases.max_age, files.phrases.max_bytes),
        PICTURES: Area(files.pictures.max_age, files.pictures.max_bytes),
    }
    return DirectoryFiles(Path(files.directory or own.state / "files"), areas, offload)


def _purging(settings: AiSettings, files: DirectoryFiles, reactor: Any) -> Component:
    interval = settings.files.purge_interval
    job = PeriodicJob("removing files", files.purge, reactor, interval=interval, first=60.0)
    return Component("files", job.start, job.stop)


# --- the bridge


@dataclass(frozen=True)
class _Bridge:
    """The gRPC port, its thread, and the sessions' end of the bridge."""

    server: BridgeServer
    port: GrpcPort
    thread: AsyncioThread

    def add_to(self, program: Program, drain_timeout: float) -> None:
        program.add(Component("bridge", self.server.start, self.server.stop))
        program.add(
            Component("sessions", stop=lambda: self.server.drain(drain_timeout)),
            stop_limit=drain_timeout + 10,
        )


def _bridge(settings: AiSettings, own: _Identity, sessions: Sessions, reactor: Any) -> _Bridge:
    thread = AsyncioThread(reactor)
    port = GrpcPort(thread, settings.grpc, server_security(settings.grpc, read_secret))
    server = BridgeServer(port, sessions, settings.grpc, reactor, own.node, uuid4().hex)
    return _Bridge(server, port, thread)


# --- HTTP


def _listener(settings: AiSettings, site: WebSite, reactor: Any) -> Listener:
    listen = settings.http.listen
    return Listener(reactor, (listen.host, listen.port), site, "http.listen")


def _posting(settings: AiSettings, edges: Edges, management: AdminToken) -> Posting:
    inbox = settings.inbox
    return Posting(
        edges.inbox,
        management.check,
        device_identity,
        ttl=inbox.ttl,
        max_ttl=inbox.max_ttl,
        max_bytes=inbox.max_bytes,
    )


def _insiders(settings: AiSettings, management: AdminToken) -> Insiders:
    http = settings.http
    return Insiders(management.check, http.trusted_proxies, trust_loopback=http.trust_loopback)


def _health(
    settings: AiSettings,
    bridge: BridgeServer,
    providers: ProviderRegistry,
    history: History,
    edges: Edges,
    roster: Roster,
    tools: ToolSources,
) -> dict[str, Any]:
    """Return the state of every part for the health page."""
    status = bridge.status()
    checks = {
        "presence": edges.trouble(),
        "providers": providers.trouble(),
        "devices": roster.trouble(),
        "history": history.loss(),
        "tools": tools.trouble(),
    }
    well = "degraded" if any(checks.values()) else "healthy"
    return {
        "status": well if status.state != "disconnected" else "unhealthy",
        "version": __version__,
        "connections": status.sessions,
        "grpc_status": status.state,
        "draining": bridge.draining,
        "sessions": status.sessions,
        "providers": {**providers.health(), "vad": [{"name": settings.selected.vad}]},
        "bridge": {**status.detail},
        "history": {
            "pending": history.pending,
            "dropped": history.dropped,
            "trouble": history.trouble(),
        },
        "tools": tools.health(),
        "checks": {check: trouble or "ok" for check, trouble in checks.items()},
    }
