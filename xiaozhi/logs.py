"""How the log is written: for people, or one JSON object a line for programs.

An object has ``time`` (RFC 3339, UTC), ``level``, ``logger``, ``message``, the fields
the line was made of, and ``failure``, a traceback as one string. A line that was written
while working for a device's message has ``request_id`` and ``session_id``.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Mapping
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
    formatEvent,
    formatEventAsClassicLogText,
)
from twisted.python.logfile import LogFile

from xiaozhi import trace
from xiaozhi.console import tolerant

Level = Literal["debug", "info", "warn", "error", "critical"]

_RESERVED = frozenset(("time", "level", "logger", "message", "failure"))
# What Twisted's older log puts into events beside the new.
_LEGACY = frozenset(("format", "isError", "system", "time"))
_PLAIN = (str, int, float, bool, type(None))


class LogSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The section ``log``.

    :ivar format: ``text`` for people, ``json`` for programs.
    :ivar level: lines of less weight are not written.
    """

    format: Literal["text", "json"] = "text"
    level: Level = "info"


class EdgeLogSettings(LogSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The section ``log`` of the edge.

    :ivar messages: a line for each message of a device: its id, type and size, never
        what is in it.
    """

    messages: bool = False


def observer(settings: LogSettings, out: Any) -> ILogObserver:
    """What writes the log.

    :param out: a text file; flushed after each line.
    """
    form = as_json if settings.format == "json" else formatEventAsClassicLogText
    level = LogLevel.levelWithName(settings.level)
    return FilteringLogObserver(
        FileLogObserver(out, form), [LogLevelFilterPredicate(defaultLogLevel=level)]
    )


def observer_for(settings: LogSettings, command: Mapping[str, Any] | None) -> ILogObserver | None:
    """As :func:`observer`, to where ``twistd`` was told to write its log.

    :param command: the options of ``twistd``; None: there is no ``twistd``.
    :return: None if the command line asks for another log: ``--logger``, ``--syslog``.
    """
    if command is None or command.get("logger") or command.get("syslog"):
        return None
    return observer(settings, _opened(command))


def _opened(command: Mapping[str, Any]) -> Any:
    """The log's file, as ``twistd`` itself would open it."""
    path, in_front = command.get("logfile"), command.get("nodaemon")
    if in_front and path in (None, "", "-"):
        tolerant(sys.stdout)
        return sys.stdout
    if path == "-":
        raise SystemExit("Daemons cannot log to stdout, exiting!")
    file = LogFile.fromFullPath(path or "twistd.log")
    if signal.getsignal(signal.SIGUSR1) in (None, signal.SIG_DFL):
        signal.signal(signal.SIGUSR1, partial(_rotate, file))
    return file


def _rotate(file: LogFile, number: int, frame: object) -> None:
    from twisted.internet import reactor

    reactor.callFromThread(file.rotate)  # type: ignore[attr-defined]


def as_json(event: LogEvent) -> str:
    """One line for an event."""
    line: dict[str, Any] = {
        "time": _time(event.get("log_time")),
        "level": event.get("log_level", LogLevel.info).name,
        "logger": event.get("log_namespace") or event.get("log_system") or "-",
        "message": formatEvent(event),
    }
    request = trace.current()
    if request is not None:
        line["request_id"] = request.id
        line["session_id"] = request.session_id
    for key, value in event.items():
        if not (key.startswith("log_") or key in _LEGACY) and isinstance(value, _PLAIN):
            line[f"{key}_" if key in _RESERVED else key] = value
    if (failure := event.get("log_failure")) is not None:
        line["failure"] = failure.getTraceback()
    try:
        return msgspec.json.encode(line).decode() + "\n"
    except (ValueError, TypeError, msgspec.MsgspecError):
        # Half a surrogate pair, a number beyond 64 bits.
        return json.dumps(line, default=str) + "\n"


def _time(seconds: float | None) -> str:
    at = datetime.now(UTC) if seconds is None else datetime.fromtimestamp(seconds, UTC)
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")
