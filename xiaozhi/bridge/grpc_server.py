"""Where the AI service takes streams in, over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
from twisted.internet.defer import Deferred
from zope.interface import implementer

from xiaozhi._pb.ai_service_pb2_grpc import AIServiceServicer, add_AIServiceServicer_to_server
from xiaozhi.bridge.grpc_stream import GrpcStream, channel_options
from xiaozhi.bridge.items import DOWN, UP
from xiaozhi.bridge.loop import AsyncioThread
from xiaozhi.bridge.settings import ServerSettings
from xiaozhi.bridge.streams import IStreamAcceptor, IStreamPort
from xiaozhi.errors import BridgeError


@implementer(IStreamPort)
class GrpcPort:
    """Listens at ``settings.listen``.

    :param thread: started and stopped with this.
    :ivar port: the port's number as bound; 0 before ``start``.
    """

    def __init__(self, thread: AsyncioThread, settings: ServerSettings) -> None:
        self.address = ""
        self.port = 0
        self._thread = thread
        self._settings = settings
        self._server: Any = None  # of the asyncio thread

    def start(self, acceptor: IStreamAcceptor) -> Deferred[None]:
        async def start() -> None:
            await self._thread.start()
            try:
                self.port = await self._thread.call(self._listen, acceptor)
            except BaseException:
                await self._thread.stop()
                raise
            self.address = f"{self._settings.listen.rpartition(':')[0]}:{self.port}"

        return Deferred.fromCoroutine(start())

    def stop(self) -> Deferred[None]:
        async def stop() -> None:
            if self._thread.running:
                await self._thread.call(self._finish)
                await self._thread.stop()

        return Deferred.fromCoroutine(stop())

    # --- on the asyncio thread

    async def _listen(self, acceptor: IStreamAcceptor) -> int:
        options = [*channel_options(self._settings), ("grpc.so_reuseport", 0)]
        self._server = grpc.aio.server(options=options)
        service = _Service(self._thread, acceptor, self._settings.max_message_bytes)
        add_AIServiceServicer_to_server(service, self._server)
        address = self._settings.listen
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError:
            port = 0
        if not port:
            raise BridgeError(
                "cannot_listen",
                f"cannot listen on {address}: in use, or not an address here; set grpc.listen",
            )
        await self._server.start()
        return int(port)

    async def _finish(self) -> None:
        if self._server is not None:
            await self._server.stop(self._settings.stop_grace)
            self._server = None


class _Service(AIServiceServicer):  # type: ignore[misc]  # generated, untyped
    """The one RPC. Each call becomes a stream."""

    def __init__(self, thread: AsyncioThread, acceptor: IStreamAcceptor, max_bytes: int) -> None:
        self._thread = thread
        self._acceptor = acceptor
        self._max_bytes = max_bytes

    async def ChatStream(self, request_iterator: AsyncIterator[Any], context: Any) -> None:
        stream = GrpcStream(self._thread, DOWN, UP, self._max_bytes)
        # Ordered: the listener is there before the first item is delivered.
        self._thread.reactor.callFromThread(self._open, stream)

        async def hang_up() -> None:
            stream.leave()

        await stream.carry(context.read, context.write, hang_up)

    def _open(self, stream: GrpcStream) -> None:
        stream.listener = self._acceptor.stream_opened(stream)
