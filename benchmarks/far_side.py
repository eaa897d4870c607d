"""Stand-in for the AI service: its end of the bridge, and sessions that count, echo or
push ready-made speech."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from twisted.internet.defer import Deferred, gatherResults
from zope.interface import implementer

from benchmarks.commands import obey
from benchmarks.frames import FRAME_SECONDS, packet
from xiaozhi.bridge.grpc.loop import AsyncioThread
from xiaozhi.bridge.grpc.port import GrpcPort
from xiaozhi.bridge.service.server import BridgeServer
from xiaozhi.bridge.settings import ServerSettings
from xiaozhi.interfaces import IServiceEvents, IServiceLink, ISessionAcceptor
from xiaozhi.wire.messages import (
    Audio,
    Listen,
    ListenState,
    SessionOpen,
    Tts,
    TtsState,
    Unknown,
    Uplink,
)

# Push speech as the AI service does: in slices, faster than real time, until the edge
# pauses the session.
_SLICE = 4
_AHEAD = 0.5
_FASTER = 2


@implementer(IServiceEvents)
class FarSession:
    """One session."""

    def __init__(self, far: FarSide, link: IServiceLink) -> None:
        self._far = far
        self._link = link
        self._turn = 0
        self._left = 0
        self._next = 0
        self._held = False
        self._began = 0.0
        self._done: Deferred[None] | None = None

    def received(self, message: Uplink) -> None:
        far = self._far
        if type(message) is Audio:
            far.frames += 1
            if far.echoing and self._turn:
                self._link.send(Audio(message.payload, 0, self._turn))
        elif isinstance(message, Unknown):
            self._link.send(message)
        elif isinstance(message, Listen) and message.state is ListenState.START and far.echoing:
            # Audio reaches a device only within a turn; this one never ends.
            self._start()

    def speak(self, frames: int, after: float) -> Deferred[None]:
        """Push a turn of packets. :return: fires when all have been sent."""
        self._left, self._next = frames, 0
        self._done = Deferred()
        self._far.reactor.callLater(after, self._begin)
        return self._done

    def _start(self) -> None:
        self._turn += 1
        self._link.send(Tts(TtsState.START, turn=self._turn))

    def _begin(self) -> None:
        self._start()
        self._began = self._far.reactor.seconds()
        self._link.send(Tts(TtsState.SENTENCE_START, "All right.", self._turn))
        self._push()

    def _push(self) -> None:
        if not self._held:
            for _ in range(min(_SLICE, self._left)):
                ahead = self._next * FRAME_SECONDS - (self._far.reactor.seconds() - self._began)
                self._link.send(Audio(packet(self._next), 0, self._turn, ahead=ahead >= _AHEAD))
                self._next += 1
                self._left -= 1
        if self._left:
            self._far.reactor.callLater(_SLICE * FRAME_SECONDS / _FASTER, self._push)
            return
        self._link.send(Tts(TtsState.STOP, turn=self._turn))
        done, self._done = self._done, None
        if done is not None:
            done.callback(None)

    def pause_sending(self) -> None:
        self._held = True

    def resume_sending(self) -> None:
        self._held = False

    def draining(self) -> None:
        """Do nothing: sessions last as long as the measurement."""

    def closed(self, code: str, message: str) -> None:
        self._far.sessions.pop(self, None)
        self._left = 0


@implementer(ISessionAcceptor)
class FarSide:
    """Accepts sessions and runs the commands of a benchmark.

    :ivar frames: packets received so far.
    """

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.frames = 0
        self.echoing = False
        self.sessions: dict[FarSession, None] = {}

    def accept(self, opening: SessionOpen, link: IServiceLink) -> IServiceEvents:
        session = FarSession(self, link)
        self.sessions[session] = None
        return session

    def echo(self, on: bool) -> None:
        """Switch the echo on or off, for sessions that start listening from now on."""
        self.echoing = on

    def speak(self, frames: int) -> Deferred[None]:
        """Push a turn to every device, spread evenly over one frame duration."""
        sessions = list(self.sessions)
        apart = FRAME_SECONDS / max(1, len(sessions))
        turns = [session.speak(frames, number * apart) for number, session in enumerate(sessions)]
        return gatherResults(turns).addCallback(lambda _: None)


def main() -> None:
    from twisted.internet import reactor

    far = FarSide(reactor)
    settings = ServerSettings(listen="127.0.0.1:0")
    port = GrpcPort(AsyncioThread(reactor), settings)  # type: ignore[arg-type]
    bridge = BridgeServer(port, far, settings, reactor, "far side", uuid4().hex)

    reactor.addSystemEventTrigger("before", "shutdown", bridge.stop)

    def start() -> Deferred[int]:
        return bridge.start().addCallback(lambda _: int(port.port))

    obey(
        reactor,
        {
            "port": start,
            "frames": lambda: far.frames,
            "sessions": lambda: len(far.sessions),
            "echo": far.echo,
            "speak": far.speak,
        },
    )


if __name__ == "__main__":
    main()
