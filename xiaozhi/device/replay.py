"""Plays a recorded session's device again: what it sent, when it sent it."""

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

# Seconds without anything from the server, after all was sent, that end a replay; the same
# while less was answered than in the recording; and the most that it may go on for then.
QUIET, PATIENCE, LONGEST = 3.0, 30.0, 120.0


@dataclass(frozen=True, slots=True)
class Line:
    """One message of a recording.

    :ivar at: seconds since the connection.
    :ivar up: from the device.
    :ivar what: ``text``, ``sound`` or ``close``.
    """

    at: float
    up: bool
    what: str
    text: str = ""
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recording, as :mod:`xiaozhi.im.websocket.recording` describes it.

    :ivar missing: lines that tell of something that is not in it.
    """

    framing: int
    device_id: str
    session_id: str
    lines: tuple[Line, ...]
    missing: int


def read_recording(path: str) -> Recorded:
    """:raises DeviceError: ``bad_recording``, naming the file and the line.
    :raises OSError: it cannot be read.
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
        raise DeviceError("bad_recording", f"{path}: is empty")
    return Recorded(
        int(head["framing"] or 1), head["device_id"], head["session_id"], tuple(lines), missing
    )


def _head(content: Any) -> dict[str, Any]:
    if not isinstance(content, dict) or content.get("version") != 1:
        raise ValueError("is not the first line of a recording of version 1")
    return {"framing": 0, "device_id": "", "session_id": ""} | content


def _line(content: Any) -> Line | None:
    seconds, direction, what, value = content
    if what == "text":
        return Line(float(seconds), direction == "up", what, text=str(value))
    if what == "sound":
        return Line(float(seconds), direction == "up", what, data=b64decode(value, validate=True))
    if what == "close":
        return Line(float(seconds), direction == "up", what, text=f"{value[0]} {value[1]}")
    return None


@dataclass(slots=True)
class Spoken:
    """One ``tts start`` to its ``stop``, or something understood without an answer.

    :ivar heard: the ``stt`` before it.
    :ivar latency: seconds from that (or the start) to the first packet.
    :ivar seconds: from the start to the stop; None: there was none.
    """

    heard: str = ""
    sentences: list[str] = field(default_factory=list)
    packets: int = 0
    latency: float | None = None
    seconds: float | None = None


class Account:
    """The answers of a server, turn by turn."""

    def __init__(self) -> None:
        self.turns: list[Spoken] = []
        self._heard = ""
        self._since: float | None = None
        self._open: Spoken | None = None
        self._started = 0.0

    def text(self, at: float, text: str) -> None:
        """A text came."""
        message = _object(text)
        if message.get("type") == "stt":
            self._heard, self._since = str(message.get("text", "")), at
        elif message.get("type") == "tts":
            self._told(at, message)

    def _told(self, at: float, message: dict[str, Any]) -> None:
        state = message.get("state")
        if state == "start":
            self._open = Spoken(self._heard)
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
        """A packet came."""
        if self._open is not None:
            self._open.packets += 1
            if self._open.latency is None and self._since is not None:
                self._open.latency = at - self._since


def account_of(recorded: Recorded) -> Account:
    """Return the server's answers in the recording."""
    account = Account()
    for line in recorded.lines:
        if not line.up and line.what == "text":
            account.text(line.at, line.text)
        elif not line.up and line.what == "sound":
            account.sound(line.at)
    return account


class Sending(Protocol):
    """A socket."""

    def send_text(self, text: str) -> None: ...

    def send_binary(self, data: bytes) -> None: ...


class Replay:
    """One device's side, once more. What the server asks of the device's tools is answered
    as it was then: by method and tool, whatever numbers its requests have now.

    :param speed: 2: twice as fast. Servers tell the end of speech by its sound, so that
        more than 1 is of use for what was typed.
    :ivar account: what the server says now.
    :ivar hung_up: code and reason, if it does.
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
        self.account = Account()
        self.hung_up: tuple[int, str] | None = None
        self._socket: Sending | None = None
        self._session_id = ""
        self._began = self._heard_at = 0.0
        self._lines = deque(line for line in recorded.lines if line.up and line.what != "close")
        self._answers = _answers(recorded)
        self._expected = len(account_of(recorded).turns)
        self._done: Deferred[None] = Deferred()
        self._due: Any = None
        self._give_up = 0.0

    def run(self, socket: Sending) -> Deferred[None]:
        """Play it. :return: fires when the server has said what it has to say."""
        self._socket = socket
        self._began = self._heard_at = self._clock.seconds()
        self._send_due()
        return self._done

    def stop(self) -> None:
        """No timer is left."""
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
        self.account.text(at, text)

    def binary_received(self, data: bytes) -> None:
        self._heard_at = self._clock.seconds()
        self.account.sound(self._heard_at)

    def closed(self, code: int = 1006, reason: str = "") -> None:
        """The server hung up."""
        self.hung_up = self.hung_up or (code, reason)
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
        if line.what == "sound":
            self._socket.send_binary(line.data)
        elif _object(line.text).get("type") != "mcp":
            # Answers to the tools' calls are given when they are asked for.
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
        """Until the server has been silent for a while, between two answers."""
        now = self._clock.seconds()
        turns = self.account.turns
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
    """The device's answers in the recording, by request."""
    asked: dict[str, str] = {}
    answers: defaultdict[str, deque[dict[str, Any]]] = defaultdict(deque)
    for line in recorded.lines:
        message = _object(line.text) if line.what == "text" else {}
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
    told = params if isinstance(params, dict) else {}
    return f"{payload.get('method')} {told.get('name', '')} {told.get('cursor', '')}"


def _object(text: str) -> dict[str, Any]:
    try:
        message = json.loads(text)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def told(turn: Spoken | None) -> str:
    """A turn, for people."""
    if turn is None:
        return "nothing"
    latency = "no sound" if turn.latency is None else f"first sound after {turn.latency:.3f} s"
    heard = f"heard {turn.heard!r}, " if turn.heard else ""
    return f"{heard}said {' '.join(turn.sentences)!r}, {turn.packets} packets, {latency}"
