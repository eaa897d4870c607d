"""Log output: text for people, or one JSON object per line for programs.

An object has ``time`` (RFC 3339, UTC), ``level``, ``logger``, ``message``, the fields of
the line, and ``failure``, a traceback as one string. A line written during the work for a
device's message has ``request_id`` and ``session_id``.
"""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal

import msgspec
from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    eventAsText,
    formatEvent,
)
from twisted.python.logfile import LogFile

from xiaozhi.base import trace
from xiaozhi.runtime.console import tolerant

Level = Literal["debug", "info", "warn", "error", "critical"]

_RESERVED = frozenset(("time", "level", "logger", "message", "failure"))
# Keys that Twisted's legacy log adds to events.
_LEGACY = frozenset(("format", "isError", "system", "time"))
# Maximum characters of a field, of a whole line and of a traceback.
_FIELD, _LINE, _TRACEBACK = 1000, 4000, 16_000
# Control characters, line and paragraph separators, bidirectional controls, lone
# surrogates.
_UNSAFE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_PLAIN = (str, int, float, bool, type(None))


class LogSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The section ``log``.

    :ivar format: ``text`` for people, ``json`` for programs.
    :ivar level: less severe lines are not written.
    """

    format: Literal["text", "json"] = "text"
    level: Level = "info"


class EdgeLogSettings(LogSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The section ``log`` of the edge.

    :ivar messages: log each message of a device: its id, type and size, never its content.
    """

    messages: bool = False


def observer(settings: LogSettings, out: Any) -> ILogObserver:
    """Return the observer that writes the log.

    :param out: a text file; flushed after each line.
    """
    form = as_json if settings.format == "json" else as_text
    level = LogLevel.levelWithName(settings.level)
    return FilteringLogObserver(
        FileLogObserver(out, form), [LogLevelFilterPredicate(defaultLogLevel=level)]
    )


def observer_for(settings: LogSettings, command: Mapping[str, Any] | None) -> ILogObserver | None:
    """Return an :func:`observer` that writes where ``twistd`` would write its log.

    :param command: the options of ``twistd``; None: not run by ``twistd``.
    :return: None if the command line asks for another log: ``--logger``, ``--syslog``.
    """
    if command is None or command.get("logger") or command.get("syslog"):
        return None
    return observer(settings, _opened(command))


def _opened(command: Mapping[str, Any]) -> Any:
    """Open the log's file as ``twistd`` itself would."""
    path, in_front = command.get("logfile"), command.get("nodaemon")
    if in_front and path in (None, "", "-"):
        tolerant(sys.stdout)
        return sys.stdout
    if path == "-":
        raise SystemExit("Daemons cannot log to stdout, exiting!")
    path = path or "twistd.log"
    _make_private(path)
    file = LogFile.fromFullPath(path)
    if signal.getsignal(signal.SIGUSR1) in (None, signal.SIG_DFL):
        signal.signal(signal.SIGUSR1, partial(_rotate, file))
    return file


def _make_private(path: str) -> None:
    """Restrict the log to its owner, since it names devices and addresses.

    Rotated files get the same mode. An existing world-readable file loses that
    permission; a mode like 0640 was chosen and stays.
    """
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        mode = os.stat(path).st_mode
        if stat.S_ISREG(mode) and mode & 0o007:
            with suppress(PermissionError):  # another user's file that we may write
                os.chmod(path, 0o600)


def _rotate(file: LogFile, number: int, frame: object) -> None:
    from twisted.internet import reactor

    reactor.callFromThread(file.rotate)  # type: ignore[attr-defined]


def as_text(event: LogEvent) -> str:
    """Render an event as one line of text; a traceback follows in indented lines."""
    event = _bounded(event)
    line = clean(eventAsText(event, includeTraceback=False), _LINE)
    if (failure := event.get("log_failure")) is not None:
        line += "\n" + _traceback(failure)
    return line.replace("\n", "\n\t") + "\n"


def clean(text: str, most: int) -> str:
    """Escape and shorten text of a peer for a log line.

    Characters that could end the line, control a terminal or change the text direction are
    escaped as in Python.

    :param most: maximum characters to keep.
    """
    if len(text) > most:
        text = f"{text[:most]}… ({len(text)} characters)"
    return _UNSAFE.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return ascii(found[0])[1:-1]


def _bounded(event: LogEvent) -> LogEvent:
    """Limit the fields so that all fit in the line."""
    return {
        key: value[:_FIELD] + "…"
        if isinstance(value, str) and len(value) > _FIELD and not key.startswith("log_")
        else value
        for key, value in event.items()
    }


def _traceback(failure: Any) -> str:
    """Render a traceback; a long one keeps its end, which names the error."""
    text: str = failure.getTraceback()
    if len(text) > _TRACEBACK:
        text = f"{text[: _TRACEBACK // 2]}\n…\n{text[-_TRACEBACK // 2 :]}"
    return "\n".join(clean(line, _LINE) for line in text.rstrip().split("\n"))


def as_json(event: LogEvent) -> str:
    """Render an event as one line of JSON."""
    event = _bounded(event)
    line: dict[str, Any] = {
        "time": _time(event.get("log_time")),
        "level": event.get("log_level", LogLevel.info).name,
        "logger": event.get("log_namespace") or event.get("log_system") or "-",
        "message": clean(formatEvent(event), _LINE),
    }
    request = trace.current()
    if request is not None:
        line["request_id"] = request.id
        line["session_id"] = request.session_id
    for key, value in event.items():
        if not (key.startswith("log_") or key in _LEGACY) and isinstance(value, _PLAIN):
            kept = clean(value, _LINE) if isinstance(value, str) else value
            line[f"{key}_" if key in _RESERVED else key] = kept
    if (failure := event.get("log_failure")) is not None:
        line["failure"] = _traceback(failure)
    try:
        return msgspec.json.encode(line).decode() + "\n"
    except (ValueError, TypeError, msgspec.MsgspecError):
        # A lone surrogate, a number beyond 64 bits.
        return json.dumps(line, default=str) + "\n"


def _time(seconds: float | None) -> str:
    at = datetime.now(UTC) if seconds is None else datetime.fromtimestamp(seconds, UTC)
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")
