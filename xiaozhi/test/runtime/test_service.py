"""Start in order, stop in reverse, fail clearly."""

from __future__ import annotations

import atexit
import errno
import os
import signal
import socket
import stat
from collections.abc import Callable
from typing import Any, cast

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import ILogObserver, LogLevel, globalLogPublisher
from twisted.python.usage import Options, UsageError
from twisted.scripts._twistd_unix import ServerOptions
from twisted.trial import unittest

from xiaozhi.base.errors import ConfigError, XiaozhiError
from xiaozhi.runtime import service
from xiaozhi.runtime.gcpolicy import GcPolicy
from xiaozhi.runtime.listening import Listener, free_port, listen

_real_fail_at_exit = service._fail_at_exit


class Part(Service):
    """A child that records events and ends its start and stop on command."""

    def __init__(self, name: str, events: list[str], *, slow: bool = True) -> None:
        self.name = name
        self.events = events
        self.slow = slow
        self.pending: Deferred[None] = Deferred()

    def _begin(self, what: str) -> Deferred[None] | None:
        self.events.append(f"{what} {self.name}")
        if not self.slow:
            return None
        self.pending = Deferred(lambda _: self.events.append(f"cancel {what} {self.name}"))
        return self.pending.addCallback(lambda _: self.events.append(f"{what}ed {self.name}"))

    def startService(self) -> Any:
        return self._begin("start")

    def stopService(self) -> Any:
        return self._begin("stop")


class Base(unittest.SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.events: list[str] = []
        self.logged: list[dict[str, Any]] = []
        observer = cast("ILogObserver", self.logged.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def parts(self, owner: service.OrderedService, *names: str, slow: bool = True) -> list[Part]:
        made = [Part(name, self.events, slow=slow) for name in names]
        for part in made:
            owner.add(part)
        return made

    def lines(self, level: LogLevel) -> list[str]:
        return [
            event["log_format"].format(**event)
            for event in self.logged
            if event.get("log_level") is level
        ]


class OrderedServiceTests(Base):
    def setUp(self) -> None:
        super().setUp()
        self.ordered = service.OrderedService(self.clock, start_limit=10, stop_limit=5)

    def running(self) -> list[Part]:
        a, b = self.parts(self.ordered, "a", "b")
        done = self.ordered.startService()
        a.pending.callback(None)
        b.pending.callback(None)
        self.successResultOf(done)
        self.events.clear()
        return [a, b]

    def test_start_awaits_each(self) -> None:
        a, b = self.parts(self.ordered, "a", "b")
        done = self.ordered.startService()
        self.assertEqual(self.events, ["start a"])
        a.pending.callback(None)
        self.assertEqual(self.events, ["start a", "started a", "start b"])
        self.assertNoResult(done)
        b.pending.callback(None)
        self.successResultOf(done)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop_is_in_reverse_and_awaits_each(self) -> None:
        a, b = self.running()
        done = self.ordered.stopService()
        self.assertEqual(self.events, ["stop b"])
        b.pending.callback(None)
        self.assertEqual(self.events, ["stop b", "stoped b", "stop a"])
        self.assertNoResult(done)
        a.pending.callback(None)
        self.successResultOf(done)
        self.assertFalse(self.ordered.running)

    def test_stop_twice_is_one_stop(self) -> None:
        a, b = self.running()
        first, second = self.ordered.stopService(), self.ordered.stopService()
        b.pending.callback(None)
        a.pending.callback(None)
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertEqual(self.events.count("stop a"), 1)

    def test_stop_before_start(self) -> None:
        self.parts(self.ordered, "a")
        self.successResultOf(self.ordered.stopService())
        self.assertEqual(self.events, [])

    def test_can_start_again(self) -> None:
        ordered = service.OrderedService(self.clock)
        self.parts(ordered, "a", slow=False)
        for _ in range(2):
            self.successResultOf(ordered.startService())
            self.successResultOf(ordered.stopService())
        self.assertEqual(self.events, ["start a", "stop a"] * 2)

    def test_failed_start_stops_those_started(self) -> None:
        a, b, _c = self.parts(self.ordered, "a", "b", "c")
        done = self.ordered.startService()
        a.pending.callback(None)
        b.pending.errback(ValueError("no"))
        self.assertNoResult(done)
        a.pending.callback(None)
        self.failureResultOf(done, ValueError)
        self.assertEqual(self.events, ["start a", "started a", "start b", "stop a", "stoped a"])
        self.assertFalse(self.ordered.running)

    def test_start_that_raises(self) -> None:
        (part,) = self.parts(self.ordered, "a")
        self.patch(part, "startService", lambda: 1 / 0)
        self.failureResultOf(self.ordered.startService(), ZeroDivisionError)

    def test_start_limit(self) -> None:
        self.parts(self.ordered, "a")
        done = self.ordered.startService()
        self.clock.advance(9.9)
        self.assertNoResult(done)
        self.clock.advance(0.1)
        error = self.failureResultOf(done, XiaozhiError).value
        self.assertEqual(error.message, "a did not start within 10 s")
        self.assertEqual(self.events, ["start a", "cancel start a"])

    def test_a_stop_at_its_limit_continues_with_the_next(self) -> None:
        a, _b = self.running()
        done = self.ordered.stopService()
        self.clock.advance(5)
        self.assertEqual(self.events, ["stop b", "cancel stop b", "stop a"])
        a.pending.callback(None)
        self.successResultOf(done)
        self.assertEqual(
            self.lines(LogLevel.error),
            ["b did not stop cleanly: b did not stop within 5 s"],
        )

    def test_limit_of_its_own(self) -> None:
        part = Part("drain", self.events)
        self.ordered.add(part, stop_limit=30)
        started = self.ordered.startService()
        part.pending.callback(None)
        self.successResultOf(started)
        done = self.ordered.stopService()
        self.clock.advance(29)
        self.assertNoResult(done)
        self.clock.advance(1)
        self.successResultOf(done)

    def test_a_failed_stop_continues_with_the_next(self) -> None:
        a, b = self.running()
        done = self.ordered.stopService()
        b.pending.errback(ValueError("no"))
        a.pending.callback(None)
        self.successResultOf(done)
        self.assertEqual(self.lines(LogLevel.critical), ["b did not stop cleanly"])
        self.flushLoggedErrors(ValueError)

    def test_stop_while_starting(self) -> None:
        a, _b = self.parts(self.ordered, "a", "b")
        started = self.ordered.startService()
        a.pending.callback(None)
        stopped = self.ordered.stopService()
        self.assertEqual(self.events[2:], ["start b", "cancel start b", "stop a"])
        self.assertNoResult(stopped)
        a.pending.callback(None)
        self.successResultOf(stopped)
        self.failureResultOf(started, CancelledError)

    def test_stop_while_undoing_a_failed_start_waits(self) -> None:
        a, b = self.parts(self.ordered, "a", "b")
        started = self.ordered.startService()
        a.pending.callback(None)
        b.pending.errback(ValueError("no"))
        stopped = self.ordered.stopService()
        self.assertNotIn("cancel stop a", self.events)
        self.assertNoResult(stopped)
        a.pending.callback(None)
        self.successResultOf(stopped)
        self.failureResultOf(started, ValueError)

    def test_nested(self) -> None:
        inner = service.OrderedService(self.clock)
        outer = service.OrderedService(self.clock)
        outer.add(inner)
        first, second = self.parts(inner, "a", "b")
        self.parts(outer, "c", slow=False)
        done = outer.startService()
        first.pending.callback(None)
        second.pending.callback(None)
        self.successResultOf(done)
        self.assertEqual(self.events[-2:], ["started b", "start c"])


class StoppableReactor(MemoryReactorClock):
    """:ivar stops: number of requests to stop."""

    def __init__(self) -> None:
        super().__init__()
        self.stops = 0

    def stop(self) -> None:
        self.stops += 1

    def callFromThread(self, call: Callable[[], None]) -> None:
        self.callLater(0, call)

    def begin(self) -> None:
        for function, args, keywords in self.whenRunningHooks:
            function(*args, **keywords)


class ProgramTests(Base):
    def setUp(self) -> None:
        super().setUp()
        self.reactor = StoppableReactor()
        self.exits = 0
        self.patch(service, "_fail_at_exit", self.exit_failed)
        self.spared: list[str] = []
        # Not the real collector, which tests need.
        self.patch(GcPolicy, "start", lambda _: self.spared.append("collector"))
        self.handlers: dict[int, Any] = {}
        self.patch(signal, "signal", self.handlers.__setitem__)

    def exit_failed(self) -> None:
        self.exits += 1

    def program(self, pipe: int | None = None) -> service.Program:
        options = service.ServiceOptions()
        options.parent = Options()
        if pipe is not None:
            options.parent["statusPipe"] = pipe
        return service.Program(self.reactor, options)

    def pipe(self) -> tuple[int, int]:
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        return reader, writer

    def failing(self, error: Exception, pipe: int | None = None) -> service.Program:
        program = self.program(pipe)
        (part,) = self.parts(program, "a")
        self.patch(part, "startService", lambda: fail(error))
        self.successResultOf(program.startService())
        self.reactor.begin()
        return program

    def test_sigterm_stops_it(self) -> None:
        """By our own handler: with the reactor's, ``twistd`` would end by the signal."""
        program = self.program()
        self.successResultOf(program.startService())
        self.reactor.begin()
        self.handlers[signal.SIGTERM](signal.SIGTERM, None)
        self.reactor.advance(0)
        self.assertEqual(self.reactor.stops, 1)

    def test_starts(self) -> None:
        program = self.program()
        self.parts(program, "a", slow=False)
        self.successResultOf(program.startService())
        self.reactor.begin()
        self.assertEqual((self.reactor.stops, self.exits), (0, 0))
        self.assertEqual(self.spared, ["collector"])

    def test_our_error_is_one_line(self) -> None:
        self.failing(XiaozhiError("x", "port 1 is in use"))
        self.assertEqual(self.lines(LogLevel.critical), ["cannot start: port 1 is in use"])
        self.assertEqual([e for e in self.logged if "log_failure" in e], [])
        self.assertEqual((self.reactor.stops, self.exits), (1, 1))
        self.assertEqual(self.spared, [])

    def test_other_errors_have_their_traceback(self) -> None:
        self.failing(ValueError("odd"))
        self.assertEqual(self.lines(LogLevel.critical), ["cannot start: ValueError: odd"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual((self.reactor.stops, self.exits), (1, 1))

    def test_stop_while_starting_is_no_failure(self) -> None:
        program = self.program()
        self.parts(program, "a")
        started = program.startService()
        self.successResultOf(program.stopService())
        self.successResultOf(started)
        self.assertEqual((self.reactor.stops, self.exits), (0, 0))
        self.assertEqual(self.lines(LogLevel.critical), [])

    def test_waiting_command_is_notified_when_everything_runs(self) -> None:
        reader, writer = self.pipe()
        program = self.program(writer)
        (part,) = self.parts(program, "a")
        started = program.startService()
        os.set_blocking(reader, False)
        with self.assertRaises(BlockingIOError):
            os.read(reader, 100)
        part.pending.callback(None)
        self.successResultOf(started)
        self.assertEqual(os.read(reader, 100), b"0")
        self.assertEqual(os.read(reader, 100), b"")

    def test_waiting_command_is_notified_of_failure(self) -> None:
        reader, writer = self.pipe()
        self.failing(XiaozhiError("x", "é" * 200), writer)
        told = os.read(reader, 200)
        self.assertEqual((told[:6], len(told)), (b"1 \\xe9", 100))

    def test_waiting_command_ended(self) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        self.failing(XiaozhiError("x", "y"), writer)

    def test_exit_hook_is_registered_once(self) -> None:
        registered: list[object] = []
        self.patch(service, "_exit_failed", False)
        self.patch(atexit, "register", registered.append)
        _real_fail_at_exit()
        _real_fail_at_exit()
        self.assertEqual(registered, [service._exit_with_failure])


class OptionsTests(unittest.SynchronousTestCase):
    def test_options(self) -> None:
        options = service.ServiceOptions()
        options.parseOptions(["--config", "f.yaml", "--set", "a=1", "--set", "b.c=[2]"])
        self.assertEqual((options.path, options.overrides), ("f.yaml", ["a=1", "b.c=[2]"]))

    def test_no_config(self) -> None:
        options = service.ServiceOptions()
        options.parseOptions([])
        self.assertRaises(ConfigError, lambda: options.path)

    def test_pid_and_log_files_of_their_own(self) -> None:
        for given, expected in (
            ([], ("xiaozhi-im.pid", "xiaozhi-im.log")),
            (["-n"], ("xiaozhi-im.pid", None)),
            (["--pidfile=", "--logfile=im.log"], ("", "im.log")),
        ):
            outer = ServerOptions()
            outer.parseOptions([*given, "xiaozhi-im", "--config", "etc/im.yaml"])
            pidfile = os.path.basename(outer["pidfile"])
            self.assertEqual((pidfile, outer["logfile"]), expected)

    def test_unknown_option(self) -> None:
        self.assertRaises(UsageError, service.ServiceOptions().parseOptions, ["--cofnig", "x"])

    def test_one_line_errors(self) -> None:
        with self.assertRaises(SystemExit) as caught, service.one_line_errors("xiaozhi-im"):
            raise ConfigError("etc/im.yaml: x: unknown key")
        self.assertEqual(caught.exception.code, "xiaozhi-im: etc/im.yaml: x: unknown key")

    def test_other_errors_pass(self) -> None:
        with self.assertRaises(ValueError), service.one_line_errors("xiaozhi-im"):
            raise ValueError


class StateDirectoryTests(unittest.SynchronousTestCase):
    def test_made_private(self) -> None:
        path = service.state_directory(os.path.join(self.mktemp(), "deep"))
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o700)
        self.assertEqual(service.state_directory(path), path)

    def test_file_in_the_way(self) -> None:
        path = self.mktemp()
        with open(path, "w"):
            pass
        error = self.assertRaises(ConfigError, service.state_directory, path)
        self.assertEqual(
            error.message,
            f"state_dir: cannot make {path}: File exists;"
            " set state_dir to a directory this user may write to",
        )

    def test_unwritable(self) -> None:
        self.patch(os, "access", lambda path, mode: False)
        error = self.assertRaises(ConfigError, service.state_directory, self.mktemp(), "s.dir")
        self.assertIn("is not writable; change its owner or set s.dir", error.message)


class ListenTests(unittest.SynchronousTestCase):
    def told(self, number: int, host: str = "0.0.0.0") -> str:
        reactor = MemoryReactorClock()

        def refuse(port: int, factory: Factory, backlog: int, interface: str) -> None:
            raise CannotListenError(interface, port, OSError(number, os.strerror(number)))

        self.patch(reactor, "listenTCP", refuse)
        failure = self.failureResultOf(listen(reactor, host, 8000, Factory()), XiaozhiError)
        message: str = failure.value.message
        return message

    def test_in_use(self) -> None:
        self.assertEqual(
            self.told(errno.EADDRINUSE),
            "port 8000 on 0.0.0.0 is in use; stop what listens there or set listen.port",
        )

    def test_rights(self) -> None:
        self.assertEqual(
            self.told(errno.EACCES, ""),
            "port 8000 on any address needs more rights; set listen.port to 1024 or above",
        )

    def test_not_ours(self) -> None:
        self.assertEqual(
            self.told(errno.EADDRNOTAVAIL, "192.0.2.1"),
            "cannot listen on port 8000 on 192.0.2.1: Cannot assign requested address; "
            "set listen.host to an address of this machine",
        )

    def test_listener(self) -> None:
        reactor = MemoryReactorClock()
        listener = Listener(reactor, ("127.0.0.1", 8000), Factory())
        self.successResultOf(listener.startService())
        self.assertIsNotNone(listener.port)
        port, _, backlog, _ = reactor.tcpServers[0]
        self.assertEqual((port, backlog), (8000, 1024))
        self.successResultOf(listener.stopService())
        self.assertIsNone(listener.port)

    def test_listener_that_never_listened(self) -> None:
        self.successResultOf(Listener(MemoryReactorClock(), ("", 1), Factory()).stopService())

    def test_among_others(self) -> None:
        reactor, port = MemoryReactorClock(), free_port()
        kept = []

        def adopt(number: int, family: int, factory: Factory) -> object:
            self.assertFalse(os.get_blocking(number))
            kept.append(socket.fromfd(number, family, socket.SOCK_STREAM))
            self.addCleanup(kept[-1].close)
            return object()

        self.patch(reactor, "adoptStreamPort", adopt)
        for _ in range(2):
            self.successResultOf(listen(reactor, "127.0.0.1", port, Factory(), reuse_port=True))
        self.assertEqual([each.getsockname()[1] for each in kept], [port, port])

    def test_among_others_that_do_not_share(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as selfish:
            port = selfish.getsockname()[1]
            listening = listen(MemoryReactorClock(), "127.0.0.1", port, Factory(), reuse_port=True)
            failure = self.failureResultOf(listening, XiaozhiError)
        self.assertEqual(
            failure.value.message,
            f"port {port} on 127.0.0.1 is in use; stop what listens there or set listen.port",
        )

    def test_a_free_port_is_given_once(self) -> None:
        ports = {free_port() for _ in range(20)}
        self.assertEqual(len(ports), 20)
        # Below the range that Linux uses for outgoing connections.
        self.assertLess(max(ports), 32_768)
