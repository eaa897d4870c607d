"""Streams from the edge to AI processes, over gRPC."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
from twisted.internet.defer import Deferred
from zope.interface import implementer

from xiaozhi._pb.ai_service_pb2_grpc import AIServiceStub
from xiaozhi.bridge.grpc_stream import GrpcStream, channel_options
from xiaozhi.bridge.items import DOWN, UP
from xiaozhi.bridge.loop import AsyncioThread
from xiaozhi.bridge.settings import ClientSettings
from xiaozhi.bridge.streams import IDialer, IStream, IStreamListener

# Seconds closed streams may take to end when stopping; then they are cancelled.
_GRACE = 0.4


@implementer(IDialer)
class GrpcDialer:
    """Every stream has a connection of its own, and gRPC does not reconnect it:
    when to dial again is decided elsewhere.

    :param thread: started and stopped with this.
    """

    def __init__(self, thread: AsyncioThread, settings: ClientSettings) -> None:
        self._thread = thread
        self._max_bytes = settings.max_message_bytes
        self._options = [
            *channel_options(settings),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_retries", 0),
        ]
        self._tasks: set[asyncio.Task[None]] = set()  # of the asyncio thread

    def start(self) -> Deferred[None]:
        return self._thread.start()

    def stop(self) -> Deferred[None]:
        async def stop() -> None:
            if self._thread.running:
                await self._thread.call(self._finish)
                await self._thread.stop()

        return Deferred.fromCoroutine(stop())

    def dial(self, target: str, listener: IStreamListener) -> IStream:
        stream = GrpcStream(self._thread, UP, DOWN, self._max_bytes)
        stream.listener = listener
        self._thread.post(self._begin, target, stream)
        return stream

    # --- on the asyncio thread

    def _begin(self, target: str, stream: GrpcStream) -> None:
        task = asyncio.ensure_future(self._run(target, stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, target: str, stream: GrpcStream) -> None:
        async with grpc.aio.insecure_channel(target, options=self._options) as channel:
            call: Any = AIServiceStub(channel).ChatStream()
            try:
                # The server ends the call when it hears that we are done writing.
                await stream.carry(call.read, call.write, call.done_writing)
            finally:
                call.cancel()

    async def _finish(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_GRACE)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
