"""Building blocks of both services: start in order, stop in reverse, fail clearly."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from twisted.application.service import IService, MultiService, Service
from twisted.internet.defer import Deferred, TimeoutError, maybeDeferred
from twisted.internet.error import ReactorNotRunning
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized
from twisted.python.failure import Failure
from twisted.python.usage import Options

from xiaozhi.base.errors import ConfigError, XiaozhiError
from xiaozhi.runtime.console import argument
from xiaozhi.runtime.gcpolicy import GcPolicy

T = TypeVar("T")


class OrderedService(MultiService):
    """A service whose children start one after the other and stop in reverse.

    The result of a child's ``startService`` or ``stopService`` is awaited before the next
    one. If a start fails, is cancelled or takes too long, the started children are stopped
    and the failure is passed on; the failed child cleans up after itself.

    :param clock: for the limits.
    :param start_limit: seconds that each child may take to start.
    :param stop_limit: seconds that each child may take to stop; then it is abandoned, with
        an error in the log.
    """

    _log = Logger()

    def __init__(self, clock: Any, *, start_limit: float = 60.0, stop_limit: float = 30.0) -> None:
        super().__init__()
        self._clock = clock
        self._limits = (start_limit, stop_limit)
        self._own_limits: dict[IService, tuple[float, float]] = {}
        self._started: list[IService] = []
        self._starting: Deferred[None] | None = None
        self._undoing = False
        self._stopping: Deferred[None] | None = None

    def add(
        self,
        child: IService,
        *,
        start_limit: float | None = None,
        stop_limit: float | None = None,
    ) -> None:
        """Append a child, before the start.

        :param start_limit: its own limit, in seconds; likewise ``stop_limit``.
        """
        start, stop = self._limits
        self._own_limits[child] = (
            start if start_limit is None else start_limit,
            stop if stop_limit is None else stop_limit,
        )
        child.setServiceParent(self)

    def startService(self) -> Deferred[None]:
        """:return: fires when every child has started; fails with the first failure."""
        Service.startService(self)
        self._stopping, self._undoing = None, False
        done: Deferred[None] = Deferred(lambda _: starting.cancel())
        starting = self._starting = Deferred.fromCoroutine(self._start_children())
        starting.addBoth(self._start_ended)
        starting.chainDeferred(done)
        return done

    def _start_ended(self, result: T) -> T:
        self._starting = None
        return result

    async def _start_children(self) -> None:
        try:
            for child in list(self):
                await self._limited(child, child.startService, "start")
                self._started.append(child)
        except Exception:
            Service.stopService(self)
            self._undoing = True
            await self._stop_children()
            raise

    def stopService(self) -> Deferred[None]:
        """:return: fires when every child has stopped; never fails. Idempotent."""
        Service.stopService(self)
        if self._stopping is None:
            self._stopping = Deferred.fromCoroutine(self._stop())
        done: Deferred[None] = Deferred()
        self._stopping.addCallback(lambda _: done.callback(None))
        return done

    async def _stop(self) -> None:
        starting = self._starting
        if starting is not None:
            over: Deferred[None] = Deferred()

            def ended(result: object) -> object:
                over.callback(None)
                return result

            starting.addBoth(ended)
            if not self._undoing:
                starting.cancel()
            await over
        await self._stop_children()

    async def _stop_children(self) -> None:
        while self._started:
            child = self._started.pop()
            try:
                await self._limited(child, child.stopService, "stop")
            except Exception as error:
                self._report(f"{_name(child)} did not stop cleanly", error)

    async def _limited(self, child: IService, act: Callable[[], Any], verb: str) -> None:
        limit = self._own_limits.get(child, self._limits)[verb == "stop"]
        waiting = maybeDeferred(act)
        waiting.addTimeout(limit, self._clock)
        try:
            await waiting
        except TimeoutError:
            raise XiaozhiError(
                f"{verb}_timeout", f"{_name(child)} did not {verb} within {limit:g} s"
            ) from None

    def _report(self, what: str, error: BaseException) -> None:
        if isinstance(error, XiaozhiError):
            self._log.error("{what}: {problem}", what=what, problem=error.message)
        else:
            self._log.failure("{what}", Failure(error), what=what)


def _name(child: IService) -> str:
    return child.name or type(child).__name__


class Program(OrderedService):
    """The outermost service of a process.

    If its start fails, one critical line gives the reason, the reactor stops and the
    process exits with status 1. Under a daemonising ``twistd`` the command
    returns only when the start is over, with its status and message. SIGTERM stops
    it; the exit status is 0 then.

    :param options: as ``twistd`` parsed them; in a test ``None``.
    :param log: writes the log, in place of ``twistd``'s own way.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        options: Options | None = None,
        *,
        log: ILogObserver | None = None,
        start_limit: float = 60.0,
        stop_limit: float = 30.0,
    ) -> None:
        super().__init__(reactor, start_limit=start_limit, stop_limit=stop_limit)
        self._reactor = reactor
        self._options = options
        self._observer = log
        self._collector = GcPolicy(reactor)
        self._stop_asked = False

    def setServiceParent(self, parent: Any) -> None:
        """See ``IService``. ``twistd`` looks for a log observer at the application."""
        if self._observer is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._observer)
        super().setServiceParent(parent)

    def startService(self) -> Deferred[None]:
        """:return: fires when the start has succeeded or failed; never fails."""
        command = _WaitingCommand.of(self._options)
        if self._options is not None:
            self._reactor.callWhenRunning(self._take_sigterm)
        problem = super().startService().addCallbacks(self._running, self._failed)
        return problem.addCallback(command.tell)

    def stopService(self) -> Deferred[None]:
        self._stop_asked = True
        self._collector.stop()
        return super().stopService()

    def _take_sigterm(self) -> None:
        # The reactor's own handler makes ``twistd`` end by the signal, as if killed. A
        # requested stop is not a failure.
        signal.signal(signal.SIGTERM, lambda *_: self._reactor.callFromThread(self._stop_reactor))

    def _running(self, _: None) -> str:
        if self._options is not None:
            self._collector.start()
        self._log.info("running")
        return ""

    def _failed(self, failure: Failure) -> str:
        if self._stop_asked:
            return "stopped while starting"
        error = failure.value
        if isinstance(error, XiaozhiError):
            problem = error.message
            self._log.critical("cannot start: {problem}", problem=problem)
        else:
            problem = f"{type(error).__name__}: {error}"
            self._log.failure("cannot start: {problem}", failure, problem=problem)
        _fail_at_exit()
        self._reactor.callWhenRunning(self._stop_reactor)
        return problem

    def _stop_reactor(self) -> None:
        try:
            self._reactor.stop()
        except ReactorNotRunning:
            self._log.debug("stopped already")


class _WaitingCommand:
    """The ``twistd`` command that waits for its daemon to start.

    ``twistd`` itself reports success as soon as ``startService`` returns; taking over its
    status pipe lets the command wait for the real end of the start.
    """

    def __init__(self, pipe: int | None) -> None:
        self._pipe = pipe

    @classmethod
    def of(cls, options: Options | None) -> _WaitingCommand:
        outer: Any = getattr(options, "parent", None)
        pipe = outer.get("statusPipe") if isinstance(outer, dict) else None
        if pipe is not None:
            outer["statusPipe"] = None
        return cls(pipe)

    def tell(self, problem: str) -> None:
        """:param problem: empty: success."""
        if self._pipe is None:
            return
        # The command reads 100 bytes and shows what follows the "1 ".
        text = f"1 {problem}" if problem else "0"
        try:
            os.write(self._pipe, text.encode("ascii", "backslashreplace")[:100])
            os.close(self._pipe)
        except OSError:
            pass  # the command was killed
        self._pipe = None


_exit_failed = False


def _fail_at_exit() -> None:
    """Make this process exit with status 1 although ``twistd`` ends normally.

    ``twistd`` offers no way to do so and removes its pid file after the reactor stopped, so
    the status is set when the interpreter exits.
    """
    global _exit_failed
    if not _exit_failed:
        _exit_failed = True
        atexit.register(_exit_with_failure)


def _exit_with_failure() -> None:
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # closed, or nobody reads it
            stream.flush()
    os._exit(1)


# --- for the taps ---------------------------------------------------------------------


class ServiceOptions(Options):
    """Options of both ``twistd`` commands: ``--config FILE`` and ``--set KEY=VALUE``.

    :ivar overrides: the arguments of ``--set``, in order.
    """

    optParameters: ClassVar = [["config", "c", None, "The YAML configuration file (required)."]]

    def __init__(self) -> None:
        super().__init__()
        self.overrides: list[str] = []

    def opt_set(self, assignment: str) -> None:
        """Set one key of the configuration, whatever the file says:
        KEY=VALUE, e.g. listen.port=8001; may be given many times."""
        self.overrides.append(argument(assignment))

    def postOptions(self) -> None:
        """Give each command its own default pid and log file, so that both can start in one
        directory.
        """
        parent: Any = self.parent
        if parent is None:
            return
        if parent["pidfile"] == "twistd.pid":
            parent["pidfile"] = f"{parent.subCommand}.pid"
        if parent["logfile"] is None and not parent["nodaemon"]:
            parent["logfile"] = f"{parent.subCommand}.log"

    @property
    def path(self) -> str:
        """Return the path of the configuration file.

        :raises ConfigError: not given.
        """
        path = self["config"]
        if path is None:
            raise ConfigError("no configuration: give --config FILE")
        return str(path)


@contextmanager
def one_line_errors(command: str) -> Iterator[None]:
    """Wrap the body of a ``makeService``: an invalid configuration ends the process with
    status 1 and one line on standard error.

    ``usage.UsageError`` would work only while options are parsed, and prints the whole help
    text.
    """
    try:
        yield
    except XiaozhiError as error:
        raise SystemExit(f"{command}: {error.message}") from None


def state_directory(path: str | os.PathLike[str], key: str = "state_dir") -> Path:
    """Make a directory for state, accessible by its owner only, if it is missing.

    :param key: its configuration key, for the error.
    :raises ConfigError: it cannot be made or written to.
    """
    directory = Path(path)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{key}: cannot make {directory}: {error.strerror};"
            f" set {key} to a directory this user may write to"
        ) from None
    if not os.access(directory, os.W_OK | os.X_OK):
        raise ConfigError(f"{key}: {directory} is not writable; change its owner or set {key}")
    return directory
