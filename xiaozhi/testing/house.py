"""The whole program in one process on virtual time: devices, edge, bridge, AI service.

Only the clock, the sockets, the gRPC streams and the providers are doubles.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, TypeVar

from msgspec import structs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from xiaozhi.agents.agent import DEFAULT, Agent
from xiaozhi.agents.settings import SessionSettings
from xiaozhi.ai.session.leases import AgentLeases, OneAgent
from xiaozhi.ai.session.scheduler import Scheduler
from xiaozhi.ai.session.sessions import Sessions
from xiaozhi.ai.session.shared import SessionRuntime, SessionServices
from xiaozhi.bridge.edge.client import BridgeClient
from xiaozhi.bridge.memory import MemoryNetwork
from xiaozhi.bridge.service.server import BridgeServer
from xiaozhi.bridge.settings import ClientSettings, ServerSettings
from xiaozhi.cache import InboxSettings, PresenceSettings, presence_backend
from xiaozhi.device.client import DeviceParts, Encode, SoftDevice, firmware_encoder
from xiaozhi.device.events import Event
from xiaozhi.device.firmware.machine import MachineSettings as DeviceSettings
from xiaozhi.device.firmware.mcp import SimulatedTool
from xiaozhi.device.identity import numbered
from xiaozhi.im.ingress.gateway import EdgeServices, Gateway
from xiaozhi.im.session.arrival import Arrival
from xiaozhi.im.session.link import DeviceLink
from xiaozhi.im.sessionlog.journal import Journal, JournalSettings
from xiaozhi.im.settings import EdgeSettings
from xiaozhi.im.websocket.channel import Socket, WebSocketChannel
from xiaozhi.interfaces import IAuthenticator, ILanguageModel, IRecognizer
from xiaozhi.runtime.clocks import wall_time
from xiaozhi.testing.agents import KnownAgents, services_table
from xiaozhi.testing.clocks import WallClock
from xiaozhi.testing.database import memory_store
from xiaozhi.testing.edge import wire_of
from xiaozhi.testing.files import MemoryFiles
from xiaozhi.testing.parts import (
    Doubles,
    inline_timed_offload,
    memory_history,
    scripted,
    tool_sources,
)
from xiaozhi.tools.sources import ToolSources
from xiaozhi.wire.messages import Device

T = TypeVar("T")

AI = "ai:50051"
STEP = 0.01

# 0.9 s of a 400 Hz square wave at 16 kHz, loud enough for the energy detector.
SPEECH = (b"\x00\x10" * 20 + b"\x00\xf0" * 20) * 360


@implementer(IAuthenticator)
class AcceptAll:
    """Admits every device."""

    def authenticate(self, token: str | None, device_id: str, client_id: str) -> Device:
        return Device(device_id, client_id, "somebody")


class Cable:
    """A device's socket without a network. Messages arrive at the clock's next step.

    :ivar closed: code and reason of the server's close.
    :ivar cut: the connection is lost; nothing arrives any more.
    """

    def __init__(self, clock: Clock, device: SoftDevice) -> None:
        self._clock = clock
        self._device = device
        self.link: DeviceLink | None = None
        self.closed: tuple[int, str] | None = None
        self.cut = False

    def _later(self, call: Callable[..., Any], *args: Any) -> None:
        def deliver() -> None:
            if not self.cut:
                call(*args)

        self._clock.callLater(0, deliver)

    # From the server.

    def send_text(self, text: str) -> None:
        self._later(self._device.machine.text_received, text)

    def send_binary(self, data: bytes) -> None:
        self._later(self._device.machine.binary_received, data)

    def ping(self) -> None:
        assert self.link is not None
        self._later(self.link.alive, 0)

    def close(self, code: int, reason: str) -> None:
        if self.closed is None:
            self.closed = (code, reason)
            self._later(self._device.machine.closed, code, reason)

    def pause(self) -> None:
        """Do nothing: a cable has no reading to pause."""

    def resume(self) -> None:
        """As :meth:`pause`."""


class DeviceEnd:
    """The device's side of a cable: a ``device.firmware.machine.Wire``."""

    def __init__(self, cable: Cable) -> None:
        self._cable = cable

    def send_text(self, text: str) -> None:
        assert self._cable.link is not None
        self._cable._later(wire_of(self._cable.link).text_received, text)

    def send_binary(self, data: bytes) -> None:
        assert self._cable.link is not None
        self._cable._later(wire_of(self._cable.link).binary_received, data)

    def drop(self) -> None:
        assert self._cable.link is not None
        self._cable.cut = True
        self._cable._clock.callLater(0, wire_of(self._cable.link).connection_lost, "dropped")


class Browser:
    """A client other than firmware: the test decides what it sends.

    :ivar texts: every text received, as JSON objects.
    :ivar packets: every binary message received.
    :ivar closed: code and reason of the server's close.
    """

    link: DeviceLink

    def __init__(self) -> None:
        self.texts: list[dict[str, Any]] = []
        self.packets: list[bytes] = []
        self.closed: tuple[int, str] | None = None

    def say(self, **message: Any) -> None:
        """Send a message as JSON."""
        wire_of(self.link).text_received(json.dumps(message))

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the received texts of one type."""
        return [text for text in self.texts if text["type"] == kind]

    def send_text(self, text: str) -> None:
        self.texts.append(json.loads(text))

    def send_binary(self, data: bytes) -> None:
        self.packets.append(data)

    def close(self, code: int, reason: str) -> None:
        self.closed = self.closed or (code, reason)

    def ping(self) -> None:
        self.link.alive(0)

    def pause(self) -> None:
        """Do nothing: there is no reading to pause."""

    def resume(self) -> None:
        """As :meth:`pause`."""


@dataclass
class Visitor:
    """A connected device.

    :ivar events: the device's events, each with its time.
    """

    device: SoftDevice
    cable: Cable
    events: list[tuple[float, Event]] = field(default_factory=list)

    def seen(self, kind: type[T]) -> list[T]:
        """Return the events of one type."""
        return [event for _, event in self.events if isinstance(event, kind)]


def cheap_encoder(frame_ms: int) -> Encode:
    """Make a device's encoder that encodes equal frames once: noise and speech repeat.

    It is not exact at the edges of speech, since a packet depends on the one before.
    """
    return lru_cache(maxsize=256)(firmware_encoder(frame_ms))


def one_agent(shared: SessionServices) -> Sessions:
    """Make sessions that all have the agent of ``shared``, regardless of ``House.agents``."""
    return Sessions(shared, OneAgent(shared.agent))


class House:
    """Both services, connected.

    :param session: settings of AI sessions.
    :param edge: settings of the edge.
    :param clock: e.g. a :class:`~xiaozhi.testing.vendors.network.Network`, for vendors.
    :param model: replaces the double, as does ``recognizer``.
    :param tools: replaces the standard sources.
    :param shipped: whether phrases that ship with the program can be spoken.
    :param providers: settings of the doubles by kind, e.g. ``llm={"answers": ("Hi.",)}``;
        or lists of settings, see :func:`scripted`.
    :ivar make_encoder: makes the encoder of a device that connects; see :func:`cheap_encoder`.
    :ivar inbox: of all devices.
    :ivar agents: assignment of agents to devices.
    :ivar agent_providers: providers by agent id.
    :ivar services: the services of each agent.
    """

    def __init__(
        self,
        session: SessionSettings | None = None,
        edge: EdgeSettings | None = None,
        clock: Clock | None = None,
        model: ILanguageModel | None = None,
        recognizer: IRecognizer | None = None,
        shipped: bool = True,
        tools: ToolSources | None = None,
        **providers: Doubles,
    ) -> None:
        self.clock: Clock = clock or WallClock()
        self.network = MemoryNetwork(self.clock)
        self.providers = scripted(self.clock, **providers)
        if model is not None:
            self.providers = replace(self.providers, llm=model)
        if recognizer is not None:
            self.providers = replace(self.providers, asr=recognizer)
        self.history = memory_history(self.clock, wall_time(self.clock))
        self.files = MemoryFiles()
        settings = session or SessionSettings()
        cheap = structs.replace(settings.speech, complexity=0)
        self.agents = KnownAgents(Agent(settings=structs.replace(settings, speech=cheap)))
        self.agent_providers = {DEFAULT: self.providers}
        self.services = services_table(
            self.agents.default, self.agent_providers, self.files, shipped=shipped
        )
        self.shared = SessionServices(
            agent=self.services.lease(self.agents.default),
            tools=tools or tool_sources(self.clock),
            runtime=SessionRuntime(
                self.clock,
                wall_time(self.clock),
                inline_timed_offload,
                Scheduler(self.clock, self.clock.seconds),
            ),
            history=self.history,
            vision=lambda device, host: ("http://ai.example/mcp/vision/explain", "token"),
        )
        self.store = memory_store()
        self.store.start()
        self.journal = Journal(self.store, self.clock, JournalSettings())
        self.journal.start()
        self.bridge = BridgeClient(
            self.network, ClientSettings(targets=(AI,)), self.clock, lambda: 0.5, "im", "im-boot"
        )
        backend = presence_backend(
            PresenceSettings(), InboxSettings(), self.clock, "im", "im-boot", dict
        )
        self.inbox, self.presence = backend.inbox, backend.presence
        self.gateway = Gateway(
            EdgeServices(self.bridge, self.journal, AcceptAll(), backend.presence, backend.inbox),
            self.clock,
            edge or EdgeSettings(),
            "im",
        )
        self.make_encoder: Callable[[int], Encode] = cheap_encoder
        self.make_channel: Callable[[Socket, int], WebSocketChannel] = WebSocketChannel
        self.visitors: list[Visitor] = []
        self.browsers: list[Browser] = []
        self._boots = 0
        self.start_ai()
        self.bridge.start()
        self.run(0.1)

    def start_ai(self, make_sessions: Callable[[SessionServices], Sessions] | None = None) -> None:
        """Start an AI service without the state of an earlier one.

        :param make_sessions: e.g. :func:`one_agent`.
        """
        self._boots += 1
        if make_sessions is None:
            sessions = Sessions(self.shared, AgentLeases(self.agents, self.services))
        else:
            sessions = make_sessions(self.shared)
        self.ai = BridgeServer(
            self.network.port(AI),
            sessions,
            ServerSettings(listen=AI),
            self.clock,
            "ai",
            f"ai-boot-{self._boots}",
        )
        self.ai.start()

    def kill_ai(self) -> None:
        """Crash the AI service: it closes nothing."""
        self.network.cut(AI)
        self.ai.stop()

    def connect(
        self, number: int = 1, tools: Sequence[SimulatedTool] = (), **settings: Any
    ) -> Visitor:
        """Connect a device and exchange hello messages.

        :param tools: in addition to the usual ones.
        :param settings: of the device, e.g. ``mode=ListenMode.MANUAL``.
        """
        events: list[tuple[float, Event]] = []
        device = SoftDevice(
            self.clock,
            replace(DeviceSettings(), **settings),
            numbered(number),
            parts=DeviceParts(encode=self.make_encoder(settings.get("frame_duration", 60))),
            tools=tools,
            watch=lambda event: events.append((self.clock.seconds(), event)),
        )
        cable = Cable(self.clock, device)
        identity = device.identity
        known = Device(identity.device_id, identity.client_id, "somebody")
        cable.link = self._connect(cable, known, device.settings.framing)
        visitor = Visitor(device, cable, events)
        self.visitors.append(visitor)
        self.until(device.attach(DeviceEnd(cable)))
        return visitor

    def browse(self, number: int = 1, guest: bool = False) -> Browser:
        """Connect a client whose messages the test sends.

        :param guest: no client holds its device id.
        """
        browser = Browser()
        self.join(browser, number, guest)
        return browser

    def join(self, browser: Browser, number: int = 1, guest: bool = False) -> None:
        """Connect a client that the test has made."""
        identity = numbered(number)
        known = Device(identity.device_id, identity.client_id, "somebody", guest)
        browser.link = self._connect(browser, known, 0)
        self.browsers.append(browser)

    def _connect(self, socket: Socket, device: Device, framing: int) -> DeviceLink:
        channel = self.make_channel(socket, framing)
        link = channel.link = self.gateway.connect(channel, Arrival(device))
        channel.began(link.session_id, device.device_id)
        return link

    def run(self, seconds: float) -> None:
        """Advance virtual time."""
        self.clock.pump([STEP] * round(seconds / STEP))

    def until(self, waiting: Deferred[T], limit: float = 60.0) -> T:
        """Advance time until a Deferred fires.

        :raises AssertionError: it did not fire within the limit.
        """
        results: list[T | Failure] = []
        waiting.addBoth(results.append)
        end = self.clock.seconds() + limit
        while not results and self.clock.seconds() < end:
            self.clock.advance(STEP)
        if not results:
            raise AssertionError(f"the Deferred did not fire within {limit:g} s of virtual time")
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return results[0]

    def close(self) -> list[Any]:
        """Stop everything in the services' order.

        :return: timers left behind.
        """
        for visitor in self.visitors:
            visitor.device.close()
        self.run(1)
        drained = self.gateway.drain(0)
        self.run(2)
        links = [visitor.cable.link for visitor in self.visitors]
        for link in [*links, *(browser.link for browser in self.browsers)]:
            assert link is not None
            wire_of(link).connection_lost("gone")
            self.gateway.connection_gone()
        drained.addErrback(lambda _: None)
        self.gateway.stop()
        self.bridge.stop()
        self.ai.stop()
        self.journal.stop()
        Deferred.fromCoroutine(self.history.stop())
        self.run(1)
        self.store.stop()
        return list(self.clock.getDelayedCalls())
