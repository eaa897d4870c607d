"""The AI service is away, as one device is to know it."""

from __future__ import annotations

from xiaozhi.im.delivery import Delivery
from xiaozhi.im.settings import LinkSettings
from xiaozhi.wire.messages import Alert


class Outage:
    """One absence. The device is told at most once.

    :ivar since: seconds on the clock.
    :ivar told: the device knows.
    """

    __slots__ = ("_down", "_settings", "since", "told")

    def __init__(self, down: Delivery, settings: LinkSettings, now: float) -> None:
        self._down = down
        self._settings = settings
        self.told = False
        self.since = now

    def tells(self, now: float) -> bool:
        """Whether a device that speaks now is to be told; short absences pass unnoticed."""
        return not self.told and now - self.since >= self._settings.outage_patience

    def tell(self) -> None:
        """The device waits for an answer that will not come."""
        if not self.told:
            self.told = True
            settings = self._settings
            self._down.text(
                Alert(settings.outage_status, settings.outage_message, settings.outage_emotion)
            )
