"""Timeout of the server's hello."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from xiaozhi.device.errors import DeviceError


class PendingHello:
    """A hello that the server has not answered yet.

    :param seconds: the timeout.
    :param late: called at the timeout, before :attr:`done` fails.
    :ivar done: fires when the hello is answered; fails with :class:`DeviceError`.
    """

    def __init__(self, clock: IReactorTime, seconds: float, late: Callable[[], None]) -> None:
        self._seconds = seconds
        self._late = late
        self._timer = clock.callLater(seconds, self._over)
        self.done: Deferred[None] = Deferred()

    def _over(self) -> None:
        self._late()
        self.done.errback(DeviceError("no_hello", f"no hello within {self._seconds:g} s"))

    def answered(self) -> None:
        """Cancel the timeout and fire :attr:`done`."""
        self._timer.cancel()
        self.done.callback(None)

    def failed(self, error: DeviceError) -> None:
        """Cancel the timeout and fail :attr:`done`."""
        self._timer.cancel()
        self.done.errback(error)
