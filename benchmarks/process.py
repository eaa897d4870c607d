"""Child processes: started, asked, accounted for and ended by their id."""

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
    """A benchmark cannot run; the message says why."""


def busy() -> float:
    """Seconds of CPU used on this machine by anybody, since it was started."""
    fields = Path("/proc/stat").read_text().split(maxsplit=8)[1:8]
    user, nice, system, _idle, _wait, interrupt, soft = map(int, fields)
    return (user + nice + system + interrupt + soft) / _TICK


class Stolen:
    """The part of its CPU time that a virtual machine did not get: the host gave it to others.

    Where it is more than a hundredth or so, times of this run tell of the host.
    """

    def __init__(self) -> None:
        self._share, self._since = 0.0, self._read()

    def lately(self) -> float:
        """Since the last call; where that was less than a second of CPU ago, what it said."""
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
    """One child.

    :ivar pid: its process id.
    """

    def __init__(self, name: str, command: list[str], log: Path, **options: Any) -> None:
        """:param log: where its errors go."""
        self._name = name
        self._log = log
        with log.open("ab") as errors:
            self._child = subprocess.Popen(command, stderr=errors, bufsize=0, **options)
        self.pid = self._child.pid

    def cpu(self) -> float:
        """Seconds of CPU it has used, all threads, by the kernel's count (10 ms steps)."""
        return self._cpu(f"/proc/{self.pid}/stat")

    def main_cpu(self) -> float:
        """The same of its main thread alone, which is the reactor's."""
        return self._cpu(f"/proc/{self.pid}/task/{self.pid}/stat")

    def _cpu(self, path: str) -> float:
        try:
            stat = Path(path).read_text()
        except OSError:
            raise self.broken("is gone") from None
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK

    def memory(self) -> int:
        """Resident memory in KB."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise self.broken("is gone")

    def running(self) -> bool:
        return self._child.poll() is None

    def broken(self, what: str) -> Broken:
        """An error about it, with the last lines of its log."""
        tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])
        return Broken(f"{self._name} {what}\n{tail}".rstrip())

    def terminate(self) -> None:
        """Tell it to go; :meth:`stop` must follow."""
        if self.running():
            self._child.terminate()

    def stop(self) -> None:
        """End it, at once if it does not go by itself."""
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
    """A child of this package that takes commands: see :mod:`benchmarks.commands`."""

    def __init__(self, module: str, log: Path, *arguments: str) -> None:
        command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
        root = Path(__file__).resolve().parent.parent
        super().__init__(
            module, command, log, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root
        )
        self._rest = b""

    def ask(self, do: str, wait: float = 60.0, **arguments: Any) -> Any:
        """Have a command carried out and wait for its answer."""
        self.begin(do, **arguments)
        return self.answer(wait)

    def begin(self, do: str, **arguments: Any) -> None:
        """Have a command carried out; :meth:`answer` must follow."""
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
        except OSError:
            raise self.broken("is gone") from None

    def answer(self, wait: float = 60.0) -> Any:
        """The answer to what was begun."""
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
