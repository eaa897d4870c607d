"""One request to a child process and its answer."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from xiaozhi.base.errors import ProviderError
from xiaozhi.providers.kit.process.worker_child import DATA, DONE, END, OPEN, pack

#: Bytes of one request's unread replies; more fails the request.
MAX_WAITING_REPLY = 16 << 20


class RequestOwner(Protocol):
    """The owner of the child process."""

    reactor: Any

    def write(self, frame: bytes) -> None:
        """Send a frame to the child, if there is one."""

    def forget(self, request: WorkRequest, *, tell: bool) -> None:
        """Remove a request that has ended here; ``tell``: send the child a cancellation."""

    def hung(self, request: WorkRequest) -> None:
        """Process a timeout of a request."""


class WorkRequest:
    """One request to a child. Made by ``Worker.request``.

    Read the answer either with :meth:`result` or with :meth:`pieces`. With ``on_piece``, pieces are
    passed to it as they arrive.
    """

    def __init__(
        self,
        worker: RequestOwner,
        request_id: int,
        payload: bytes,
        timeout: float,
        on_piece: Callable[[bytes], None] | None = None,
    ) -> None:
        self.request_id = request_id
        self._worker = worker
        self._timeout = timeout
        self._on_piece = on_piece
        self._frames: list[bytes] | None = [pack(request_id, OPEN, payload)]
        self._pieces: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._outcome: bytes | Failure | None = None
        self._waiter: Deferred[None] | None = None
        self._timer: Any = None
        self.ended = False

    @property
    def finished(self) -> bool:
        """Whether the outcome is known."""
        return self._outcome is not None

    def send(self, data: bytes) -> None:
        """Send more of the request. Does nothing after its end or failure."""
        if not self.ended:
            self._write(pack(self.request_id, DATA, data))

    def end(self) -> None:
        """Complete the request and start its timeout, which restarts with each piece."""
        if self.ended:
            return
        self._write(pack(self.request_id, END))
        self.ended = True
        if not self.finished:
            self._timer = self._worker.reactor.callLater(self._timeout, self._timed_out)

    def cancel(self) -> None:
        """Cancel the request; reading its answer raises ``CancelledError``. Idempotent."""
        if self.finished:
            return
        self._worker.forget(self, tell=True)
        self._settle(Failure(CancelledError()))

    def result(self) -> Deferred[bytes]:
        """Return the final frame of the answer. Cancelling the Deferred is :meth:`cancel`.

        :raises ProviderError: through the Deferred.
        """

        async def final_frame() -> bytes:
            while self._outcome is None:
                await self._wait()
            if isinstance(self._outcome, Failure):
                self._outcome.raiseException()
            assert isinstance(self._outcome, bytes)
            return self._outcome

        return Deferred.fromCoroutine(final_frame())

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Yield the answer as it arrives. Closing the generator cancels the request.

        :raises ProviderError: while iterating.
        """
        try:
            while True:
                while self._pieces:
                    piece = self._pieces.popleft()
                    self._waiting_bytes -= len(piece)
                    yield piece
                if isinstance(self._outcome, Failure):
                    self._outcome.raiseException()
                if self._outcome is not None:
                    return
                await self._wait()
        finally:
            self.cancel()

    # --- for the worker

    def take_frames(self) -> list[bytes]:
        """Return the frames written before the child was ready; later ones are sent at once."""
        frames, self._frames = self._frames or [], None
        return frames

    def received(self, kind: int, payload: bytes) -> None:
        """Process a frame of the child."""
        if self.finished:
            return
        if self._timer is not None and self._timer.active():
            self._timer.reset(self._timeout)
        if kind == DATA and self._on_piece is not None:
            self._on_piece(payload)
            return
        if kind == DATA:
            self._pieces.append(payload)
            self._waiting_bytes += len(payload)
            if self._waiting_bytes > MAX_WAITING_REPLY:
                self._worker.forget(self, tell=True)
                self.fail(ProviderError("too_long", "the answer is too long", retryable=False))
            else:
                self._wake()
            return
        self._worker.forget(self, tell=False)
        if kind == DONE:
            self._settle(payload)
        else:
            self.fail(_error_from(payload))

    def fail(self, error: ProviderError) -> None:
        """End the request with an error, unless it has ended."""
        if not self.finished:
            self._settle(Failure(error))

    def _settle(self, outcome: bytes | Failure) -> None:
        self._outcome = outcome
        self._frames = None if self._frames is None else []
        self.ended = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._wake()

    def _write(self, frame: bytes) -> None:
        if self.finished:
            return
        if self._frames is not None:
            self._frames.append(frame)
        else:
            self._worker.write(frame)

    def _timed_out(self) -> None:
        self._worker.hung(self)
        self.fail(ProviderError("timeout", f"no answer within {self._timeout:g} s", retryable=True))

    def _wait(self) -> Deferred[None]:
        self._waiter = Deferred(lambda _: self.cancel())
        return self._waiter

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.called:
            waiter.callback(None)


def _error_from(payload: bytes) -> ProviderError:
    body = json.loads(payload)
    return ProviderError(body["code"], body["message"], retryable=body["retryable"])
