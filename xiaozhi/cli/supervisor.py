"""Keeps the services' processes running and shows the important part of their output."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from twisted.application.service import Service
from twisted.internet.defer import CancelledError
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, Logger
from twisted.python.logfile import LogFile
from twisted.runner.procmon import ProcessMonitor
from twisted.web.client import Agent, HTTPConnectionPool

from xiaozhi.base.errors import XiaozhiError

HEALTH_LIMIT = 60.0  # seconds from the start until all services are healthy
STOP_LIMIT = 20.0  # seconds a service may take to stop before it is killed


@dataclass(frozen=True)
class Address:
    """An address on which a service listens.

    :ivar key: its key in the configuration file.
    """

    host: str
    port: int
    key: str

    def reachable(self, own: str = "127.0.0.1") -> str:
        """Return ``host:port`` for a client, which cannot use a wildcard.

        :param own: this machine's address as the client knows it.
        """
        host = own if self.host in ("", "0.0.0.0", "::") else self.host
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


@dataclass(frozen=True)
class Unit:
    """One service: its ``twistd`` command and its addresses.

    :ivar health: the address of ``/health``.
    :ivar others: its other listening addresses.
    """

    name: str
    config: str
    sets: tuple[str, ...]
    health: Address
    others: tuple[Address, ...] = ()

    def command(self) -> list[str]:
        """Return the command line, for this interpreter and environment."""
        settings = [part for each in self.sets for part in ("--set", each)]
        twistd = [sys.executable, "-m", "xiaozhi.cli.run", "twistd", "-n", "--pidfile="]
        return [*twistd, f"xiaozhi-{self.name}", "--config", self.config, *settings]


class Terminal:
    """Shows the important part of the services' output; files keep all of it.

    Warnings and errors are always shown. Our own info lines are shown while :attr:`talkative`.
    Output that is not a log line is shown before the first log line and after an error.
    """

    _line = re.compile(r"^\S+T(\d\d:\d\d:\d\d)\S* \[([^#\]]*)#(\w+)\] (.*)$")

    # Lines that Twisted logs in the namespace of our factories.
    _noise = ("Starting factory", "Stopping factory")

    def __init__(self, directory: Path, prefix: str = "", out: Any = None) -> None:
        self._directory = directory
        self._prefix = prefix
        self._out = out or sys.stdout
        self._files: dict[str, LogFile] = {}
        self._loud: dict[str, bool] = {}
        self.talkative = False

    def path(self, name: str) -> Path:
        """Return the file of a service's output."""
        return self._directory / f"{self._prefix}{name}.log"

    def say(self, text: str) -> None:
        """Show a line of our own; a closed terminal is ignored."""
        with suppress(OSError):
            print(text, file=self._out, flush=True)

    def observe(self, event: dict[str, Any]) -> None:
        """Process a log event of the process monitor: a line of a service's output."""
        name, line = event.get("tag"), event.get("line")
        if name is None or line is None:
            if "log_failure" in event:
                self.say(f"supervisor: {event['log_failure'].getErrorMessage()}")
            return
        self.file(name).write(line + "\n")
        match = self._line.match(line)
        if match is None:
            if self._loud.get(name, True) and line.strip():
                self.say(f"{name}  {line}")
            return
        at, namespace, level, text = match.groups()
        self._loud[name] = level in ("error", "critical")
        if level in ("warn", "error", "critical"):
            self.say(f"{at} {name} {level.upper()}: {text}")
        elif text.startswith(self._noise):
            return
        elif self.talkative and level == "info" and namespace.startswith("xiaozhi"):
            self.say(f"{at} {name} {text}")

    def file(self, name: str) -> LogFile:
        """Return a service's log file, made at the first call.

        :raises OSError: it cannot be written.
        """
        if name not in self._files:
            path = self.path(name)
            self._files[name] = LogFile(
                path.name, str(path.parent), 10_000_000, defaultMode=0o600, maxRotatedFiles=5
            )
        return self._files[name]

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()


class Supervisor(ProcessMonitor):
    """Keeps the services running; restarts one only after all have been healthy.

    :ivar settled: all have been healthy once.
    """

    threshold = 10
    maxRestartDelay = 30
    killTime = int(STOP_LIMIT)

    def __init__(self, reactor: Any, units: Sequence[Unit], terminal: Terminal) -> None:
        super().__init__(reactor)
        self._all = reactor
        self.units = units
        self.terminal = terminal
        self.settled = False
        self.log = Logger("xiaozhi.cli.run", observer=cast("ILogObserver", terminal.observe))

    def startProcess(self, name: str) -> None:
        if name in self.timeStarted:
            if not self.settled:
                return
            self.terminal.say(f"xiaozhi-{name} ended unexpectedly; restarting it")
        super().startProcess(name)

    async def bring_up(self) -> None:
        """Start the services in order, each when the one before is healthy.

        :raises XiaozhiError: one ended, or was not healthy within :data:`HEALTH_LIMIT`.
        """
        self.startService()
        pool = HTTPConnectionPool(self._all, persistent=False)
        agent = Agent(self._all, connectTimeout=2, pool=pool)
        for unit in self.units:
            self.addProcess(unit.name, unit.command(), env=dict(os.environ))
            await self._healthy(agent, unit)
        self.settled = True

    async def _healthy(self, agent: Agent, unit: Unit) -> None:
        deadline = self._all.seconds() + HEALTH_LIMIT
        while not await self._is_healthy(agent, unit):
            for name in self.timeStarted:
                if name not in self.protocols:
                    raise XiaozhiError("died", f"xiaozhi-{name} did not start")
            if self._all.seconds() > deadline:
                url = f"http://{unit.health.reachable()}/health"
                raise XiaozhiError("unhealthy", f"not healthy after {HEALTH_LIMIT:g} s: {url}")
            await deferLater(self._all, 0.1, lambda: None)

    async def _is_healthy(self, agent: Agent, unit: Unit) -> bool:
        url = f"http://{unit.health.reachable()}/health"
        try:
            answer = await agent.request(b"GET", url.encode()).addTimeout(3, self._all)
        except CancelledError:
            raise
        except Exception:
            return False
        return bool(answer.code == 200)

    async def stop(self) -> None:
        """Stop the services in reverse order; kill those that do not stop in time.

        The edge says goodbye to its devices while the AI service still runs.
        """
        Service.stopService(self)
        for again in self.restart.values():
            if again.active():
                again.cancel()
        for unit in reversed(self.units):
            if unit.name in self.protocols:
                self.stopProcess(unit.name)
            deadline = self._all.seconds() + STOP_LIMIT + 5
            while unit.name in self.protocols and self._all.seconds() < deadline:
                await deferLater(self._all, 0.05, lambda: None)

    def kill(self) -> None:
        """Kill every service at once."""
        for protocol in list(self.protocols.values()):
            with suppress(ProcessExitedAlready):
                cast(Any, protocol.transport).signalProcess("KILL")
