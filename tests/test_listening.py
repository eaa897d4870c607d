"""The listening backlog, as the kernel reports it."""

from __future__ import annotations

import socket
import struct
import sys
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SkipTest, TestCase

from xiaozhi.runtime.listening import free_port, listen

# A field of struct tcp_info; for a listening socket Linux stores the backlog's limit there.
_SACKED = struct.Struct("=8B5I I")


class BacklogTests(TestCase):
    async def test_every_way_to_listen(self) -> None:
        if sys.platform != "linux":
            raise SkipTest("only Linux tells it")
        allowed = min(1024, int(Path("/proc/sys/net/core/somaxconn").read_text()))
        for shared in (False, True):
            port = await listen(reactor, "127.0.0.1", free_port(), Factory(), reuse_port=shared)
            self.addCleanup(port.stopListening)
            info = port.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 64)  # type: ignore[attr-defined]
            self.assertEqual(_SACKED.unpack_from(info, 0)[-1], allowed, shared)
