"""Writing to a device's socket at once.

Twisted's transport takes what it is given into a buffer, asks to be told when
the socket is writable, sends in the reactor's next round and takes the request
back: two system calls and a dispatch for each packet, beside the one that sends,
and the wait for that round. A device's socket is nearly always writable, so the
packet is handed to it directly; what it does not take goes the usual way.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.tcp import Connection


def write_now(transport: Any, data: bytes) -> None:
    """As ``transport.write(data)``, without the detour where nothing is in the way.

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
