"""The supervisor: configuration, processes, output."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial import unittest

from xiaozhi.base.errors import ConfigError, XiaozhiError
from xiaozhi.cli import run
from xiaozhi.cli.supervisor import HEALTH_LIMIT, STOP_LIMIT, Address, Supervisor, Terminal, Unit

LINE = "2026-11-22T16:53:29+0000 [{}#{}] {}"


class AddressTests(unittest.SynchronousTestCase):
    def read(self, im: str, ai: str, *sets: str) -> dict[str, Unit]:
        paths = [self.mktemp(), self.mktemp()]
        for path, text in zip(paths, (im, ai), strict=True):
            Path(path).write_text(text)
        return {unit.name: unit for unit in run.read_units(paths[0], paths[1], sets)}

    def test_defaults(self) -> None:
        units = self.read("", "")
        self.assertEqual(units["im"].health, Address("0.0.0.0", 8000, "listen"))
        self.assertEqual(units["ai"].health, Address("0.0.0.0", 8080, "http.listen"))
        self.assertEqual(units["ai"].others, (Address("127.0.0.1", 50051, "grpc.listen"),))

    def test_given(self) -> None:
        units = self.read(
            "listen: {port: 1}",
            "grpc: {listen: '[::1]:2'}\nhttp: {listen: {host: h, port: '3'}}",
            "listen.host=x",
        )
        self.assertEqual(units["im"].health, Address("x", 1, "listen"))
        self.assertEqual(units["ai"].health, Address("h", 3, "http.listen"))
        self.assertEqual(units["ai"].others, (Address("::1", 2, "grpc.listen"),))
        self.assertEqual(units["im"].sets, ("listen.host=x",))

    def test_invalid_values_are_left_to_the_service(self) -> None:
        units = self.read("listen: {port: many, host: 5}", "http: 7\ngrpc: {listen: nowhere}")
        self.assertEqual(units["im"].health, Address("0.0.0.0", 8000, "listen"))
        self.assertEqual(units["ai"].health.port, 8080)

    def test_unreadable(self) -> None:
        self.assertRaises(ConfigError, run.read_units, "no.yaml", "no.yaml")

    def test_reachable(self) -> None:
        self.assertEqual(Address("0.0.0.0", 1, "").reachable("192.0.2.7"), "192.0.2.7:1")
        self.assertEqual(Address("", 1, "").reachable(), "127.0.0.1:1")
        self.assertEqual(Address("fe80::1", 1, "").reachable("x"), "[fe80::1]:1")

    def test_demo_is_apart(self) -> None:
        sets = run.demo_sets(1, 2, 3, "var/x")
        empty = self.mktemp()
        Path(empty).write_text("")
        units = {u.name: u for u in run.read_units(empty, empty, *sets)}
        addresses = [units["im"].health, units["ai"].health, *units["ai"].others]
        self.assertEqual(
            [(each.host, each.port) for each in addresses],
            [("127.0.0.1", 1), ("127.0.0.1", 3), ("127.0.0.1", 2)],
        )

    def test_command(self) -> None:
        unit = Unit("im", "etc/im.yaml", ("a=1", "b=2"), Address("h", 1, "listen"))
        self.assertEqual(
            unit.command()[:5], [sys.executable, "-m", "xiaozhi.cli.run", "twistd", "-n"]
        )
        self.assertEqual(
            unit.command()[6:],
            ["xiaozhi-im", "--config", "etc/im.yaml", "--set", "a=1", "--set", "b=2"],
        )


class TerminalTests(unittest.SynchronousTestCase):
    def setUp(self) -> None:
        self.out = io.StringIO()
        directory = Path(self.mktemp())
        directory.mkdir()
        self.terminal = Terminal(directory, "demo-", self.out)

    def shown(self, *lines: str) -> str:
        for line in lines:
            self.terminal.observe({"tag": "im", "line": line})
        return self.out.getvalue()

    def test_refusal_before_the_log(self) -> None:
        self.assertEqual(self.shown("xiaozhi-im: bad key"), "im  xiaozhi-im: bad key\n")

    def test_warnings_always(self) -> None:
        shown = self.shown(LINE.format("a.b", "warn", "careful"))
        self.assertEqual(shown, "16:53:29 im WARN: careful\n")

    def test_notices_of_ours_when_talkative(self) -> None:
        ours = LINE.format("xiaozhi.im.Gateway", "info", "hello")
        self.assertEqual(self.shown(ours), "")
        self.terminal.talkative = True
        others = LINE.format("twisted.web", "info", "GET /")
        debug = LINE.format("xiaozhi.im", "debug", "detail")
        noise = LINE.format("xiaozhi.x.Site", "info", "Starting factory <x>")
        self.assertEqual(self.shown(ours, others, debug, noise), "16:53:29 im hello\n")

    def test_traceback_of_an_error_only(self) -> None:
        shown = self.shown(LINE.format("x", "info", "quiet"), "raw", LINE.format("x", "error", "E"))
        self.assertEqual(shown, "16:53:29 im ERROR: E\n")
        self.assertTrue(self.shown("Traceback").endswith("im  Traceback\n"))

    def test_file_keeps_all(self) -> None:
        line = LINE.format("x", "info", "quiet")
        self.shown(line, "raw é")
        self.terminal.close()
        path = self.terminal.path("im")
        self.assertEqual(path.name, "demo-im.log")
        self.assertEqual(path.read_text(), line + "\nraw é\n")
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)

    def test_terminal_closed(self) -> None:
        class Closed(io.StringIO):
            def write(self, text: str) -> int:
                raise OSError(5, "Input/output error")

        terminal = Terminal(Path(self.mktemp()), "", Closed())
        terminal.say("stopping")

    def test_banner(self) -> None:
        units = [
            Unit("ai", "", (), Address("0.0.0.0", 8080, "")),
            Unit("im", "", (), Address("0.0.0.0", 8000, "")),
        ]
        text = run.banner(units, self.terminal, "192.0.2.7")
        for expected in (
            "ws://192.0.2.7:8000/xiaozhi/v1/",
            "http://192.0.2.7:8080/xiaozhi/ota/",
            "http://127.0.0.1:8000/health",
            "xiaozhi-device --ota http://127.0.0.1:8080/xiaozhi/ota/ say",
        ):
            self.assertIn(expected, text)


class Transport:
    """Stands for a child process."""

    def __init__(self) -> None:
        self.signals: list[str] = []

    def signalProcess(self, name: str) -> None:
        self.signals.append(name)


class ProcessReactor(MemoryReactorClock):
    """:ivar spawned: the protocols of the processes started."""

    def __init__(self) -> None:
        super().__init__()
        self.spawned: list[Any] = []

    def spawnProcess(self, protocol: Any, *args: Any, **kwargs: Any) -> None:
        self.spawned.append(protocol)
        protocol.makeConnection(Transport())


class SupervisorTests(unittest.SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = ProcessReactor()
        self.out = io.StringIO()
        directory = Path(self.mktemp())
        directory.mkdir()
        units = [
            Unit("im", "c", (), Address("", 8000, "")),
            Unit("ai", "c", (), Address("", 1, "")),
        ]
        self.supervisor = Supervisor(self.reactor, units, Terminal(directory, "", self.out))
        self.health: dict[str, bool] = {"im": True, "ai": True}

        async def is_healthy(_: object, unit: Unit) -> bool:
            return self.health[unit.name]

        self.patch(self.supervisor, "_is_healthy", is_healthy)

    def started(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.supervisor.bring_up())

    def advance(self, seconds: float) -> None:
        cast(Clock, self.reactor).pump([0.1] * round(seconds * 10))

    def end(self, protocol: Any, status: int = 1) -> None:
        reason = ProcessTerminated(status) if status else ProcessDone(0)
        protocol.processEnded(Failure(reason))

    def settle(self) -> None:
        done = self.started()
        self.successResultOf(done)

    def test_one_after_the_other(self) -> None:
        self.health = {"im": False, "ai": False}
        done = self.started()
        self.advance(1)
        self.assertEqual(len(self.reactor.spawned), 1)
        self.health["im"] = True
        self.advance(1)
        self.assertEqual(len(self.reactor.spawned), 2)
        self.assertNoResult(done)
        self.health["ai"] = True
        self.advance(0.1)
        self.successResultOf(done)

    def test_never_healthy(self) -> None:
        self.health["ai"] = False
        done = self.started()
        self.advance(HEALTH_LIMIT + 0.3)
        error = self.failureResultOf(done, XiaozhiError).value
        self.assertEqual(error.message, "not healthy after 60 s: http://127.0.0.1:1/health")

    def test_an_exit_at_the_start_is_final(self) -> None:
        self.health["ai"] = False
        done = self.started()
        self.end(self.reactor.spawned[1])
        self.advance(0.1)
        error = self.failureResultOf(done, XiaozhiError).value
        self.assertEqual(error.message, "xiaozhi-ai did not start")
        self.advance(60)
        self.assertEqual(len(self.reactor.spawned), 2)

    def test_a_later_exit_is_restarted(self) -> None:
        self.settle()
        self.advance(60)
        self.end(self.reactor.spawned[0])
        self.advance(0.1)
        self.assertEqual(len(self.reactor.spawned), 3)
        self.assertEqual(self.out.getvalue(), "xiaozhi-im ended unexpectedly; restarting it\n")

    def test_frequent_exits_are_restarted_with_backoff(self) -> None:
        self.settle()
        counts = []
        for _ in range(4):
            for _ in range(40):
                if "im" in self.supervisor.protocols:
                    self.end(self.supervisor.protocols["im"])
                self.advance(0.5)
            counts.append(len(self.reactor.spawned))
        # Restarted after 1, 2, 4, 8, 16 and then every 30 s.
        self.assertEqual(counts, [6, 7, 7, 8])

    def test_stop(self) -> None:
        self.settle()
        done = Deferred.fromCoroutine(self.supervisor.stop())
        first, last = self.reactor.spawned
        self.assertEqual((first.transport.signals, last.transport.signals), ([], ["TERM"]))
        self.end(last, 0)
        self.advance(1)
        self.assertEqual(first.transport.signals, ["TERM"])
        self.assertNoResult(done)
        self.advance(STOP_LIMIT)
        self.assertEqual(first.transport.signals, ["TERM", "KILL"])
        self.end(first)
        self.advance(0.1)
        self.successResultOf(done)
        self.assertEqual(len(self.reactor.spawned), 2)

    def test_kill(self) -> None:
        self.settle()
        self.supervisor.kill()
        self.assertEqual(self.reactor.spawned[0].transport.signals, ["KILL"])


class UnwritableTests(unittest.SynchronousTestCase):
    """One line names the file and the remedy."""

    def check(self, var: Path, named: Path) -> None:
        err = io.StringIO()
        self.patch(sys, "stderr", err)
        empty = self.mktemp()
        Path(empty).touch()
        given = ["--im-config", empty, "--ai-config", empty, "--var", str(var), "run"]
        self.assertEqual(run.main(given), 1)
        self.assertRegex(err.getvalue(), rf"\Acannot write {named}: .+; change its owner.+\n\Z")

    def test_var(self) -> None:
        var = Path(self.mktemp())
        var.touch()
        self.check(var, var)

    def test_log(self) -> None:
        var = Path(self.mktemp())
        (var / "log" / "ai.log").mkdir(parents=True)
        self.check(var, var / "log" / "ai.log")


class ArgumentTests(unittest.SynchronousTestCase):
    def test_defaults(self) -> None:
        options = run.arguments([])
        self.assertEqual((options.command, options.im_config), (None, "etc/im.yaml"))

    def test_demo(self) -> None:
        options = run.arguments(["--ai-set", "a=1", "demo", "one", "two words"])
        self.assertEqual(options.sentences, ["one", "two words"])
        self.assertEqual(options.ai_set, ["a=1"])
        self.assertEqual(run.arguments(["demo"]).sentences, list(run.SENTENCES))
