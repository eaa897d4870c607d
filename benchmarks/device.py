"""One device of the load generator."""

from __future__ import annotations

import sys
from time import perf_counter

from twisted.internet.defer import Deferred

from benchmarks.frames import NUMBERS, number_of, packet
from benchmarks.websocket import Socket, binary_frame, text_frame

_HELLO = text_frame(
    '{"type":"hello","version":1,"transport":"websocket","audio_params":'
    '{"format":"opus","sample_rate":16000,"channels":1,"frame_duration":60}}'
)
_ECHO_TEXT = text_frame('{"type":"bench_echo","words":"the quick brown fox jumps"}')

#: Numbered packets, ready to be sent.
FRAMES = [binary_frame(packet(number)) for number in range(NUMBERS)]


class LoadDevice:
    """One device.

    :ivar began: start of the connection.
    :ivar hello: seconds from then to the server's hello.
    :ivar since: packets sent earlier are not counted.
    :ivar latencies: seconds from sending a numbered packet to its return.
    :ivar text_latencies: the same for texts.
    :ivar gaps: seconds between two packets of a turn.
    """

    def __init__(self, request: bytes) -> None:
        self.opened: Deferred[None] = Deferred()
        self.began = 0.0
        self.hello = 0.0
        self.since = 0.0
        self.socket = Socket(request, self._open, self._greeted, self._ignore, self._ended)
        self.received = 0
        self.turns_ended = 0
        self.latencies: list[float] = []
        self.text_latencies: list[float] = []
        self.gaps: list[float] = []
        self._sent = [0.0] * NUMBERS
        self._text_sent = 0.0
        self._last = 0.0

    def send_packet(self, number: int) -> None:
        number %= NUMBERS
        self._sent[number] = perf_counter()
        self.socket.send(FRAMES[number])

    def send_text(self) -> None:
        self._text_sent = perf_counter()
        self.socket.send(_ECHO_TEXT)

    def expect_echo(self) -> None:
        self.socket.on_binary, self.socket.on_text = self._echoed, self._text_echoed

    def expect_speech(self) -> None:
        self.received = self.turns_ended = 0
        self.gaps.clear()
        self.socket.on_binary, self.socket.on_text = self._heard, self._speech_text

    def _open(self) -> None:
        self.socket.send(_HELLO)

    def _greeted(self, text: bytes) -> None:
        self.hello = perf_counter() - self.began
        self.socket.on_text = self._ignore
        self.opened.callback(None)

    def _ended(self, why: str) -> None:
        if not self.opened.called:
            self.opened.errback(ConnectionError(why))
        else:
            print(f"a device lost its connection: {why}", file=sys.stderr)

    def _ignore(self, data: bytes) -> None:
        pass

    def _echoed(self, data: bytes) -> None:
        sent = self._sent[number_of(data)]
        if sent >= self.since:
            self.latencies.append(perf_counter() - sent)

    def _text_echoed(self, text: bytes) -> None:
        if b"bench_echo" in text:
            self.text_latencies.append(perf_counter() - self._text_sent)

    def _heard(self, data: bytes) -> None:
        now = perf_counter()
        self.received += 1
        if self._last:
            self.gaps.append(now - self._last)
        self._last = now

    def _speech_text(self, text: bytes) -> None:
        if b'"tts"' in text:
            self._last = 0.0
            self.turns_ended += b'"stop"' in text
