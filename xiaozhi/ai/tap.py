"""``twistd xiaozhi-ai``: where the AI service's parts meet."""

from __future__ import annotations

import socket
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
from msgspec.structs import replace as replace_setting
from twisted.application.service import IService
from twisted.internet.defer import Deferred

from xiaozhi import __version__
from xiaozhi.agents.roles import check_roles
from xiaozhi.ai.http.registration import BindingRegistrar
from xiaozhi.ai.http.site import make_site
from xiaozhi.ai.memory.history import History
from xiaozhi.ai.metrics import AiMetrics
from xiaozhi.ai.schema import AiSettings
from xiaozhi.ai.session.scheduler import Scheduler
from xiaozhi.ai.session.sessions import Sessions
from xiaozhi.ai.session.shared import SharedServices
from xiaozhi.ai.speech.phrases import AREA as PHRASES
from xiaozhi.ai.speech.phrases import Phrases
from xiaozhi.ai.speech.prewarming import PhrasePrewarming
from xiaozhi.ai.speech.shipped import Shipped
from xiaozhi.ai.timeline.counts import AiCounts
from xiaozhi.ai.vision.store import AREA as PICTURES
from xiaozhi.ai.vision.store import PictureStore
from xiaozhi.auth import (
    AdminToken,
    Roster,
    admin_token,
    device_identity,
    make_tokens,
    read_secret,
)
from xiaozhi.base.errors import AuthError, ConfigError, StoreError
from xiaozhi.bridge.grpc_server import GrpcPort
from xiaozhi.bridge.loop import AsyncioThread
from xiaozhi.bridge.security import server_security
from xiaozhi.bridge.server import BridgeServer
from xiaozhi.cache import outside
from xiaozhi.interfaces import Offload
from xiaozhi.metrics.page import Metrics, MetricsSite
from xiaozhi.metrics.process import ProcessMetrics, ReactorLag
from xiaozhi.providers.kit.registry import choose, names
from xiaozhi.runtime.clocks import use_monotonic_timers, wall_time
from xiaozhi.runtime.component import Component
from xiaozhi.runtime.config import load, read_section
from xiaozhi.runtime.listening import Listener
from xiaozhi.runtime.logs import observer_for
from xiaozhi.runtime.offload import ThreadOffload
from xiaozhi.runtime.periodic import PeriodicJob
from xiaozhi.runtime.service import Program, ServiceOptions, one_line_errors, state_directory
from xiaozhi.storage import devices_from_url, dialogues_from_url
from xiaozhi.storage.files import Area, DirectoryFiles
from xiaozhi.tools.builtin.time import functions
from xiaozhi.web.insiders import Insiders
from xiaozhi.web.posting import Posting

# Devices noted as seen at the end, at most.
_LAST_SEEN = 10_000


class Options(ServiceOptions):
    """``twistd xiaozhi-ai --config etc/ai.yaml [--set KEY=VALUE …]``"""

    synopsis = "[options]"
    longdesc = "The brain: recognition, dialogue, tools and speech behind gRPC and HTTP."


@dataclass(frozen=True, slots=True)
class Runtime:
    """What providers may use: an ``interfaces.ProviderRuntime``."""

    reactor: Any
    offload: Offload


def makeService(options: Options) -> IService:
    """Read the configuration and put the service together; nothing is started."""
    from twisted.internet import reactor

    use_monotonic_timers(reactor)
    with one_line_errors("xiaozhi-ai"):
        settings = load(options.path, AiSettings, options.overrides)
        return ai_service(settings, reactor, options)


def ai_service(settings: AiSettings, reactor: Any, options: Options | None = None) -> Program:
    """The AI service, as one service.

    Parts start with what sessions need and open the doors last; they stop in
    reverse, so that sessions have ended before their providers go.

    :raises ConfigError: the settings cannot be used.
    """
    check_roles(settings.session)
    state = state_directory(settings.state_dir)
    node = settings.node or f"{socket.gethostname()}-{uuid4().hex[:6]}"
    auth = settings.auth.kept_in(state)
    owners = _owners(settings, state, reactor)
    tokens = make_tokens(auth, reactor, owners.roster)
    edges = outside(settings.presence, settings.inbox, reactor, node)
    security = server_security(settings.grpc, read_secret)
    offload = ThreadOffload(reactor, settings.threads)
    providers = choose(
        msgspec.structs.asdict(settings.selected),
        settings.providers,
        Runtime(reactor, offload),
        partial(read_section, path=options.path if options else "configuration"),
        failover=settings.failover,
    )

    history = History(
        dialogues_from_url(
            settings.history.url or f"sqlite:///{state / 'ai.sqlite3'}",
            reactor,
            pool_size=settings.history.pool_size,
        ),
        reactor,
        wall_time(reactor),
        settings.history,
    )

    kept = settings.files
    files = DirectoryFiles(
        Path(kept.directory or state / "files"),
        {
            PHRASES: Area(kept.phrases.max_age, kept.phrases.max_bytes),
            PICTURES: Area(kept.pictures.max_age, kept.pictures.max_bytes),
        },
        offload,
    )
    if kept.pictures.keep:
        providers = replace(providers, vlllm=PictureStore(providers.vlllm, files))
    phrases = Phrases(files, *_voice(settings), Shipped(offload.within).find)
    before = {ring.kind: ring.before for ring in providers.rings}
    session = replace_setting(settings.session, turn=settings.session.turn.of_lists(before))
    rehearsal = PhrasePrewarming(phrases, providers.tts, offload.within, reactor, session)

    def health() -> dict[str, Any]:
        trouble, failing = edges.trouble(), providers.trouble()
        unread = owners.roster.trouble()
        lost = history.loss()
        well = "degraded" if trouble or failing or unread or lost else "healthy"
        return {
            "status": well if bridge.status().state != "disconnected" else "unhealthy",
            "version": __version__,
            "connections": bridge.status().sessions,
            "grpc_status": bridge.status().state,
            "draining": bridge.draining,
            "sessions": bridge.status().sessions,
            "providers": {**providers.health(), "vad": [{"name": settings.selected.vad}]},
            "bridge": {**bridge.status().detail, "refused": port.refused},
            "http": {"connections": site.connections, "refused": site.visitors.refusals.counts},
            "history": {
                "pending": history.pending,
                "dropped": history.dropped,
                "trouble": history.trouble(),
            },
            "checks": {
                "presence": trouble or "ok",
                "providers": failing or "ok",
                "devices": unread or "ok",
                "history": lost or "ok",
            },
        }

    management = AdminToken(admin_token(auth))
    insiders = Insiders(
        management.check,
        settings.http.trusted_proxies,
        trust_loopback=settings.http.trust_loopback,
    )
    posting = Posting(
        edges.inbox,
        management.check,
        device_identity,
        ttl=settings.inbox.ttl,
        max_ttl=settings.inbox.max_ttl,
        max_bytes=settings.inbox.max_bytes,
    )
    chosen = names(msgspec.structs.asdict(settings.selected))
    counts = AiCounts({kind: first for kind, (first, *_) in chosen.items()})
    metrics = Metrics()
    site, vision = make_site(
        settings.http,
        tokens,
        lambda: providers.vlllm,
        health,
        posting,
        insiders,
        reactor,
        counts.requests,
        metrics if settings.metrics.shared else None,
        owners.registrar,
    )
    assistant = SharedServices(
        providers=providers,
        functions=functions,
        settings=session,
        clock=reactor,
        seconds=wall_time(reactor),
        offload=offload.within,
        history=history,
        desk=Scheduler(reactor),
        phrases=phrases,
        rehearse=rehearsal.wanted,
        vision=vision,
        counts=counts,
    )
    thread = AsyncioThread(reactor)
    port = GrpcPort(thread, settings.grpc, security)
    sessions = Sessions(assistant, owners.roster.get, owners.registrar.met)
    owners.roster.when_changed(sessions.owner_changed)
    bridge = BridgeServer(
        port,
        sessions,
        settings.grpc,
        reactor,
        node,
        uuid4().hex,
    )

    lag = ReactorLag(reactor)
    metrics.add(ProcessMetrics("ai", __version__, lag))
    metrics.add(
        AiMetrics(
            counts,
            bridge.status,
            thread.crossings,
            lambda: offload.unfinished,
            lambda: site.connections,
            history,
            lambda: port.refused,
            edges.trouble,
            providers.status,
        )
    )

    log = observer_for(settings.log, options.parent if options else None)
    program = Program(reactor, options, log=log)
    program.add(Component("reactor lag", lag.start, lag.stop))
    if (own := settings.metrics.separate) is not None:
        page = MetricsSite(metrics, reactor)
        program.add(Listener(reactor, *own, page, "metrics.listen", one_key=True))
    program.add(offload)
    program.add(Component("device registry", owners.start, owners.stop))
    program.add(Component("presence", edges.start, edges.stop))
    program.add(Component("providers", providers.prepare, providers.close))
    program.add(
        Component(
            "history",
            lambda: Deferred.fromCoroutine(history.start()),
            lambda: Deferred.fromCoroutine(history.stop()),
        )
    )
    upkeep = PeriodicJob(
        "removing files", files.purge, reactor, interval=settings.files.purge_interval, first=60.0
    )
    program.add(Component("files", upkeep.start, upkeep.stop))
    program.add(Component("rehearsal", rehearsal.start, rehearsal.stop))
    program.add(Component("bridge", bridge.start, bridge.stop))
    program.add(
        Component("sessions", stop=lambda: bridge.drain(settings.drain_timeout)),
        stop_limit=settings.drain_timeout + 10,
    )
    listen = settings.http.listen
    program.add(Listener(reactor, listen.host, listen.port, site, "http.listen"))
    return program


@dataclass(frozen=True)
class _Owners:
    """Whose device ids are, and what is done about it now and then."""

    roster: Roster
    registrar: BindingRegistrar
    upkeep: tuple[PeriodicJob, ...]

    def start(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._start())

    def stop(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    async def _start(self) -> None:
        await self.roster.start()
        for each in self.upkeep:
            each.start()

    async def _stop(self) -> None:
        for each in self.upkeep:
            each.stop()
        with suppress(StoreError):
            await self.registrar.flush(_LAST_SEEN)
        await self.roster.stop()


def _owners(settings: AiSettings, state: Path, reactor: Any) -> _Owners:
    own = settings.devices
    registry = devices_from_url(own.address(state), reactor, pool_size=own.pool_size)
    roster = Roster(registry, reactor, own.poll_interval)
    try:
        registrar = BindingRegistrar(
            settings.http.ota, registry, roster, wall_time(reactor), own.limits, own.unused_ttl
        )
    except AuthError as error:
        raise ConfigError(f"http.ota.listed: {error.message}") from None
    noting = PeriodicJob("noting which devices were seen", registrar.flush, reactor, interval=30.0)
    purging = PeriodicJob("purging devices", registrar.purge, reactor, interval=600.0, first=60.0)
    return _Owners(roster, registrar, (noting, purging))


def _voice(settings: AiSettings) -> tuple[str, str]:
    """Who speaks: the preferred synthesiser with all that is set about it; its name."""
    name, *_ = names({"tts": settings.selected.tts})["tts"] or ("",)
    told = settings.providers.get("tts", {})
    own = told.get(name) if isinstance(told, dict) else None
    # Keys of vendors are among them: only a digest leaves here.
    return f"{name} {sha256(msgspec.json.encode(own, order='sorted')).hexdigest()[:16]}", name
