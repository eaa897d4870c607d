"""The wait for the server's hello."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from xiaozhi.device.errors import DeviceError


class Greeting:
    """One hello that was sent and is to be answered.

    :param seconds: how long to wait.
    :param late: called when they are over, before :attr:`done` fails.
    :ivar done: fires with the answer, or fails with :class:`DeviceError`.
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
        self._timer.cancel()
        self.done.callback(None)

    def failed(self, error: DeviceError) -> None:
        self._timer.cancel()
        self.done.errback(error)
