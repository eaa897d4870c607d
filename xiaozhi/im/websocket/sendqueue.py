"""Immediate writes to a device's socket.

Twisted's transport buffers data, registers for a writable socket, sends in the reactor's
next round and deregisters: two system calls and a dispatch for each packet besides the send,
and the wait for that round. A device's socket is nearly always writable, so the packet is
sent directly; what the socket does not accept goes the usual way.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.tcp import Connection


def write_now(transport: Any, data: bytes) -> None:
    """Write as ``transport.write(data)`` does, directly where nothing is buffered.

    Order is kept: while anything waits in the transport's buffer, or the
    connection is encrypted, closing or no TCP connection, this is just that.
    """
    if (
        isinstance(transport, Connection)
        and transport.connected
        and not (
            transport.disconnecting
            or transport.TLS
            or transport.dataBuffer
            or transport._tempDataBuffer
        )
    ):
        sent = transport.writeSomeData(data)
        # Not a number: the connection is lost, which the transport finds out itself.
        if isinstance(sent, int):
            if sent == len(data):
                return
            data = data[sent:]
    transport.write(data)
