"""Send queue: immediate writes to a device's socket.

Twisted's transport buffers data, registers for a writable socket, sends in the reactor's
next iteration and deregisters: two more system calls, a dispatch and a delay for each packet.
A device's socket is nearly always writable, so the packet is sent directly. The transport
sends any bytes that the socket does not accept.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.tcp import Connection


def write_now(transport: Any, data: bytes) -> None:
    """Write data, directly to the socket if possible.

    It equals ``transport.write(data)`` while the transport's buffer is not empty, so that the
    order is kept, and for encrypted, closing and non-TCP connections.
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
        # An exception: the connection is lost, and the transport notices this itself.
        if isinstance(sent, int):
            if sent == len(data):
                return
            data = data[sent:]
    transport.write(data)
