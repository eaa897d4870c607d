"""A complete device: socket, state machine, microphone, loudspeaker and tools."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.web.iweb import IAgent

from xiaozhi.audio import OpusEncoder
from xiaozhi.device import events as e
from xiaozhi.device.answer import AnswerCollector, AnswerReport
from xiaozhi.device.errors import DeviceError
from xiaozhi.device.firmware.camera import upload
from xiaozhi.device.firmware.machine import Machine, MachineSettings, Wire
from xiaozhi.device.firmware.mcp import McpServer, SimulatedTool
from xiaozhi.device.firmware.tools import Panel, device_tools
from xiaozhi.device.identity import Identity
from xiaozhi.device.network import ota
from xiaozhi.device.network.ota import Boot, DeviceEndpoint, Flavour
from xiaozhi.device.network.socket import FirmwareSocket, open_socket
from xiaozhi.device.sound.microphone import SAMPLE_RATE, Microphone
from xiaozhi.runtime.connecting import http_agent
from xiaozhi.wire.messages import ListenMode

Encode = Callable[[bytes], bytes]

# Seconds from the end of speech to the first sign of an answer: more than a server
# allows its recogniser (session.turn.recognize, 15 s).
HEARING_LIMIT = 20.0


@dataclass(frozen=True, slots=True)
class Opened:
    """Connection times: seconds to the 101, and from there to the server's hello."""

    upgrade: float
    hello: float


@dataclass(frozen=True)
class DeviceParts:
    """Replaceable parts of a device.

    :ivar agent: for photos and OTA; default: Twisted's, on the device's reactor.
    :ivar encode: one frame of 16 kHz s16le to one Opus packet; default: libopus
        as the firmware sets it.
    :ivar random: noise of the microphone.
    """

    agent: IAgent | None = None
    encode: Encode | None = None
    random: Random | None = None


class SoftDevice:
    """One device in software.

    ``await connect(endpoint)``, then ``await say(pcm)`` or ``await text("…")``,
    then ``await close()``. A closed device can connect again.

    :param reactor: clock and network; a ``Clock`` is enough with :meth:`attach`.
    :param watch: receives every event, before the answer that it completes.
    :ivar machine: the states, and the buttons that a person can press.
    :ivar panel: values set by the tools.
    """

    def __init__(
        self,
        reactor: Any,
        settings: MachineSettings | None = None,
        identity: Identity | None = None,
        *,
        parts: DeviceParts = DeviceParts(),
        tools: Sequence[SimulatedTool] = (),
        watch: e.Watcher | None = None,
    ) -> None:
        self._reactor = reactor
        self.settings = settings or MachineSettings()
        self.identity = identity or Identity()
        self._agent = parts.agent
        self._encode = parts.encode
        self._watcher = watch
        self._socket: FirmwareSocket | None = None
        self.panel = Panel()
        self.mcp = McpServer(
            [
                *device_tools(self.panel, self._photo, ota.system_info(self.identity)),
                *tools,
            ],
            self._event,
        )
        self.machine = Machine(reactor, self.settings, self.mcp, self._event)
        self.microphone = Microphone(
            reactor, self._captured, parts.random or Random(0), self.settings.frame_duration
        )
        self.answers = AnswerCollector(reactor, lambda: self.machine.speaker.playing)
        self._listening: list[Deferred[None]] = []
        self._gone: list[Deferred[None]] = []

    # --- connecting -------------------------------------------------------------------

    def boot(
        self,
        url: str,
        flavour: Flavour = Flavour.FIRMWARE,
        patience: float = 0.0,
        waiting: Callable[[Boot], None] = lambda boot: None,
    ) -> Deferred[Boot]:
        """Fetch the configuration and wait for activation, see :func:`ota.boot`.

        :return: fails with ``bad_ota``.
        """
        http, clock = self._http(), self._reactor
        return Deferred.fromCoroutine(
            ota.boot(http, clock, url, self.identity, flavour, patience, waiting)
        )

    def connect(
        self,
        endpoint: DeviceEndpoint,
        via: IStreamClientEndpoint | None = None,
        timeout: float = 10.0,
    ) -> Deferred[Opened]:
        """Open the socket and exchange hello messages.

        :param timeout: seconds for TCP, TLS and the upgrade.
        :return: fails with :class:`DeviceError`.
        """
        return Deferred.fromCoroutine(self._connect(endpoint, via, timeout))

    async def _connect(
        self, endpoint: DeviceEndpoint, via: IStreamClientEndpoint | None, timeout: float
    ) -> Opened:
        if self.online or not self.machine.connecting():
            raise DeviceError("bad_state", "the device is connected already")
        self._drop_socket()
        began = self._reactor.seconds()
        try:
            socket = await open_socket(
                self._reactor,
                endpoint,
                self.identity,
                self.settings.framing,
                via=via,
                timeout=timeout,
            )
        except Exception:
            self.machine.closed(1006, "no connection")
            raise
        upgraded = self._reactor.seconds()
        self._socket = socket
        socket.user = self.machine
        try:
            await self.attach(socket)
        except Exception:
            self.machine.drop()
            raise
        return Opened(upgraded - began, self._reactor.seconds() - upgraded)

    def attach(self, wire: Wire) -> Deferred[None]:
        """Use an open connection; the caller passes its messages to :attr:`machine`.

        :return: fires when the server's hello has arrived.
        """
        self.machine.connecting()
        self.microphone.start()
        return self.machine.opened(wire)

    def close(self) -> Deferred[None]:
        """Drop the connection as the firmware does, and cancel every timer.

        :return: fires when TCP is closed.
        """
        self.microphone.stop()
        self.machine.switch_off()
        return self._drop_socket()

    # --- talking ----------------------------------------------------------------------

    def say(self, pcm: bytes, timeout: float = 60.0) -> Deferred[AnswerReport]:
        """Speak, and wait until the answer has been played.

        In auto mode the device first waits until it listens; in realtime mode it may
        speak over an answer; in manual mode it presses the button before and releases
        it after the speech.

        :param pcm: s16le mono at 16 kHz.
        :param timeout: seconds for speech and answer together.
        :return: fails with ``not_heard`` (no sign of an answer within
            :data:`HEARING_LIMIT`), ``timeout``, ``closed``, or ``bad_state`` (not
            connected).
        """
        return self._limited(Deferred.fromCoroutine(self._say(pcm)), timeout)

    async def _say(self, pcm: bytes) -> AnswerReport:
        self._need_connection()
        manual = self.settings.mode is ListenMode.MANUAL
        if manual:
            self.answers.interrupted(left=True)
        await self.listen()
        answer, ended = self.answers.expect()
        spoken = self.microphone.say(pcm)
        try:
            at = await spoken
            if manual:
                self.machine.release()
            ended(at)
            return await self._heard(answer, "the server did not react to the speech")
        except Exception:
            answer.addErrback(lambda _: None)
            answer.cancel()
            raise

    def text(self, text: str, timeout: float = 60.0) -> Deferred[AnswerReport]:
        """Send a text and wait until the answer has been played. Errors as :meth:`say`."""
        return self._limited(Deferred.fromCoroutine(self._type(text)), timeout)

    async def _type(self, text: str) -> AnswerReport:
        self._need_connection()
        if self.machine.state is e.TalkState.SPEAKING:
            self.answers.interrupted(left=False)
        answer, ended = self.answers.expect()
        self.machine.type_text(text)
        ended(self._reactor.seconds())
        return await self._heard(answer, "no answer to the text (a wake word alone gets none)")

    async def _heard(self, answer: Deferred[AnswerReport], otherwise: str) -> AnswerReport:
        """Wait for the answer, but fail early if the server shows no sign of one."""
        error = DeviceError("not_heard", f"{otherwise} within {HEARING_LIMIT:g} s")
        giving_up = self._reactor.callLater(
            HEARING_LIMIT, self.answers.fail_unanswered, answer, error
        )
        try:
            return await answer
        finally:
            if giving_up.active():
                giving_up.cancel()

    def listen(self) -> Deferred[None]:
        """Start listening if necessary. :return: fires when the microphone is being sent."""
        if self.machine.state is e.TalkState.IDLE or self.settings.mode is ListenMode.MANUAL:
            self.machine.listen()
        done: Deferred[None] = Deferred(lambda d: self._listening.remove(d))
        if self.machine.capturing:
            done.callback(None)
        else:
            self._listening.append(done)
        return done

    @property
    def online(self) -> bool:
        """Whether the device is connected."""
        return self.machine.online

    def abort(self, reason: str = "") -> None:
        """Interrupt the answer.

        :param reason: ``wake_word_detected`` or empty (§4.6).
        """
        self.machine.abort(reason)
        self.answers.interrupted(left=bool(reason))

    def gone(self) -> Deferred[None]:
        """Wait for the end of the connection. :return: fires then."""
        done: Deferred[None] = Deferred(lambda d: self._gone.remove(d))
        self._gone.append(done)
        return done

    # --- inside -----------------------------------------------------------------------

    def _drop_socket(self) -> Deferred[None]:
        # After the server's Close frame the machine is closed, but TCP is still open (§1.1).
        socket, self._socket = self._socket, None
        if socket is None:
            return succeed(None)
        socket.user = None
        socket.drop()
        return socket.lost

    def _need_connection(self) -> None:
        if not self.online:
            raise DeviceError("bad_state", "the device is not connected")

    def _limited(self, answer: Deferred[AnswerReport], timeout: float) -> Deferred[AnswerReport]:
        def late(_: object, seconds: float) -> AnswerReport:
            raise DeviceError("timeout", f"no complete answer within {seconds:g} s")

        return answer.addTimeout(timeout, self._reactor, late)

    def _captured(self, pcm: bytes) -> None:
        if self.machine.capturing:
            if self._encode is None:
                self._encode = firmware_encoder(self.settings.frame_duration)
            self.machine.captured(self._encode(pcm))

    def _event(self, event: e.Event) -> None:
        if self._watcher is not None:
            self._watcher(event)
        if isinstance(event, e.ListeningStarted):
            waiting, self._listening = self._listening, []
            for done in waiting:
                done.callback(None)
        elif isinstance(event, e.Disconnected):
            self._disconnected(event)
        self.answers.watch(event)

    def _disconnected(self, event: e.Disconnected) -> None:
        self.microphone.stop()
        error = DeviceError("closed", f"the connection ended: {event.code} {event.reason}".rstrip())
        self.answers.disconnected(error)
        waiting, self._listening = self._listening, []
        for done in waiting:
            done.errback(error)
        gone, self._gone = self._gone, []
        for done in gone:
            done.callback(None)

    async def _photo(self, question: str) -> str:
        return await upload(self._http(), self._reactor, self.identity, self.mcp.vision, question)

    def _http(self) -> IAgent:
        if self._agent is None:
            self._agent = http_agent(self._reactor, connect_timeout=10)
        return self._agent


def firmware_encoder(frame_ms: int) -> Encode:
    """Make an Opus encoder for 16 kHz with the firmware's complexity, 0."""
    encoder = OpusEncoder(SAMPLE_RATE, frame_ms, complexity=0)

    def encode(pcm: bytes) -> bytes:
        (packet,) = encoder.encode(pcm)
        return packet

    return encode
