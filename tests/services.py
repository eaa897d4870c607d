"""Real ``xiaozhi-ai`` and ``xiaozhi-im`` processes for tests.

They are started with ``twistd`` from the checkout, on free ports of 127.0.0.1 and with their state
in a temporary directory. All calls block. Processes that still run when Python exits, or is killed,
are ended by their process group, which the test run made.
"""

from __future__ import annotations

import atexit
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.interfaces import IReactorTime

from xiaozhi.auth import AuthSettings, JwtTokens, load_keys
from xiaozhi.device.identity import Identity
from xiaozhi.device.network.ota import DeviceEndpoint
from xiaozhi.runtime.listening import free_port
from xiaozhi.wire.messages import Device

ROOT = Path(__file__).resolve().parent.parent

UP_WITHIN = 30.0
DOWN_WITHIN = 20.0

# Providers that answer at once, and short silences.
DOUBLES = (
    "selected.asr=scripted",
    "selected.llm=scripted",
    "selected.tts=tone",
    "selected.vlllm=scripted",
    "selected.vad=energy",
    "providers.tts.tone.milliseconds=20",
    "session.listen.end_silence=0.2",
)


def twistd(*arguments: str) -> list[str]:
    """Return the command line of the installed ``twistd``."""
    return [sys.executable, os.path.join(sysconfig.get_path("scripts"), "twistd"), *arguments]


def assignments(sets: Sequence[str]) -> list[str]:
    """Put ``--set`` before each setting."""
    return [part for each in sets for part in ("--set", each)]


def get(port: int, path: str) -> tuple[int, Any]:
    """Send a ``GET``. :return: the status, and the body decoded as JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def run_to_end(
    name: str, *sets: str, config: str | Path = "", environment: dict[str, str] | None = None
) -> tuple[int, str]:
    """Start a service that is expected to end by itself.

    :param name: ``im`` or ``ai``.
    :return: the exit status and everything it printed.
    """
    command = twistd("-n", "--pidfile=", f"xiaozhi-{name}")
    command += ["--config", str(config or f"etc/{name}.yaml"), *assignments(sets)]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=UP_WITHIN)
        return process.returncode, output.decode()
    finally:
        end_group(process.pid)
        process.wait()


def end_group(leader: int) -> None:
    """Kill the rest of a process group that this test run made."""
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


class ServiceProcess:
    """One ``twistd -n`` process.

    :ivar port: where it answers ``/health``.
    :ivar sets: KEY=VALUE, each for a ``--set``.
    :ivar config: its configuration file.
    """

    def __init__(self, name: str, port: int, sets: Sequence[str], log: Path) -> None:
        """:param name: ``im`` or ``ai``.
        :param log: file for its output; later starts append.
        """
        self.name = name
        self.port = port
        self.log = log
        self.sets = tuple(sets)
        self.config = f"etc/{name}.yaml"
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "start() first"
        return self._process.pid

    @property
    def output(self) -> str:
        """Return its output so far."""
        return self.log.read_text() if self.log.exists() else ""

    def start(self) -> None:
        """Start it; does not wait."""
        self.end()
        atexit.register(self.end)
        command = twistd("-n", "--pidfile=", f"xiaozhi-{self.name}")
        command += ["--config", self.config, *assignments(self.sets)]
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        # Outlives this process if it is killed, and then ends the service.
        self._guard = subprocess.Popen(
            ["sh", "-c", 'read _; kill -s KILL -- "-$0"', str(self.pid)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def wait_for(self, path: str = "/health", status: int = 200, says: str = "") -> Any:
        """Wait until a page answers with this status. :return: its body.

        :param says: the ``status`` in its body; empty: any.
        """
        until = time.monotonic() + UP_WITHIN
        while True:
            found: Any = None
            with suppress(OSError, http.client.HTTPException):
                found = get(self.port, path)
                if found[0] == status and says in ("", found[1]["status"]):
                    return found[1]
            ended = self._process is not None and self._process.poll() is not None
            if ended or time.monotonic() > until:
                raise AssertionError(
                    f"xiaozhi-{self.name}: {path} says {found}, not {status}:\n{self.output}"
                )
            time.sleep(0.03)

    def stop(self) -> int:
        """Send SIGTERM. :return: as :meth:`ended`."""
        os.kill(self.pid, signal.SIGTERM)
        return self.ended()

    def ended(self) -> int:
        """Wait for its end. :return: the exit status, negative for a signal."""
        assert self._process is not None
        try:
            return self._process.wait(DOWN_WITHIN)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"xiaozhi-{self.name} does not stop:\n{self.output}") from None

    def kill(self) -> None:
        """Send SIGKILL to this process alone: its children must notice by themselves."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def children(self) -> list[str]:
        """Return running processes of its group, by command (Linux only)."""
        found = []
        for directory in Path("/proc").glob("[0-9]*"):
            with suppress(OSError, IndexError):
                fields = (directory / "stat").read_text().rpartition(")")[2].split()
                if int(fields[2]) == self.pid and fields[0] != "Z":
                    command = (directory / "cmdline").read_bytes().replace(b"\0", b" ")
                    found.append(command.decode(errors="replace"))
        return found

    def end(self) -> None:
        """Kill the process group and remove its files. Idempotent."""
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.kill()
            guard.communicate()
        process, self._process = self._process, None
        if process is not None:
            end_group(process.pid)
            process.wait()
        atexit.unregister(self.end)


class Pair:
    """Both services, with what a device needs to reach them.

    :ivar state: the state directory of both.
    :ivar settings: ``auth`` as the services have it, for tokens made here.
    """

    def __init__(
        self,
        im_sets: Sequence[str] = (),
        ai_sets: Sequence[str] = DOUBLES,
        auth: AuthSettings | None = None,
    ) -> None:
        """:param auth: of the services; the sets need the same values."""
        self.directory = Path(tempfile.mkdtemp(prefix="xiaozhi-test-"))
        self.state = self.directory / "state"
        self.settings = (auth or AuthSettings()).kept_in(self.state)
        self.edge_port, self.http_port, self.grpc_port = (free_port() for _ in range(3))
        self.im = self.edge(self.edge_port, *im_sets)
        self.ai = ServiceProcess(
            "ai",
            self.http_port,
            (
                f"state_dir={self.state}",
                f"http.listen={{host: 127.0.0.1, port: {self.http_port}}}",
                f"http.ota.edge_port={self.edge_port}",
                f"grpc.listen=127.0.0.1:{self.grpc_port}",
                *ai_sets,
            ),
            self.directory / "ai.log",
        )
        self._edges = [self.im]

    def edge(self, port: int, *sets: str) -> ServiceProcess:
        """An edge process of this pair that is not started."""
        return ServiceProcess(
            "im",
            port,
            (
                f"state_dir={self.state}",
                f"listen={{host: 127.0.0.1, port: {port}}}",
                f"bridge.targets=['127.0.0.1:{self.grpc_port}']",
                "bridge.backoff_cap=0.5",
                *sets,
            ),
            self.directory / f"im-{port}.log",
        )

    def start(self) -> Pair:
        """Start both and wait until they are healthy; if not, end them."""
        atexit.register(self.end)
        try:
            self.ai.start()
            self.im.start()
            self.ai.wait_for()
            self.im.wait_for()
        except BaseException:
            self.end()
            raise
        return self

    def second_edge(self, *sets: str) -> ServiceProcess:
        """Start another edge beside the first; it ends with the pair."""
        second = self.edge(free_port(), *sets)
        self._edges.append(second)
        second.start()
        second.wait_for()
        return second

    def end(self) -> None:
        """Kill running processes and remove their state. Idempotent."""
        for service in (*self._edges, self.ai):
            service.end()
        shutil.rmtree(self.directory, ignore_errors=True)
        atexit.unregister(self.end)

    @property
    def output(self) -> str:
        """Return the output of both services."""
        return "".join(service.output for service in (*self._edges, self.ai))

    @property
    def ota(self) -> str:
        """The OTA address for devices."""
        return f"http://127.0.0.1:{self.http_port}/xiaozhi/ota/"

    def token(self, device_id: str, scope: str = "device", client_id: str = "") -> str:
        """Return a valid token, made with the services' key."""
        tokens = JwtTokens(load_keys(self.settings), self.settings, IReactorTime(reactor))
        device = Device(device_id=device_id, client_id=client_id, user_id="tester")
        return tokens.issue(device, scope, 3600)

    def endpoint(self, identity: Identity, port: int = 0, framing: int = 1) -> DeviceEndpoint:
        """Return the WebSocket address for a device, with its token.

        :param port: of another edge.
        """
        url = f"ws://127.0.0.1:{port or self.edge_port}/xiaozhi/v1/"
        return DeviceEndpoint(url, self.token(identity.device_id), framing)


_shared: dict[tuple[object, ...], Pair] = {}


def shared(im_sets: Sequence[str] = (), ai_sets: Sequence[str] = DOUBLES) -> Pair:
    """Return a running pair for all tests with these arguments; only one is kept at a time.

    For tests that leave both services as they found them.
    """
    key = (tuple(im_sets), tuple(ai_sets))
    pair = _shared.get(key)
    if pair is None:
        end_shared()
        pair = _shared[key] = Pair(im_sets, ai_sets).start()
    return pair


def end_shared() -> None:
    """End the shared pair, if there is one."""
    while _shared:
        _shared.popitem()[1].end()
