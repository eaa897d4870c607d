"""Null objects for a closed link and its parts.

They replace references that would form cycles, so that a closed link and its parts are freed
with the connection, without the garbage collector, which seldom runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zope.interface import implementer

from xiaozhi.base.closing import Ending
from xiaozhi.base.errors import ProtocolError
from xiaozhi.interfaces import IDeviceEvents
from xiaozhi.wire.messages import Audio, Device, Listen


class _NoLink:
    """The link of a closed receiver of AI messages."""

    device = Device("", "", "")

    def depart(self, code: str) -> None:
        pass

    def forsaken(self) -> None:
        pass

    def microphone(self) -> Listen | None:
        return None

    def retract(self, unwanted: Callable[[object], bool]) -> None:
        pass


@implementer(IDeviceEvents)
class _NoEvents:
    """The link of a channel that is over."""

    def text_received(self, text: str) -> None:
        pass

    def audio_received(self, audio: Audio, size: int) -> None:
        pass

    def malformed(self, error: ProtocolError, size: int) -> None:
        pass

    def alive(self, size: int) -> bool:
        return False

    def congested(self) -> None:
        pass

    def uncongested(self) -> None:
        pass

    def abused(self, what: str) -> None:
        pass

    def lost(self, ending: Ending) -> None:
        pass


NO_LINK = _NoLink()
NO_EVENTS: IDeviceEvents = _NoEvents()


def ignore(*args: Any) -> None:
    """Stand in for any callback."""
