"""Devices that connect to running services, for end-to-end tests."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.rawsocket import RawSocket, firmware_head
from tests.services import DOUBLES, Pair
from xiaozhi.device import events as e
from xiaozhi.device.client import SoftDevice
from xiaozhi.device.firmware.machine import MachineSettings
from xiaozhi.device.identity import Identity, numbered

T = TypeVar("T")

STORY = "Once upon a time there was a very small box that could listen and speak. " * 4
TOOLS = [
    {"when": "loud", "name": "self_audio_speaker_set_volume", "arguments": {"volume": 33}},
    {"when": "clock", "name": "get_time"},
    {"when": "see", "name": "self_camera_take_photo", "arguments": {"question": "What is it?"}},
]
AI_SETS = (
    *DOUBLES,
    f"providers.llm.scripted.calls={json.dumps(TOOLS)}",
    f"providers.llm.scripted.replies={json.dumps({'a story': STORY, 'a fable': STORY[:150]})}",
    "providers.vlllm.scripted.answers=[A small square.]",
)
IM_SETS = (
    "store.content=true",
    "store.flush_interval=0.02",
    "link.close_timeout=0.2",
    # A device loses packets that it reads in one go with tts start: allow a slow machine the time
    # to read that message alone.
    "pacer.start_gap=0.25",
)

_numbers = iter(range(1, 1 << 16))


def new_identity() -> Identity:
    """Return an identity that this run has not used yet."""
    return numbered(next(_numbers))


class Guest:
    """A software device and its events.

    :ivar events: all events, in order.
    """

    def __init__(self, identity: Identity, **settings: Any) -> None:
        self.events: list[e.Event] = []
        self.identity = identity
        self.device = SoftDevice(
            reactor, MachineSettings(**settings), identity, watch=self.events.append
        )

    def seen(self, kind: type[T]) -> list[T]:
        return [event for event in self.events if isinstance(event, kind)]


def complaints(output: str) -> str:
    """Return the first error in a log with the lines after it; empty: none."""
    lines = output.splitlines()
    for number, line in enumerate(lines):
        if any(word in line for word in ("Traceback", "#error]", "#critical]", "Unhandled")):
            return "\n".join(lines[max(0, number - 1) : number + 25])
    return ""


class ServiceCase(TestCase):
    """Devices are new in every test and disconnected after it."""

    timeout = 60

    async def guest(self, pair: Pair, *, port: int = 0, **settings: Any) -> Guest:
        """Connect a device."""
        guest = Guest(new_identity(), **settings)
        self.addCleanup(guest.device.close)
        framing = guest.device.settings.framing
        await guest.device.connect(pair.endpoint(guest.identity, port, framing))
        return guest

    def raw(self, pair: Pair, device_id: str, port: int = 0) -> RawSocket:
        """Return a device as a raw socket, after its upgrade. Blocks."""
        headers = {"Authorization": f"Bearer {pair.token(device_id)}", "Device-Id": device_id}
        socket = RawSocket(
            port or pair.edge_port, firmware_head("127.0.0.1", "/xiaozhi/v1/", headers)
        )
        self.addCleanup(socket.close)
        self.assertIsNone(socket.refused)
        return socket

    async def until(self, condition: Callable[[], object], what: str, within: float = 15) -> None:
        """Wait until a condition holds."""
        deadline = time.monotonic() + within
        while not condition():
            if time.monotonic() > deadline:
                self.fail(f"not within {within} s: {what}")
            await deferLater(reactor, 0.02)

    def assert_clean(self, pair: Pair) -> None:
        """Check that the services logged no error."""
        found = complaints(pair.output)
        self.assertFalse(found, found)
