"""The exit status of a ``twistd`` process after a failed start, and after a successful one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

from twisted.trial import unittest

PLUGIN = """
from twisted.application.service import ServiceMaker
maker = ServiceMaker("frame", "frame_tap", "A service for a test", "frame")
"""

TAP = """
import sys
from twisted.application.service import Service
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from xiaozhi.runtime.config import load_mapping
from xiaozhi.runtime.listening import Listener
from xiaozhi.runtime.service import Program, ServiceOptions, one_line_errors

Options = ServiceOptions

class Late(Service):
    def __init__(self, reactor, outcome):
        self.reactor, self.outcome = reactor, outcome

    def startService(self):
        return deferLater(self.reactor, 0.3, self.end)

    def end(self):
        if self.outcome == "bad":
            raise ValueError("odd thing")
        print("LATE IS UP", flush=True)

    def stopService(self):
        print("LATE STOPPED", flush=True)

def makeService(options):
    from twisted.internet import reactor
    with one_line_errors("frame"):
        settings = load_mapping(options.path, options.overrides)
    program = Program(reactor, options)
    program.add(Late(reactor, settings["late"]))
    program.add(Listener(reactor, ("127.0.0.1", settings["port"]), Factory()))
    return program
"""


class ExitTests(unittest.TestCase):
    """Real processes; a second or so each."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        (self.directory / "twisted" / "plugins").mkdir(parents=True)
        (self.directory / "twisted" / "plugins" / "frame_plugin.py").write_text(PLUGIN)
        (self.directory / "frame_tap.py").write_text(TAP)
        (self.directory / "c.yaml").write_text("late: good\nport: 0\n")
        self.taken = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.taken.close)
        self.port = self.taken.getsockname()[1]

    def command(
        self, *arguments: str, sets: tuple[str, ...] = (), config: str = "c.yaml"
    ) -> list[str]:
        twistd = os.path.join(sysconfig.get_path("scripts"), "twistd")
        settings = [part for each in sets for part in ("--set", each)]
        return [sys.executable, twistd, *arguments, "frame", "--config", config, *settings]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(self.directory)}

    def run_to_end(
        self, *arguments: str, sets: tuple[str, ...] = (), config: str = "c.yaml"
    ) -> tuple[int, str, str]:
        ended = subprocess.run(
            self.command(*arguments, sets=sets, config=config),
            cwd=self.directory,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=30,
        )
        return ended.returncode, ended.stdout, ended.stderr

    def wait_for(self, description: str, path: Path, text: str = "") -> str:
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            if path.exists() and text in path.read_text():
                return path.read_text()
            time.sleep(0.02)
        raise self.failureException(
            f"{description}: {path.read_text() if path.exists() else 'no file'}"
        )

    def assert_no_pid_file(self) -> None:
        self.assertFalse((self.directory / "frame.pid").exists())

    def test_foreground_port_in_use(self) -> None:
        status, out, err = self.run_to_end("-n", sets=(f"port={self.port}",))
        self.assertEqual(status, 1, out + err)
        critical = [line for line in out.splitlines() if "#critical]" in line]
        self.assertEqual(len(critical), 1, out)
        self.assertTrue(
            critical[0].endswith(
                f"cannot start: port {self.port} on 127.0.0.1 is in use; "
                "stop what listens there or set listen.port"
            ),
            critical,
        )
        self.assertNotIn("Traceback", out + err)
        self.assertIn("LATE STOPPED", out)
        self.assert_no_pid_file()

    def test_foreground_unexpected_failure(self) -> None:
        status, out, err = self.run_to_end("-n", sets=("late=bad",))
        self.assertEqual(status, 1, out + err)
        self.assertIn("cannot start: ValueError: odd thing", out)
        self.assertIn("Traceback", out)
        self.assert_no_pid_file()

    def test_foreground_configuration(self) -> None:
        for config, sets, expected in (
            ("no.yaml", (), "frame: no.yaml: there is no such file\n"),
            ("c.yaml", ("x",), "frame: --set x: expected KEY=VALUE, e.g. --set listen.port=8000\n"),
        ):
            for mode in (("-n",), ()):
                status, out, err = self.run_to_end(*mode, sets=sets, config=config)
                self.assertEqual((status, out, err), (1, "", expected))
        self.assert_no_pid_file()

    def test_foreground_good(self) -> None:
        log = self.directory / "log"
        process = subprocess.Popen(
            self.command("-n", "-l", str(log)), cwd=self.directory, env=self.environment()
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.wait_for("start", log, "LATE IS UP")
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(10), 0)
        self.assertIn("LATE STOPPED", log.read_text())
        self.assert_no_pid_file()

    def test_daemon_port_in_use(self) -> None:
        status, _, err = self.run_to_end(sets=(f"port={self.port}",))
        self.assertEqual(status, 1, err)
        self.assertIn(f"port {self.port} on 127.0.0.1 is in use", err)
        log = self.wait_for("end", self.directory / "frame.log", "Server Shut Down")
        self.assertIn(f"cannot start: port {self.port} on 127.0.0.1 is in use", log)
        self.assertNotIn("Traceback", log)
        deadline = time.monotonic() + 10
        while (self.directory / "frame.pid").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        self.assert_no_pid_file()

    def test_daemon_good(self) -> None:
        status, _, err = self.run_to_end()
        self.assertEqual((status, err), (0, ""))
        pid = int((self.directory / "frame.pid").read_text())
        try:
            # The command returned only after everything was up.
            self.assertIn("LATE IS UP", (self.directory / "frame.log").read_text())
        finally:
            os.kill(pid, signal.SIGTERM)
        log = self.wait_for("end", self.directory / "frame.log", "Server Shut Down")
        self.assertIn("LATE STOPPED", log)
