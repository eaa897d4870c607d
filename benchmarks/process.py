"""Child processes: start, commands, CPU accounting and end by process id."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_TICK = os.sysconf("SC_CLK_TCK")
_GONE_WITHIN = 10.0


class Broken(Exception):
    """A benchmark cannot run; the message has the reason."""


def busy() -> float:
    """Return the CPU seconds used on this machine since boot, by all processes."""
    fields = Path("/proc/stat").read_text().split(maxsplit=8)[1:8]
    user, nice, system, _idle, _wait, interrupt, soft = map(int, fields)
    return (user + nice + system + interrupt + soft) / _TICK


class Stolen:
    """Steal time: the part of a virtual machine's CPU time that the host gave to others.

    Above one percent or so, the times of a run depend on the host.
    """

    def __init__(self) -> None:
        self._share, self._since = 0.0, self._read()

    def lately(self) -> float:
        """Return the share since the last call, or the last result after less than a CPU second."""
        (before, all_before), now = self._since, self._read()
        if now[1] - all_before >= 1.0:
            self._since = now
            self._share = round((now[0] - before) / (now[1] - all_before), 4)
        return self._share

    @staticmethod
    def _read() -> tuple[float, float]:
        fields = [int(one) / _TICK for one in Path("/proc/stat").read_text().split()[1:9]]
        return fields[7], sum(fields)


class Process:
    """One child process.

    :ivar pid: its process id.
    """

    def __init__(self, name: str, command: list[str], log: Path, **options: Any) -> None:
        """:param log: file for its standard error."""
        self._name = name
        self._log = log
        with log.open("ab") as errors:
            self._child = subprocess.Popen(command, stderr=errors, bufsize=0, **options)
        self.pid = self._child.pid

    def cpu(self) -> float:
        """Return its CPU seconds over all threads, as the kernel counts (10 ms steps)."""
        return self._cpu(f"/proc/{self.pid}/stat")

    def main_cpu(self) -> float:
        """Return the CPU seconds of its main thread, which runs the reactor."""
        return self._cpu(f"/proc/{self.pid}/task/{self.pid}/stat")

    def _cpu(self, path: str) -> float:
        try:
            stat = Path(path).read_text()
        except OSError:
            raise self.broken("is gone") from None
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK

    def memory(self) -> int:
        """Return its resident memory in KB."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise self.broken("is gone")

    def running(self) -> bool:
        return self._child.poll() is None

    def broken(self, what: str) -> Broken:
        """Make an error with the last lines of its log."""
        tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])
        return Broken(f"{self._name} {what}\n{tail}".rstrip())

    def terminate(self) -> None:
        """Send SIGTERM; :meth:`stop` must follow."""
        if self.running():
            self._child.terminate()

    def stop(self) -> None:
        """End it, by SIGKILL if it does not exit after SIGTERM."""
        self.terminate()
        if self.running():
            try:
                self._child.wait(_GONE_WITHIN)
            except subprocess.TimeoutExpired:
                self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                pipe.close()


class Helper(Process):
    """A child process that takes commands, see :mod:`benchmarks.commands`."""

    def __init__(self, module: str, log: Path, *arguments: str) -> None:
        command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
        root = Path(__file__).resolve().parent.parent
        super().__init__(
            module, command, log, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root
        )
        self._rest = b""

    def ask(self, do: str, wait: float = 60.0, **arguments: Any) -> Any:
        """Run a command and return its result."""
        self.begin(do, **arguments)
        return self.answer(wait)

    def begin(self, do: str, **arguments: Any) -> None:
        """Start a command; :meth:`answer` must follow."""
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
        except OSError:
            raise self.broken("is gone") from None

    def answer(self, wait: float = 60.0) -> Any:
        """Return the result of the command that was started."""
        assert self._child.stdout is not None
        descriptor = self._child.stdout.fileno()
        until = time.monotonic() + wait
        while b"\n" not in self._rest:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise self.broken(f"did not answer within {wait:g} s")
            piece = os.read(descriptor, 65536)
            if not piece:
                raise self.broken("is gone")
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        answer = json.loads(line)
        if "error" in answer:
            raise self.broken(f"failed: {answer['error']}")
        return answer["result"]
