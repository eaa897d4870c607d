"""Devices in conversation, all in the test's process, that record everything.

Each asks one question after the other: typed, typed by ``listen detect``, spoken by button, or one
for which the agent uses the device's tool. In between it sends notes: unknown commands, which the
AI side returns in an error, in order and at any time.
"""

from __future__ import annotations

import json
import math
import re
from array import array
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater

from tests.faults.account import Kind
from tests.faults.ledger import Ledger
from xiaozhi.audio import OpusEncoder
from xiaozhi.device.errors import DeviceError
from xiaozhi.device.identity import Identity, numbered
from xiaozhi.device.network.ota import DeviceEndpoint
from xiaozhi.device.network.socket import FirmwareSocket, open_socket
from xiaozhi.wire import messages as m
from xiaozhi.wire.jsontext import JsonDialect, parse_server, render

KINDS = ("chat", "detect", "tool", "said")

# Settings of the AI service's doubles for these devices.
BRAIN_SETS = (
    "selected.asr=scripted",
    "selected.llm=scripted",
    "selected.tts=tone",
    "selected.vlllm=scripted",
    "selected.vad=energy",
    "providers.tts.tone.milliseconds=8",
    "providers.asr.scripted.texts=['I said {ms} milliseconds']",
    "providers.llm.scripted.answers=['Begin {words}. End {words}.']",
    (
        "providers.llm.scripted.calls="
        "[{name: self_note, when: ' tool', arguments: {words: '{words}'}}]"
    ),
    # A bridging phrase over a tool that a fault slows down would count as an answer.
    "session.turn.slow_tool=0",
    "session.turn.bridge=0",
    # The time in which a thousand devices connect depends on the machine.
    "session.mcp.ready=30",
)

_FRAME_MS = 60
_OPENING = 64
_CONNECT_WITHIN = 30.0
# After an alert instead of an answer, the person asks something else.
_PATIENCE = 1.5
_NUMBER = re.compile(r"(?:question|note) (\d+)")
_SOUND = re.compile(r"I said (\d+) milliseconds")
_TOOL = {
    "name": "self.note",
    "description": "Takes a note.",
    "inputSchema": {"type": "object", "properties": {"words": {"type": "string"}}},
}


@cache
def speech() -> list[bytes]:
    """Return one second of sound."""
    samples = (round(8000 * math.sin(at * 2 * math.pi * 300 / 16000)) for at in range(16000))
    encoder = OpusEncoder(16000, _FRAME_MS, 5, 20_000)
    return encoder.encode(array("h", samples).tobytes()) + encoder.flush()


class Talker:
    """One device.

    :ivar busy: it waits for an answer.
    :ivar in_turn: an answer is being played.
    :ivar answered: questions whose answer it has played to the end.
    """

    def __init__(self, crowd: Crowd, number: int) -> None:
        self._crowd = crowd
        self._ledger = crowd.ledger
        self._clock = crowd.reactor
        self.number = number
        self.identity = numbered(number)
        self.socket: FirmwareSocket | None = None
        self.busy = False
        self.answered = 0
        self.talking: Deferred[None] | None = None
        self._greeted: Deferred[None] = Deferred()
        self._settled: Deferred[None] = Deferred()
        self._giving_up: IDelayedCall | None = None
        self._question = self._voice = self._notes = self._echoed = 0
        self.in_turn = self._whole = self._excused = False

    @property
    def greeted(self) -> bool:
        """Whether it is connected and its hello was answered."""
        return self.socket is not None and self._greeted.called

    @property
    def waiting(self) -> bool:
        """Whether it waits for an answer or its last note."""
        return self.busy or (self.socket is not None and self._echoed < self._notes)

    # --- the device's actions  ---------------------------------------------------------------

    async def connect(self) -> None:
        """Connect and say hello, retrying until it succeeds."""
        tries = 0
        while self.socket is None and not self._crowd.closed:
            endpoints = self._crowd.endpoints(self.identity)
            endpoint = endpoints[(self.number + tries) % len(endpoints)]
            tries += 1
            try:
                await self._connect(endpoint)
            except DeviceError:
                await deferLater(self._clock, 0.1 + self.number % 10 / 50)

    async def _connect(self, endpoint: DeviceEndpoint) -> None:
        socket = await open_socket(self._clock, endpoint, self.identity, 1, timeout=_CONNECT_WITHIN)
        self._greeted = Deferred()
        self.socket = socket
        # Notes not echoed before are lost.
        self._echoed = self._notes
        socket.user = self
        self.send(m.Hello(features=m.Features(mcp=True)))
        await self._greeted

    async def converse(self) -> None:
        """Ask one question after the other until the crowd finishes."""
        while self._crowd.asking:
            await self.connect()
            if not self._crowd.asking:
                return
            self._settled = Deferred()
            self.busy = True
            await self._ask()
            await self._settled
            self.busy = False
            await deferLater(self._clock, 0.03 * ((self.number * 7 + self._question * 3) % 8))

    async def _ask(self) -> None:
        self._question += 1
        number = self._question
        kind = KINDS[(self.number + number) % len(KINDS)]
        words = f"dev {self.number:03} question {number:04} {kind}"
        self._excused = False
        self.note()
        if kind == "said":
            await self._say(number)
            return
        self._ledger.note(self.number, Kind.ASKED, number, 0, kind)
        detect = m.Listen(m.ListenState.DETECT, text=words)
        self.send(detect if kind == "detect" else m.Chat(words))
        self.note()

    async def _say(self, number: int) -> None:
        packets = speech()[: 5 + (self.number + number) % 8]
        self._voice = number
        self._ledger.note(self.number, Kind.ASKED, number, len(packets) * _FRAME_MS, "said")
        self.send(m.Listen(m.ListenState.START, m.ListenMode.MANUAL))
        for packet in packets:
            if self.socket is None:
                return
            self.socket.send_binary(packet)
            await deferLater(self._clock, 0.02)
        self.send(m.Listen(m.ListenState.STOP))

    def note(self) -> None:
        """Send a note."""
        if self.socket is None:
            return
        self._notes += 1
        self._ledger.note(self.number, Kind.NOTED, self._notes)
        self.send(m.Vision(f"dev {self.number:03} note {self._notes:04}"))

    def send(self, message: m.DeviceText) -> None:
        if self.socket is not None:
            self.socket.send_text(render(message, JsonDialect.FLAT, "", 0))

    def drop(self) -> None:
        """Vanish: TCP is reset."""
        socket = self.socket
        if socket is not None:
            self.closed(0, "vanished")
            socket.dropConnection(abort=True)

    # --- the server's messages  -------------------------------------------------------------------

    def text_received(self, text: str) -> None:
        message, _ = parse_server(text)
        write = self._write
        match message:
            case m.ServerHello():
                write(Kind.GREETED)
                self._greeted.callback(None)
            case m.Stt(words) if found := _SOUND.fullmatch(words):
                write(Kind.HEARD, self._voice, int(found[1]))
            case m.Stt(words):
                write(Kind.HEARD, _number_in(words))
            case m.Tts():
                self._tts(message)
            case m.Mcp(payload):
                self._mcp(json.loads(payload))
            case m.Error(_, words) if " note " in words:
                self._echoed = _number_in(words)
                write(Kind.ECHOED, self._echoed)
            case m.Error(code, words):
                self._told(f"error {code}: {words}")
            case m.Alert(status, words):
                self._told(f"alert {status}: {words}")

    def binary_received(self, data: bytes) -> None:
        self._write(Kind.PACKET)

    def closed(self, code: int = 1006, reason: str = "") -> None:
        socket, self.socket = self.socket, None
        if socket is None:
            return
        socket.user = None
        socket.drop()
        self._write(Kind.LOST, 0, 0, f"{code} {reason}")
        self.in_turn = self._whole = False
        if not self._greeted.called:
            self._greeted.errback(DeviceError("cannot_connect", f"{code} {reason}"))
        self._settle()

    def _tts(self, tts: m.Tts) -> None:
        if tts.state is m.TtsState.START:
            self.in_turn, self._whole = True, False
            self._write(Kind.STARTED)
            self.note()
        elif tts.state is m.TtsState.STOP:
            self.in_turn = False
            self._write(Kind.STOPPED)
            if self._whole:
                self.answered += 1
            if self._whole or self._excused:
                self._settle()
        else:
            self._sentence(tts.text)

    def _sentence(self, words: str) -> None:
        number = self._voice if _SOUND.search(words) else _number_in(words)
        if not number:
            self._excused = True
            self._write(Kind.OTHER, 0, 0, words)
        elif words.startswith("End"):
            self._whole = number == self._question
            self._write(Kind.LAST, number)
        else:
            self._write(Kind.SENTENCE, number)

    def _told(self, words: str) -> None:
        self._write(Kind.TOLD, 0, 0, words)
        if self.busy and self._giving_up is None:
            self._giving_up = self._clock.callLater(_PATIENCE, self._give_up)

    def _give_up(self) -> None:
        self._giving_up = None
        if self.in_turn:
            self._excused = True
        else:
            self._settle()

    def _settle(self) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None
        if not self._settled.called:
            self._settled.callback(None)

    def _mcp(self, call: dict[str, Any]) -> None:
        result: dict[str, Any] | None = None
        match call.get("method"):
            case "initialize":
                result = {"protocolVersion": "2024-11-05", "capabilities": {"tools": {}}}
                result["serverInfo"] = {"name": "talker", "version": "1"}
            case "tools/list":
                result = {"tools": [_TOOL]}
            case "tools/call":
                words = call["params"]["arguments"]["words"]
                self._write(Kind.CALLED, _number_in(words), 0, f"id {call['id']}")
                text = f"Begin {words}. End {words}."
                result = {"content": [{"type": "text", "text": text}], "isError": False}
        if result is not None:
            answer = {"jsonrpc": "2.0", "id": call["id"], "result": result}
            self.send(m.Mcp(json.dumps(answer).encode()))
        if call.get("method") == "tools/call":
            self._write(Kind.RETURNED, _number_in(words))

    def _write(self, kind: Kind, number: int = 0, amount: int = 0, words: str = "") -> None:
        self._ledger.note(self.number, kind, number, amount, words)


def _number_in(words: str) -> int:
    found = _NUMBER.search(words)
    return int(found[1]) if found else 0


class Crowd:
    """Many devices.

    :param endpoints: addresses to connect to; after a failure the next one is tried.
    :ivar asking: whether they continue to ask.
    """

    def __init__(
        self,
        reactor: Any,
        ledger: Ledger,
        endpoints: Callable[[Identity], Sequence[DeviceEndpoint]],
        count: int,
        first: int = 1,
    ) -> None:
        self.reactor = reactor
        self.ledger = ledger
        self.endpoints = endpoints
        self.asking = False
        self.closed = False
        self.talkers = [Talker(self, first + number) for number in range(count)]

    @property
    def answered(self) -> int:
        """Number of questions answered so far."""
        return sum(talker.answered for talker in self.talkers)

    @property
    def waiting(self) -> list[Talker]:
        """Devices that still expect something."""
        return [talker for talker in self.talkers if talker.waiting]

    def connect(self) -> Deferred[Any]:
        """Connect all devices; fires when every hello was answered."""
        gate = DeferredSemaphore(_OPENING)
        return gatherResults(
            [gate.run(Deferred.fromCoroutine, talker.connect()) for talker in self.talkers],
            consumeErrors=True,
        )

    def start(self) -> None:
        """Start asking."""
        self.asking = True
        for talker in self.talkers:
            talker.talking = Deferred.fromCoroutine(talker.converse())

    def close(self) -> Deferred[Any]:
        """Drop all connections and stop all conversations."""
        self.asking, self.closed = False, True
        for talker in self.talkers:
            talker.drop()
            talker.closed()
        return gatherResults(
            [talker.talking for talker in self.talkers if talker.talking is not None],
            consumeErrors=True,
        )
