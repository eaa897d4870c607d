"""Streams from the edge to AI processes, over gRPC."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import grpc.aio
from twisted.internet.defer import Deferred
from zope.interface import implementer

from xiaozhi._pb import ai_service_pb2 as pb
from xiaozhi.bridge.grpc.loop import AsyncioThread
from xiaozhi.bridge.grpc.stream import CHAT_STREAM, GrpcStream, channel_options
from xiaozhi.bridge.items import DOWN, UP
from xiaozhi.bridge.security import ClientSecurity
from xiaozhi.bridge.settings import ClientSettings
from xiaozhi.bridge.streams import IDialer, IStream, IStreamListener

# Seconds that closed streams get to end when stopping, before they are cancelled.
_GRACE = 0.4

# Seconds to wait for the other side to accept or refuse the call: a failing write would
# hide the reason of a refusal. Without an answer, writing begins.
_VERDICT = 1.0

# The default: no TLS and no token.
_OPEN = ClientSecurity()


@implementer(IDialer)
class GrpcDialer:
    """Dials streams, each on a connection of its own. gRPC does not reconnect; the slot
    decides when to dial again.

    :param thread: started and stopped with this.
    :param server_name: returns the name that a target's certificate must have; empty: the
        target's host.
    """

    def __init__(
        self,
        thread: AsyncioThread,
        settings: ClientSettings,
        security: ClientSecurity = _OPEN,
        server_name: Callable[[str], str] = lambda target: "",
    ) -> None:
        self._thread = thread
        self._security = security
        self._server_name = server_name
        token = security.token
        self._metadata = [("authorization", f"Bearer {token}")] if token else None
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
        name = self._security.server_name or self._server_name(target)
        self._thread.post(self._begin, target, name, stream)
        return stream

    # --- on the asyncio thread

    def _begin(self, target: str, name: str, stream: GrpcStream) -> None:
        task = asyncio.ensure_future(self._run(target, name, stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, target: str, name: str, stream: GrpcStream) -> None:
        async with self._channel(target, name) as channel:
            chat: Any = channel.stream_stream(CHAT_STREAM, None, pb.ChatResponse.FromString)
            call = chat(metadata=self._metadata)
            try:
                # The server ends the call when we finish writing.
                await stream.carry(call.read, call.write, call.done_writing, lambda: _verdict(call))
            finally:
                call.cancel()

    def _channel(self, target: str, name: str) -> grpc.aio.Channel:
        security, options = self._security, self._options
        if not security.tls:
            return grpc.aio.insecure_channel(target, options=options)
        if name:
            options = [*options, ("grpc.ssl_target_name_override", name)]
        pair = security.pair
        credentials = grpc.ssl_channel_credentials(
            security.ca, pair.key if pair else None, pair.certificate if pair else None
        )
        return grpc.aio.secure_channel(target, credentials, options=options)

    async def _finish(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_GRACE)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _verdict(call: Any) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(call.initial_metadata(), _VERDICT)
