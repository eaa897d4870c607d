"""Memory of the edge while a hundred devices send megabytes, on real sockets."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path

from twisted.trial.unittest import SkipTest, TestCase

from tests.rawsocket import TEXT, RawSocket, firmware_head
from tests.services import Pair
from xiaozhi.runtime.listening import free_port

DEVICES = 100
MIB = 1 << 20
HELLO = b'{"type":"hello","version":1,"transport":"websocket"}'

IM_SETS = (
    "auth.required=false",
    "store.content=true",
    "limits.message_timeout=120",
    "limits.malformed_in_a_row=1000",
)
# The settings of the session log.
STORES = {
    "there": (),
    "away": (
        "store.required=false",
        f"store.url='postgresql://nobody:x@127.0.0.1:{free_port()}/none'",
    ),
    "away, and no spool": (
        "store.required=false",
        "store.spool_bytes=0",
        f"store.url='postgresql://nobody:x@127.0.0.1:{free_port()}/none'",
    ),
}


def texts() -> dict[str, bytes]:
    """Yield texts of a megabyte, of every kind that a device may send."""
    room = MIB - 200
    return {
        "words": json.dumps({"type": "chat", "text": "x" * room}).encode(),
        "a picture": json.dumps({"type": "image", "image_data": {"data": "A" * room}}).encode(),
        "a tool's answer": json.dumps(
            {"type": "mcp", "payload": {"jsonrpc": "2.0", "id": 1, "result": "A" * room}}
        ).encode(),
        "an unknown type": json.dumps({"type": "x", "x": "x" * room}).encode(),
    }


class FloodTests(TestCase):
    """The AI service is down, so that accepted messages are queued."""

    timeout = 240

    def edge(self, *sets: str) -> Pair:
        if not Path("/proc/self/status").exists():
            raise SkipTest("only Linux tells how much memory a process has")
        pair = Pair((*IM_SETS, *sets))
        self.addCleanup(pair.end)
        pair.im.start()
        pair.im.wait_for("/alive")
        return pair

    def memory(self, pair: Pair) -> int:
        """Return the peak memory of the edge, in MiB."""
        status = Path(f"/proc/{pair.im.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) // 1024

    def devices(self, pair: Pair) -> list[RawSocket]:
        found = []
        for number in range(DEVICES):
            headers = {"Device-Id": f"aa:bb:cc:dd:00:{number:02x}", "Client-Id": f"c{number}"}
            socket = RawSocket(
                pair.edge_port, firmware_head("127.0.0.1", "/xiaozhi/v1/", headers), 60
            )
            self.addCleanup(socket.close)
            self.assertIsNone(socket.refused)
            socket.send(TEXT, HELLO)
            socket.until_text("hello")
            found.append(socket)
        return found

    def flood(self, sets: tuple[str, ...], whole: bool) -> int:
        """Send the texts from all devices.

        :param whole: each device's messages one after the other; else all at once, in pieces.
        :return: growth of the edge in MiB.
        """
        pair = self.edge(*sets)
        sockets = self.devices(pair)
        before = self.memory(pair)
        for text in texts().values():
            frame = b"\x81\xff" + len(text).to_bytes(8, "big") + b"\0\0\0\0" + text
            step = len(frame) if whole else 65_536
            for at in range(0, len(frame), step):
                for socket in sockets:
                    # Its connection was closed for it.
                    with contextlib.suppress(OSError, TimeoutError):
                        socket.send_bytes(frame[at : at + step])
        for socket in sockets:
            # Wait until everything has been read, except from closed connections.
            with contextlib.suppress(OSError, EOFError):
                socket.text(type="ping")
                socket.until_text("pong")
        return self.memory(pair) - before

    def test_whole_messages(self) -> None:
        for name, sets in STORES.items():
            grown = self.flood(sets, True)
            self.assertLess(grown, 100, f"the store is {name}")

    def test_all_devices_at_once(self) -> None:
        grown = self.flood(STORES["away"], False)
        self.assertLess(grown, 100)
