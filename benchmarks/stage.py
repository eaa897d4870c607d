"""Processes of a benchmark: services and helpers, their start and end."""

from __future__ import annotations

import secrets
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from benchmarks.process import Helper, Process
from xiaozhi.runtime.listening import free_port

_READY_WITHIN = 20.0

_DEFAULTS: Mapping[str, Any] = MappingProxyType({})

# The load generator sends larger bursts than devices: raise the limits. The work is the
# same.
_OPEN_LIMITS = {"messages_per_second": 1_000_000, "message_burst": 1_000_000}
_OPEN_LIMITS |= {"bytes_per_second": 10_000_000, "byte_burst": 10_000_000}


class Stage:
    """Starts processes in a directory of its own; a context manager that ends them.

    :ivar key: signing key of device tokens.
    """

    def __init__(self, watched: bool = False) -> None:
        """:param watched: run services so that :func:`benchmarks.watched.ask` can count their
        objects."""
        self._watched = watched
        self._sockets: dict[Process, Path] = {}
        self.key = secrets.token_urlsafe(48)
        self._directory = tempfile.TemporaryDirectory(prefix="xiaozhi-bench-")
        self._path = Path(self._directory.name)
        self._processes: list[Process] = []

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        # End load generators before servers, which would otherwise say goodbye to each device.
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.stop()
        self._directory.cleanup()

    def load(self) -> Helper:
        """Start a load generator."""
        return self._helper("load", self.key)

    def bare(self) -> tuple[Helper, int]:
        """Start the floor, a bare Autobahn server. :return: it and its port."""
        helper = self._helper("bare")
        return helper, int(helper.ask("port"))

    def far_side(self) -> tuple[Helper, int]:
        """Start a stand-in for the AI service: its end of the bridge. :return: it and its port."""
        helper = self._helper("far_side")
        return helper, int(helper.ask("port"))

    def near_side(self) -> Helper:
        """Start a stand-in for the edge: its end of the bridge, with devices."""
        return self._helper("near_side")

    def codecs(self) -> Helper:
        """Start the floor of the work with sound."""
        return self._helper("codecs")

    def edge(
        self, ai_port: int, beside: int = 0, settings: Mapping[str, Any] = _DEFAULTS
    ) -> tuple[Process, int]:
        """Start xiaozhi-im, connected to an AI service. :return: it and its port.

        :param beside: port of another edge to share.
        :param settings: that differ from the defaults.
        """
        port = beside or free_port()
        settings = {
            "listen": {"host": "127.0.0.1", "port": port, "reuse_port": True},
            "bridge": {"targets": [f"127.0.0.1:{ai_port}"]},
            "limits": _OPEN_LIMITS,
            **settings,
        }
        return self._service("xiaozhi-im", settings, f"http://127.0.0.1:{port}/health"), port

    def brain(self, settings: dict[str, Any]) -> tuple[Process, int]:
        """Start xiaozhi-ai. :return: it and the port of its bridge.

        :param settings: that differ from the defaults.
        """
        http, grpc = free_port(), free_port()
        session = settings.get("session", {})
        # Phrases are prewarmed once, in the first seconds: not part of what is measured.
        speech = {"rehearse": False, **session.get("speech", {})}
        settings = {
            "http": {"listen": {"host": "127.0.0.1", "port": http}},
            "grpc": {"listen": f"127.0.0.1:{grpc}"},
            **settings,
            "session": {**session, "speech": speech},
        }
        return self._service("xiaozhi-ai", settings, f"http://127.0.0.1:{http}/health"), grpc

    def socket_of(self, service: Process) -> Path:
        """Return the Unix socket of a watched service."""
        return self._sockets[service]

    def _helper(self, module: str, *arguments: str) -> Helper:
        helper = Helper(module, self._log(module), *arguments)
        self._processes.append(helper)
        return helper

    def _service(self, name: str, settings: dict[str, Any], health: str) -> Process:
        configuration = self._path / f"{name}.yaml"
        common = {"state_dir": str(self._path / name), "auth": {"key": self.key}}
        configuration.write_text(yaml.safe_dump(common | settings))
        log = self._log(name)
        socket = self._path / f"{name}.socket"
        if self._watched:
            command = [sys.executable, "-m", "benchmarks.watched", str(socket)]
        else:
            command = [sys.executable, str(Path(sys.executable).parent / "twistd")]
        command += ["-n", "--pidfile=", f"--logfile={log}", name]
        command += ["--config", str(configuration)]
        root = Path(__file__).resolve().parent.parent
        process = Process(
            name, command, log, cwd=root, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        self._processes.append(process)
        self._sockets[process] = socket
        self._await_health(process, health)
        return process

    def _log(self, name: str) -> Path:
        return self._path / f"{name}-{len(self._processes)}.log"

    def _await_health(self, process: Process, url: str) -> None:
        self._await(process, lambda: _answers(url), "was not healthy")

    @staticmethod
    def _await(process: Process, ready: Callable[[], bool], otherwise: str) -> None:
        until = time.monotonic() + _READY_WITHIN
        while not ready():
            if not process.running():
                raise process.broken("did not start")
            if time.monotonic() > until:
                raise process.broken(f"{otherwise} within {_READY_WITHIN:g} s")
            time.sleep(0.05)


def _answers(url: str) -> bool:
    """Whether a service is up and does not wait for the bridge.

    An AI service without edges is healthy; an edge without an AI service is not.
    """
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - our own http URL
            return bool(answer.status == 200)
    except urllib.error.HTTPError:
        return False
    except OSError:
        return False
