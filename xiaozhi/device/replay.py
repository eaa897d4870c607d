"""Replay of the device's side of a recorded session, with its original timing."""

from __future__ import annotations

import json
from base64 import b64decode
from binascii import Error as BadBase64
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from xiaozhi.device.errors import DeviceError

# After the last message was sent, a replay ends when the server has been silent for QUIET
# seconds, or for PATIENCE seconds if it answered fewer turns than in the recording, and after
# LONGEST seconds in any case.
QUIET, PATIENCE, LONGEST = 3.0, 30.0, 120.0


@dataclass(frozen=True, slots=True)
class Line:
    """One message of a recording.

    :ivar at: seconds since the connection.
    :ivar up: whether the device sent it.
    :ivar kind: ``text``, ``sound`` or ``close``.
    """

    at: float
    up: bool
    kind: str
    text: str = ""
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recording in the format of :mod:`xiaozhi.im.websocket.recording`.

    :ivar missing: number of lines that stand for an unrecorded message.
    """

    framing: int
    device_id: str
    session_id: str
    lines: tuple[Line, ...]
    missing: int


def read_recording(path: str) -> Recorded:
    """Read a recording.

    :raises DeviceError: ``bad_recording``, naming the file and the line.
    :raises OSError: the file cannot be read.
    """
    lines: list[Line] = []
    head: dict[str, Any] = {}
    missing = 0
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, text in enumerate(file, 1):
            try:
                content = json.loads(text)
                if number == 1:
                    head = _head(content)
                    continue
                line = _line(content)
            except (ValueError, TypeError, LookupError, BadBase64) as error:
                raise DeviceError("bad_recording", f"{path}:{number}: {error}") from None
            if line is None:
                missing += 1
            else:
                lines.append(line)
    if not head:
        raise DeviceError("bad_recording", f"{path}: the file is empty")
    return Recorded(
        int(head["framing"] or 1), head["device_id"], head["session_id"], tuple(lines), missing
    )


def _head(content: Any) -> dict[str, Any]:
    if not isinstance(content, dict) or content.get("version") != 1:
        raise ValueError("not the first line of a recording of version 1")
    return {"framing": 0, "device_id": "", "session_id": ""} | content


def _line(content: Any) -> Line | None:
    seconds, direction, kind, value = content
    if kind == "text":
        return Line(float(seconds), direction == "up", kind, text=str(value))
    if kind == "sound":
        return Line(float(seconds), direction == "up", kind, data=b64decode(value, validate=True))
    if kind == "close":
        return Line(float(seconds), direction == "up", kind, text=f"{value[0]} {value[1]}")
    return None


@dataclass(slots=True)
class SpokenTurn:
    """One answer, from ``tts start`` to ``tts stop``.

    :ivar heard: the ``stt`` before it.
    :ivar latency: seconds from that (or from the start) to the first packet.
    :ivar seconds: from start to stop; None if no stop arrived.
    """

    heard: str = ""
    sentences: list[str] = field(default_factory=list)
    packets: int = 0
    latency: float | None = None
    seconds: float | None = None


class AnswerLog:
    """A server's answers, turn by turn."""

    def __init__(self) -> None:
        self.turns: list[SpokenTurn] = []
        self._heard = ""
        self._since: float | None = None
        self._open: SpokenTurn | None = None
        self._started = 0.0

    def text(self, at: float, text: str) -> None:
        """Process a text message."""
        message = _object(text)
        if message.get("type") == "stt":
            self._heard, self._since = str(message.get("text", "")), at
        elif message.get("type") == "tts":
            self._speech(at, message)

    def _speech(self, at: float, message: dict[str, Any]) -> None:
        state = message.get("state")
        if state == "start":
            self._open = SpokenTurn(self._heard)
            self.turns.append(self._open)
            self._started = at
            if self._since is None:
                self._since = at
        elif self._open is not None and state == "sentence_start":
            self._open.sentences.append(str(message.get("text", "")))
        elif self._open is not None and state == "stop":
            self._open.seconds = at - self._started
            self._open, self._heard, self._since = None, "", None

    def sound(self, at: float) -> None:
        """Process an audio packet."""
        if self._open is not None:
            self._open.packets += 1
            if self._open.latency is None and self._since is not None:
                self._open.latency = at - self._since


def answer_log_of(recorded: Recorded) -> AnswerLog:
    """Return the server's answers in a recording."""
    answer_log = AnswerLog()
    for line in recorded.lines:
        if not line.up and line.kind == "text":
            answer_log.text(line.at, line.text)
        elif not line.up and line.kind == "sound":
            answer_log.sound(line.at)
    return answer_log


class ReplaySocket(Protocol):
    """The socket that a replay sends to."""

    def send_text(self, text: str) -> None: ...

    def send_binary(self, data: bytes) -> None: ...


class Replay:
    """Sends a device's recorded messages again.

    MCP requests get the recorded answer to the same method and tool; request ids may
    differ.

    :param speed: 2 is twice as fast. Servers find the end of speech in the sound, so use
        more than 1 for typed inputs only.
    :param watch: receives the time in seconds and each text of the server.
    :ivar answer_log: the server's answers now.
    :ivar closed_with: code and reason, if the server closed the connection.
    """

    def __init__(
        self,
        recorded: Recorded,
        clock: IReactorTime,
        speed: float,
        watch: Callable[[float, str], None] = lambda at, text: None,
    ) -> None:
        self._recorded = recorded
        self._clock = clock
        self._speed = speed
        self._watch = watch
        self.answer_log = AnswerLog()
        self.closed_with: tuple[int, str] | None = None
        self._socket: ReplaySocket | None = None
        self._session_id = ""
        self._began = self._heard_at = 0.0
        self._lines = deque(line for line in recorded.lines if line.up and line.kind != "close")
        self._answers = _answers(recorded)
        self._expected = len(answer_log_of(recorded).turns)
        self._done: Deferred[None] = Deferred()
        self._due: Any = None
        self._give_up = 0.0

    def run(self, socket: ReplaySocket) -> Deferred[None]:
        """Start the replay. :return: fires when the server has finished answering."""
        self._socket = socket
        self._began = self._heard_at = self._clock.seconds()
        self._send_due()
        return self._done

    def stop(self) -> None:
        """Cancel the timer."""
        if self._due is not None and self._due.active():
            self._due.cancel()

    # --- from the socket

    def text_received(self, text: str) -> None:
        at = self._heard_at = self._clock.seconds()
        message = _object(text)
        if message.get("type") == "hello":
            self._session_id = str(message.get("session_id", ""))
        elif message.get("type") == "mcp":
            self._asked(message)
        self._watch(at - self._began, text)
        self.answer_log.text(at, text)

    def binary_received(self, data: bytes) -> None:
        self._heard_at = self._clock.seconds()
        self.answer_log.sound(self._heard_at)

    def closed(self, code: int = 1006, reason: str = "") -> None:
        """End the replay: the server closed the connection."""
        self.closed_with = self.closed_with or (code, reason)
        self._finish()

    # --- the device's side

    def _send_due(self) -> None:
        while self._lines:
            due = self._began + self._lines[0].at / self._speed
            if due > self._clock.seconds() + 1e-6:
                self._due = self._clock.callLater(due - self._clock.seconds(), self._send_due)
                return
            self._send(self._lines.popleft())
        self._give_up = self._clock.seconds() + LONGEST
        self._wait()

    def _send(self, line: Line) -> None:
        assert self._socket is not None
        if line.kind == "sound":
            self._socket.send_binary(line.data)
        elif _object(line.text).get("type") != "mcp":
            # Answers to MCP requests are sent when the server makes the request.
            self._socket.send_text(self._renamed(line.text))

    def _renamed(self, text: str) -> str:
        old = self._recorded.session_id
        return text.replace(old, self._session_id) if old and self._session_id else text

    def _asked(self, message: dict[str, Any]) -> None:
        payload = message.get("payload")
        if not isinstance(payload, dict) or payload.get("id") is None:
            return
        known = self._answers[_subject(payload)]
        if known and self._socket is not None:
            answer = known.popleft() if len(known) > 1 else known[0]
            reply = {"type": "mcp", "session_id": self._session_id}
            self._socket.send_text(
                json.dumps(reply | {"payload": answer | {"id": payload["id"]}}, ensure_ascii=False)
            )

    def _wait(self) -> None:
        """Check every 100 ms whether the server has finished."""
        now = self._clock.seconds()
        turns = self.answer_log.turns
        speaking = bool(turns) and turns[-1].seconds is None
        enough = QUIET if len(turns) >= self._expected else PATIENCE
        quiet = now - self._heard_at
        if now >= self._give_up or (quiet >= enough and not speaking):
            self._finish()
        else:
            self._due = self._clock.callLater(0.1, self._wait)

    def _finish(self) -> None:
        self.stop()
        if not self._done.called:
            self._done.callback(None)


def _answers(recorded: Recorded) -> defaultdict[str, deque[dict[str, Any]]]:
    """Return the device's recorded MCP answers by request."""
    asked: dict[str, str] = {}
    answers: defaultdict[str, deque[dict[str, Any]]] = defaultdict(deque)
    for line in recorded.lines:
        message = _object(line.text) if line.kind == "text" else {}
        payload = message.get("payload")
        if message.get("type") != "mcp" or not isinstance(payload, dict):
            continue
        number = str(payload.get("id"))
        if not line.up:
            asked[number] = _subject(payload)
        elif number in asked:
            answers[asked[number]].append(payload)
    return answers


def _subject(payload: dict[str, Any]) -> str:
    params = payload.get("params")
    given = params if isinstance(params, dict) else {}
    return f"{payload.get('method')} {given.get('name', '')} {given.get('cursor', '')}"


def _object(text: str) -> dict[str, Any]:
    try:
        message = json.loads(text)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def describe(turn: SpokenTurn | None) -> str:
    """Return a turn as text for people."""
    if turn is None:
        return "nothing"
    latency = "no sound" if turn.latency is None else f"first sound after {turn.latency:.3f} s"
    heard = f"heard {turn.heard!r}, " if turn.heard else ""
    return f"{heard}said {' '.join(turn.sentences)!r}, {turn.packets} packets, {latency}"
