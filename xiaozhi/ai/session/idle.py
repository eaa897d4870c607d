"""Idle time: how long a device listens while nobody speaks."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from xiaozhi.agents.settings import IdleSettings


class Idle:
    """Limits how long a device listens while nobody speaks.

    It does not apply while the device does not listen: the edge closes idle connections.

    :param quiet: called once nobody has spoken for ``idle.no_speech`` seconds.
    """

    def __init__(
        self, device_id: str, settings: IdleSettings, clock: IReactorTime, quiet: Callable[[], None]
    ) -> None:
        self.adopt(device_id, settings)
        self._clock = clock
        self._quiet = quiet
        self._due: IDelayedCall | None = None

    def adopt(self, device_id: str, settings: IdleSettings) -> None:
        """Switch to other settings when the idle time starts next."""
        self._seconds = 0.0 if device_id in settings.keep else settings.no_speech

    def listening(self) -> None:
        """Start or restart the idle time."""
        if self._due is not None and self._due.active():
            self._due.reset(self._seconds)
        elif self._seconds:
            self._due = self._clock.callLater(self._seconds, self._quiet)

    def busy(self) -> None:
        """Stop the idle time: somebody speaks, or the device does not listen."""
        due, self._due = self._due, None
        if due is not None and due.active():
            due.cancel()
