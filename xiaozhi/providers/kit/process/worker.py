"""A child process behind Deferreds, for libraries that crash, block or are GPL."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from xiaozhi.base.errors import ProviderError
from xiaozhi.providers.kit.process.environment import child_environment
from xiaozhi.providers.kit.process.request import WorkRequest
from xiaozhi.providers.kit.process.worker_child import CANCEL, DATA, DONE, ERROR, FrameReader, pack

__all__ = ["WorkRequest", "Worker", "WorkerOptions"]

#: Seconds that a closed child may take to exit before it is killed.
_GRACE = 2.0


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """Limits of a worker; times in seconds.

    :ivar concurrency: requests that the child processes at a time.
    :ivar waiting: further requests that may wait; more fail with ``busy``.
    :ivar timeout: the longest silence of the child after a complete request.
    :ivar backoff: first and longest delay before a crashing child is restarted.
    :ivar idle: seconds without a request after which the child is unloaded; 0: never.
    :ivar variables: names of environment variables for the child besides those of
        :mod:`xiaozhi.providers.kit.process.environment`.
    """

    concurrency: int = 1
    waiting: int = 64
    timeout: float = 30.0
    backoff: tuple[float, float] = (0.5, 30.0)
    idle: float = 0.0
    variables: Sequence[str] = ()


_DEFAULTS = WorkerOptions()


class Worker:
    """Runs ``python -m module`` when first needed, and again after it died or was unloaded.

    If the child dies, its running requests fail (``crashed``, retryable) and the next request
    starts another one: at once after the first crash, later after a growing delay, until a request
    succeeds. A child that does not answer in time, even to a cancellation, is killed unless it has
    answered other requests meanwhile.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        module: str,
        arguments: Sequence[str] = (),
        options: WorkerOptions = _DEFAULTS,
    ) -> None:
        """:param reactor: clock and processes."""
        self.reactor = reactor
        self._module = module
        self._arguments = tuple(arguments)
        self._environment = child_environment(options.variables)
        self._options = options
        self._running: dict[int, WorkRequest] = {}
        self._waiting: deque[WorkRequest] = deque()
        # Cancelled requests that the child has not confirmed, with their deadlines. Bound: each
        # ends by its time limit or with the child.
        self._owed: dict[int, Any] = {}
        self._child: _Child | None = None
        # When the child last sent a frame.
        self._sign = 0.0
        self._crashes = 0
        self._retry: Any = None
        self._last_id = 0
        self._closed = False
        self._gone: Deferred[None] | None = None
        self._killer: Any = None
        # Unloaded children that have not exited, with the timers that kill them. Bound: one for
        # each start.
        self._leaving: dict[_Child, Any] = {}
        self._unloading: Any = None

    def prepare(self) -> None:
        """Start the child now rather than at the first request."""
        if self._child is None and self._retry is None and not self._closed:
            self._start()
            self._rest()

    def request(
        self,
        payload: bytes,
        *,
        timeout: float | None = None,
        on_piece: Callable[[bytes], None] | None = None,
    ) -> WorkRequest:
        """Begin a request. Never raises: an error is raised when the answer is read.

        :param on_piece: receives each piece of the answer before the final frame.
        """
        self._last_id = self._last_id % 0xFFFFFFFF + 1
        request = WorkRequest(
            self, self._last_id, payload, timeout or self._options.timeout, on_piece
        )
        self._stay()
        if self._closed:
            request.fail(ProviderError("closed", "the provider was closed", retryable=False))
        elif len(self._waiting) >= self._options.waiting:
            request.fail(ProviderError("busy", f"{self._module} is busy", retryable=True))
        else:
            self._waiting.append(request)
            self._advance()
        return request

    def close(self) -> Deferred[None]:
        """Fail running requests and end the child; fires when it has exited."""
        self._closed = True
        if self._retry is not None and self._retry.active():
            self._retry.cancel()
        self._fail_all(ProviderError("closed", "the provider was closed", retryable=False))
        self._forgive_all()
        self._stay()
        if self._child is None and not self._leaving:
            return succeed(None)
        if self._gone is None:
            self._gone = Deferred()
            if self._child is not None:
                self._child.end_input()
                self._killer = self.reactor.callLater(_GRACE, self._child.kill)
        waiter: Deferred[None] = Deferred()
        self._gone.chainDeferred(waiter)
        return waiter

    @property
    def pid(self) -> int | None:
        """The child's process id, while there is a child."""
        return self._child.pid if self._child is not None else None

    @property
    def load(self) -> int:
        """Number of running and waiting requests."""
        return len(self._running) + len(self._waiting)

    # --- for requests and the child

    def write(self, frame: bytes) -> None:
        if self._child is not None:
            self._child.write(frame)

    def forget(self, request: WorkRequest, *, tell: bool) -> None:
        """Remove a request that has ended here; ``tell``: send the child a cancellation."""
        if self._running.pop(request.request_id, None) is not None:
            if tell:
                self.write(pack(request.request_id, CANCEL))
                # Cancellations must not keep a hanging child alive.
                self._owe(request.request_id)
            else:
                self._crashes = 0
        elif request in self._waiting:
            self._waiting.remove(request)
        self._advance()

    def hung(self, request: WorkRequest) -> None:
        """Process a timeout of a request. Kill the child if it had the request and has answered no
        other either; a child that did is only overloaded.
        """
        if request.request_id in self._running and self._hangs:
            del self._running[request.request_id]
            self._kill_hung()
        else:
            self.forget(request, tell=True)

    def received(self, request_id: int, kind: int, payload: bytes) -> None:
        self._sign = self.reactor.seconds()
        if kind != DATA:
            self._forgive(self._owed.pop(request_id, None))
        request = self._running.get(request_id)
        if request is not None and kind in (DATA, DONE, ERROR):
            request.received(kind, payload)

    def ended(self, child: _Child, reason: str) -> None:
        """Process the end of a child."""
        if child in self._leaving:
            self._forgive(self._leaving.pop(child))
            self._check_gone()
            return
        if child is not self._child:
            return
        self._child = None
        self._forgive_all()
        if self._killer is not None and self._killer.active():
            self._killer.cancel()
        if self._closed:
            self._check_gone()
            return
        self._crashes += 1
        self._log.warn(
            "{module} ended with {running} running requests: {reason}",
            module=self._module,
            running=len(self._running),
            reason=reason,
        )
        running = list(self._running.values())
        self._running.clear()
        if self._crashes > 1:
            first, longest = self._options.backoff
            delay = min(longest, first * 2.0 ** min(self._crashes - 2, 30))
            self._retry = self.reactor.callLater(delay, self._advance)
        for request in running:
            request.fail(
                ProviderError("crashed", f"{self._module} ended: {reason}", retryable=True)
            )
        self._advance()

    def _check_gone(self) -> None:
        none_left = self._child is None and not self._leaving
        if none_left and self._gone is not None and not self._gone.called:
            self._gone.callback(None)

    def _stay(self) -> None:
        """Do not unload the child for now."""
        unloading, self._unloading = self._unloading, None
        self._forgive(unloading)

    def _rest(self) -> None:
        """Unload the child after a while, unless there is work."""
        at_work = self._running or self._waiting or self._child is None or self._closed
        if self._options.idle and not at_work and self._unloading is None:
            self._unloading = self.reactor.callLater(self._options.idle, self._unload)

    def _unload(self) -> None:
        self._unloading = None
        child, self._child = self._child, None
        if child is not None:
            self._forgive_all()
            self._leaving[child] = self.reactor.callLater(_GRACE, child.kill)
            child.end_input()

    def _advance(self) -> None:
        """Give waiting requests to the child, up to its concurrency."""
        if self._closed or not self._waiting:
            self._rest()
            return
        if self._child is None:
            if self._retry is not None and self._retry.active():
                return
            self._start()
        while self._waiting and len(self._running) < self._options.concurrency:
            request = self._waiting.popleft()
            self._running[request.request_id] = request
            for frame in request.take_frames():
                self.write(frame)

    def _start(self) -> None:
        self._sign = self.reactor.seconds()
        self._child = _Child(self, self._module)
        command = [sys.executable, "-m", self._module, *self._arguments]
        try:
            self.reactor.spawnProcess(self._child, sys.executable, command, self._environment)
        except OSError as error:
            self._child = None
            self._log.error("{module} cannot start: {error}", module=self._module, error=error)
            self._fail_all(ProviderError("crashed", f"{self._module} cannot start", retryable=True))

    @property
    def _hangs(self) -> bool:
        return bool(self.reactor.seconds() - self._sign >= self._options.timeout)

    def _owe(self, request_id: int) -> None:
        self._owed[request_id] = self.reactor.callLater(
            self._options.timeout, self._overdue, request_id
        )

    def _overdue(self, request_id: int) -> None:
        if self._hangs:
            self._kill_hung()
        else:
            self._owe(request_id)

    def _kill_hung(self) -> None:
        if self._child is not None:
            self._log.warn("{module} does not answer: killed", module=self._module)
            self._child.kill()

    def _forgive_all(self) -> None:
        """Drop the deadlines of all unconfirmed cancellations."""
        owed, self._owed = self._owed, {}
        for due in owed.values():
            self._forgive(due)

    def _forgive(self, due: Any) -> None:
        if due is not None and due.active():
            due.cancel()

    def _fail_all(self, error: ProviderError) -> None:
        requests = [*self._running.values(), *self._waiting]
        self._running.clear()
        self._waiting.clear()
        for request in requests:
            request.fail(error)


class _Child(ProcessProtocol):
    """The process itself: bytes to frames, stderr to the log."""

    _log = Logger()
    transport: Any

    def __init__(self, worker: Worker, name: str) -> None:
        self._worker = worker
        self._name = name
        self._reader = FrameReader()
        self._stderr = b""
        self.pid: int | None = None

    def connectionMade(self) -> None:
        self.pid = self.transport.pid

    def write(self, frame: bytes) -> None:
        self.transport.write(frame)

    def end_input(self) -> None:
        self.transport.closeStdin()

    def kill(self) -> None:
        try:
            self.transport.signalProcess("KILL")
        except ProcessExitedAlready:
            return

    def outReceived(self, data: bytes) -> None:
        try:
            frames = self._reader.feed(data)
        except ValueError as error:
            self._log.error(
                "{name} sent an invalid frame: {error}", name=self._name, error=str(error)
            )
            self.kill()
            return
        for request_id, kind, payload in frames:
            self._worker.received(request_id, kind, payload)

    def errReceived(self, data: bytes) -> None:
        *lines, rest = (self._stderr + data).split(b"\n")
        # A line may have 4 KiB; the rest of a longer one becomes further lines.
        self._stderr = rest if len(rest) <= 4096 else b""
        if not self._stderr and rest:
            lines.append(rest)
        for line in lines:
            self._log.warn("{name}: {line}", name=self._name, line=line.decode("utf-8", "replace"))

    def processEnded(self, reason: Failure) -> None:
        if self._stderr:
            self.errReceived(b"\n")
        self._worker.ended(self, reason.getErrorMessage())
