"""The device's state machine. Socket, sound and clock are parameters."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from xiaozhi.base.errors import ProtocolError
from xiaozhi.device import events as e
from xiaozhi.device.errors import DeviceError
from xiaozhi.device.events import TalkState
from xiaozhi.device.firmware.downlink import Downlink
from xiaozhi.device.firmware.hello import PendingHello
from xiaozhi.device.firmware.mainloop import MainLoop
from xiaozhi.device.firmware.mcp import McpServer
from xiaozhi.device.sound.speaker import Speaker
from xiaozhi.runtime.clocks import wall_time
from xiaozhi.wire import messages as m
from xiaozhi.wire.frames import codec
from xiaozhi.wire.jsontext import JsonDialect, parse_server, render

# Microphone packets queued while the main loop is blocked; the oldest are dropped (§3.2).
MIC_QUEUE = 40
# The largest text frame the firmware can send (§1.5).
MAX_TEXT = 65535


class Wire(Protocol):
    """The socket that the machine sends to."""

    def send_text(self, text: str) -> None: ...

    def send_binary(self, data: bytes) -> None: ...

    def drop(self) -> None:
        """Close TCP without a Close frame."""


@dataclass(frozen=True, slots=True)
class MachineSettings:
    """Build and configuration of a device.

    :ivar mode: of ``listen start``; press-to-talk is manual.
    :ivar framing: of binary messages: 1, 2 or 3.
    :ivar frame_duration: ms of sound per uplink packet.
    :ivar hello_timeout: seconds to wait for the server's hello.
    """

    mode: m.ListenMode = m.ListenMode.AUTO
    framing: int = 1
    dialect: JsonDialect = JsonDialect.FLAT
    features: m.Features = m.Features(mcp=True)
    frame_duration: int = 60
    hello_timeout: float = 10.0


class Machine:
    """The states of §4.3; it refuses the same transitions as the firmware.

    Uplink timestamps are always 0: server-side echo cancellation is not built in.

    :param watch: receives every event, in order.
    :ivar session_id: from the last hello; kept between connections (§2.2).
    """

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, settings: MachineSettings, mcp: McpServer, watch: e.Watcher
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._mcp = mcp
        self._watch = watch
        self._pack, _ = codec(settings.framing)
        self._wire: Wire | None = None
        self._pending_hello: PendingHello | None = None
        self._flush_call: IDelayedCall | None = None
        self._mic: deque[bytes] = deque()
        self._capturing = False
        self._start_when_drained = False
        self._loop = MainLoop(self._send_mic_queue, self._tool_failed)
        self.speaker = Speaker(clock, self._drained)
        self._downlink = Downlink(settings.framing, self.speaker)
        self.state = TalkState.IDLE
        self.session_id = ""

    # --- the connection -----------------------------------------------------------

    def connecting(self) -> bool:
        """Enter the connecting state. :return: False if refused."""
        return self._enter(TalkState.CONNECTING)

    def opened(self, wire: Wire) -> Deferred[None]:
        """Send hello on a connection that was just upgraded.

        The main loop is blocked until the server answers.

        :return: fires when the server has answered; fails with :class:`DeviceError`.
        """
        self._wire = wire
        self._loop.block()
        self._pending_hello = PendingHello(
            self._clock, self._settings.hello_timeout, self._no_hello
        )
        settings = self._settings
        answered = self._pending_hello.done
        audio = m.AudioParams(frame_duration=settings.frame_duration)
        self._send(m.Hello(settings.framing, settings.features, "websocket", audio))
        return answered

    def closed(self, code: int = 1006, reason: str = "") -> None:
        """End the connection, after a Close frame or the loss of TCP.

        Queued sound is still played (§1.1).
        """
        if self._wire is None and self.state is TalkState.IDLE:
            return
        self._wire = None
        self._start_when_drained = False
        self._mic.clear()
        self._cancel_flush()
        self._loop.stop()
        self._finish_hello(DeviceError("closed", f"the server closed: {code} {reason}".rstrip()))
        self._enter(TalkState.IDLE)
        self._watch(e.Disconnected(code, reason))

    def drop(self) -> None:
        """Close TCP without a Close frame, as the firmware does (§1.1)."""
        wire = self._wire
        if wire is not None:
            self.closed(1006, "dropped by the device")
            wire.drop()

    def switch_off(self) -> None:
        """Drop the connection and cancel every timer."""
        self.drop()
        self._cancel_flush()
        self.speaker.stop()

    # --- the user -----------------------------------------------------------------

    def listen(self) -> None:
        """Start listening: a click while idle, or press-to-talk (§4.4)."""
        manual = self._settings.mode is m.ListenMode.MANUAL
        if self.state is TalkState.SPEAKING and manual:
            self._send(m.Abort())
        elif self.state is not TalkState.IDLE:
            if self.state is not TalkState.LISTENING:
                self._trouble("refused_state", f"cannot listen while {self.state.value}")
            return
        self._to_listening()

    def release(self) -> None:
        """Release press-to-talk. Nothing is sent if listening has already ended."""
        if self.state is TalkState.LISTENING and self._settings.mode is m.ListenMode.MANUAL:
            self._send(m.Listen(m.ListenState.STOP))
            self._enter(TalkState.IDLE)

    def abort(self, reason: str = "") -> None:
        """Interrupt the answer (§4.6).

        :param reason: ``wake_word_detected`` makes the device listen again at once.
        """
        if self.state is TalkState.SPEAKING or (reason and self.state is TalkState.LISTENING):
            self._send(m.Abort(reason))
            if reason:
                if self._settings.mode is m.ListenMode.REALTIME:
                    self.speaker.clear()
                self._to_listening()
        else:
            self._trouble("refused_state", f"nothing to abort while {self.state.value}")

    def wake(self, word: str, packets: tuple[bytes, ...] = ()) -> None:
        """Detect the wake word, on a chip that uploads its sound.

        :param packets: sound of the wake word, sent at once before ``listen detect``.
        """
        if self.state is not TalkState.IDLE:
            self._trouble("refused_state", f"wake word while {self.state.value}")
            return
        for packet in packets:
            self._send_packet(packet)
        self._send(m.Listen(m.ListenState.DETECT, text=word))
        self._to_listening()

    def type_text(self, text: str) -> None:
        """Send typed text as ``listen detect``, after an ``abort`` while speaking (§10)."""
        if self.state is TalkState.SPEAKING:
            self._send(m.Abort())
        self._send(m.Listen(m.ListenState.DETECT, text=text))

    @property
    def online(self) -> bool:
        return self._wire is not None

    @property
    def capturing(self) -> bool:
        """Whether microphone packets are being sent."""
        return self._capturing

    def captured(self, packet: bytes) -> None:
        """Send a microphone packet, if capture is on."""
        if not self._capturing:
            return
        if self._loop.busy:
            if len(self._mic) >= MIC_QUEUE:
                self._mic.popleft()
                self._trouble("mic_dropped", "the main loop is blocked; a packet was dropped")
            self._mic.append(packet)
        else:
            self._send_packet(packet)

    # --- the server ---------------------------------------------------------------

    def binary_received(self, data: bytes) -> None:
        if self.state is not TalkState.SPEAKING:
            self._trouble("audio_dropped", f"audio while {self.state.value}")
        else:
            self._watch(self._downlink.take(data))

    def text_received(self, text: str) -> None:
        try:
            message, _ = parse_server(text)
        except ProtocolError as error:
            self._trouble("bad_text", str(error))
            return
        if isinstance(message, m.ServerHello):
            self._hello(message)
        elif not self._loop.post(lambda: self._act(message)):
            self._trouble("ignored", "the queue of the main loop is full")

    def _hello(self, hello: m.ServerHello) -> None:
        if hello.transport != "websocket":
            if not hello.transport:
                self._trouble("crash", "a hello without transport crashes the firmware")
                self._finish_hello(DeviceError("crash", "the hello has no transport"))
                self.drop()
            return
        if self._pending_hello is None:
            self._trouble("ignored", "a second hello")
            return
        self.session_id = hello.session_id or self.session_id
        self._downlink.params = hello.audio
        self._watch(
            e.Connected(self.session_id, hello.audio.sample_rate, hello.audio.frame_duration)
        )
        self._enter(TalkState.IDLE)
        self._finish_hello(None)

    def _no_hello(self) -> None:
        # The socket stays open, as with the firmware.
        self._enter(TalkState.IDLE)
        self._pending_hello = None
        self._loop.unblock()

    def _finish_hello(self, error: DeviceError | None) -> None:
        pending, self._pending_hello = self._pending_hello, None
        if pending is None:
            return
        if error is None:
            pending.answered()
        else:
            pending.failed(error)
        self._loop.unblock()

    def _act(self, message: m.ServerText) -> Deferred[None] | None:
        watch = self._watch
        match message:
            case m.Mcp(payload):
                return Deferred.fromCoroutine(self._run_tool(payload))
            case m.Tts():
                self._tts(message)
            case m.Stt(text):
                watch(e.Heard(text))
            case m.Llm(emotion):
                watch(e.Face(emotion))
            case m.Alert(status, text, emotion) if status and text and emotion:
                watch(e.Alerted(status, text, emotion))
            case m.Error(code, text):
                watch(e.ServerError(code, text))
            case m.System("reboot"):
                self._trouble("ignored", "reboot: the device drops the connection")
                self.drop()
            case _:
                self._trouble("ignored", f"message {type(message).__name__.lower()}")
        return None

    def _tts(self, tts: m.Tts) -> None:
        if tts.state is m.TtsState.SENTENCE_START:
            self._watch(e.Sentence(tts.text))
        elif tts.state is m.TtsState.START:
            if self.state is TalkState.SPEAKING:
                self._trouble("ignored", "tts start while speaking")
            elif self._enter(TalkState.SPEAKING):
                # One iteration of the main loop later the queue is cleared: packets that
                # arrived together with the start are lost (§3.3).
                self.speaker.begin()
                self._flush_call = self._clock.callLater(0, self._flush)
                self._watch(e.SpeechStarted())
        else:
            stray = self.state is not TalkState.SPEAKING
            if not stray:
                if self._settings.mode is m.ListenMode.MANUAL:
                    self._enter(TalkState.IDLE)
                elif self._settings.mode is m.ListenMode.REALTIME and self._capturing:
                    self._enter(TalkState.LISTENING)
                else:
                    self._to_listening()
            self._watch(e.SpeechStopped(stray))

    async def _run_tool(self, payload: bytes) -> None:
        reply = await self._mcp.answer(payload)
        if reply is not None:
            self._send(m.Mcp(reply.encode("utf-8", "replace")))

    def _tool_failed(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return  # the connection closed while the tool ran
        self._log.failure("A device tool failed", failure)
        self._trouble("tool_failed", failure.getErrorMessage())

    # --- inside -------------------------------------------------------------------

    def _enter(self, state: TalkState) -> bool:
        if state is self.state:
            return True
        if state not in e.ALLOWED[self.state]:
            self._trouble("refused_state", f"{self.state.value} to {state.value}")
            return False
        self.state = state
        if state is TalkState.SPEAKING:
            self._capturing &= self._settings.mode is m.ListenMode.REALTIME
            self._start_when_drained = False
        elif state is not TalkState.LISTENING:
            self._capturing = False
            self._start_when_drained = False
        if state is not TalkState.SPEAKING:
            self._cancel_flush()
        self._watch(e.StateChanged(state))
        return True

    def _to_listening(self) -> None:
        if not self._enter(TalkState.LISTENING):
            return
        # In auto mode the device plays its queue to the end before it listens (§4.4).
        if self._settings.mode is m.ListenMode.AUTO and self.speaker.playing:
            self._start_when_drained = True
        else:
            self._start_listening()

    def _start_listening(self) -> None:
        self._start_when_drained = False
        self._capturing = True
        self._send(m.Listen(m.ListenState.START, self._settings.mode))
        self._watch(e.ListeningStarted(self._settings.mode.value))

    def _drained(self) -> None:
        self._watch(e.Drained())
        if self._start_when_drained:
            self._start_listening()

    def _flush(self) -> None:
        self._flush_call = None
        lost = self.speaker.clear()
        if lost:
            self._trouble("flushed", f"{lost} packets arrived too early after tts start")

    def _cancel_flush(self) -> None:
        if self._flush_call is not None:
            self._flush_call.cancel()
            self._flush_call = None

    def _send_mic_queue(self) -> None:
        while self._mic:
            self._send_packet(self._mic.popleft())

    def _send_packet(self, packet: bytes) -> None:
        if self._wire is not None:
            self._wire.send_binary(self._pack(m.Audio(packet)))

    def _send(self, message: m.DeviceText) -> None:
        if self._wire is None:
            return
        now_ms = int(wall_time(self._clock)() * 1000)
        session_id = "" if isinstance(message, m.Hello) else self.session_id
        text = render(message, self._settings.dialect, session_id, now_ms)
        if len(text.encode()) > MAX_TEXT:
            self._trouble("ignored", f"a text of {len(text)} characters is too long to send")
            self._enter(TalkState.IDLE)
            return
        self._wire.send_text(text)

    def _trouble(self, code: str, message: str) -> None:
        self._watch(e.Trouble(code, message))
