"""The AI service's gRPC port: accepts streams from edges."""

from __future__ import annotations

import contextlib
import hmac
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import unquote

import grpc.aio
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from xiaozhi._pb import ai_service_pb2 as pb
from xiaozhi.base.errors import BridgeError
from xiaozhi.base.logburst import LogBurst
from xiaozhi.bridge.grpc.loop import AsyncioThread
from xiaozhi.bridge.grpc.stream import CHAT_STREAM, GrpcStream, channel_options
from xiaozhi.bridge.items import DOWN, UP
from xiaozhi.bridge.security import ServerSecurity
from xiaozhi.bridge.settings import ServerSettings
from xiaozhi.bridge.streams import IStreamAcceptor, IStreamPort

# The default: no TLS and no token.
_OPEN = ServerSecurity()

# Milliseconds for the handshake of a new connection, TLS included.
_HANDSHAKE_MS = 20_000


@implementer(IStreamPort)
class GrpcPort:
    """Listens at ``settings.listen``.

    :param thread: started and stopped with this.
    :ivar port: the port's number as bound; 0 before ``start``.
    :ivar refused: number of calls refused for their token or for a limit.
    """

    _log = Logger()

    def __init__(
        self,
        thread: AsyncioThread,
        settings: ServerSettings,
        security: ServerSecurity = _OPEN,
    ) -> None:
        self.address = ""
        self.port = 0
        self.refused = 0
        self._security = security
        self._refusals = LogBurst[tuple[str, str]](IReactorTime(thread.reactor), self._tell)
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
            self._refusals.stop()

        return Deferred.fromCoroutine(stop())

    def _refuse(self, peer: str, why: str) -> None:
        self.refused += 1
        self._refusals.add((peer, why))

    def _tell(self, count: int, latest: tuple[str, str]) -> None:
        peer, why = latest
        self._log.warn(
            "refused {count} stream(s), the last from {peer}: {why}",
            count=count,
            peer=peer,
            why=why,
        )

    # --- on the asyncio thread

    async def _listen(self, acceptor: IStreamAcceptor) -> int:
        settings = self._settings
        options = [
            *channel_options(settings),
            ("grpc.so_reuseport", 0),
            # These limits apply before the token is checked: idle connections and floods of
            # calls stay cheap and short.
            ("grpc.max_concurrent_streams", settings.max_streams_per_peer),
            ("grpc.max_connection_idle_ms", int(settings.idle_timeout * 1000)),
            ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
        ]
        self._server = grpc.aio.server(options=options)
        gate = _Gate(
            self._thread, self._security.token, self._settings.max_streams_per_peer, self._refuse
        )
        service = _Service(self._thread, acceptor, self._settings.max_message_bytes, gate)
        self._server.add_generic_rpc_handlers((service,))
        address = self._settings.listen
        try:
            port = self._add_port(address)
        except RuntimeError:
            port = 0
        if not port:
            raise BridgeError(
                "cannot_listen",
                f"cannot listen on {address}: in use, or not an address here; set grpc.listen",
            )
        await self._server.start()
        return int(port)

    def _add_port(self, address: str) -> int:
        pair, client_ca = self._security.pair, self._security.client_ca
        if pair is None:
            return int(self._server.add_insecure_port(address))
        credentials = grpc.ssl_server_credentials(
            [(pair.key, pair.certificate)], client_ca, require_client_auth=client_ca is not None
        )
        return int(self._server.add_secure_port(address, credentials))

    async def _finish(self) -> None:
        if self._server is not None:
            await self._server.stop(self._settings.stop_grace)
            self._server = None


class _Gate:
    """Admits calls with the right token, up to a number per address.

    :param most: the most streams of one address at a time.
    :param refused: called on the reactor with the peer's address and the reason.
    """

    def __init__(
        self, thread: AsyncioThread, token: str, most: int, refused: Callable[[str, str], None]
    ) -> None:
        self._most = most
        self._there: Counter[str] = Counter()
        self._reactor = thread.reactor
        self._expected = f"Bearer {token}".encode() if token else b""
        self._refused = refused

    @contextlib.asynccontextmanager
    async def admit(self, context: Any) -> AsyncIterator[str]:
        """Admit a call until it ends.

        :return: the address it comes from.
        :raises grpc.aio.AbortError: refused; the call is over.
        """
        remote = address_of(context.peer())
        await self._check_token(context)
        if self._there[remote] >= self._most:
            why = f"{self._most} streams come from there already (grpc.max_streams_per_peer)"
            await self._abort(context, grpc.StatusCode.RESOURCE_EXHAUSTED, why)
        self._there[remote] += 1
        try:
            yield remote
        finally:
            self._there[remote] -= 1
            if not self._there[remote]:
                del self._there[remote]

    async def _check_token(self, context: Any) -> None:
        if not self._expected:
            return
        metadata = context.invocation_metadata() or ()
        shown = next((value for name, value in metadata if name == "authorization"), "")
        if hmac.compare_digest(shown.encode(), self._expected):
            return
        await self._abort(
            context, grpc.StatusCode.UNAUTHENTICATED, "wrong token" if shown else "no token"
        )

    async def _abort(self, context: Any, status: grpc.StatusCode, why: str) -> None:
        peer = unquote(context.peer())
        self._reactor.callFromThread(self._refused, peer, f"{why}{_REMEDIES.get(why, '')}")
        await context.abort(status, why)


_SAME_TOKEN = "; the edge's bridge.token and grpc.token here must be the same"  # noqa: S105
_REMEDIES = {"wrong token": _SAME_TOKEN, "no token": _SAME_TOKEN}


def address_of(peer: str) -> str:
    """Return the address in gRPC's name of a peer: ``ipv4:192.0.2.1:1234``,
    ``ipv6:%5B::1%5D:1234``."""
    kind, _, rest = unquote(peer).partition(":")
    return rest.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else kind


class _Service(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # at run time it has none
    """The one RPC; each call becomes a stream. The generated servicer does not fit, because
    we write bytes.
    """

    def __init__(
        self, thread: AsyncioThread, acceptor: IStreamAcceptor, max_bytes: int, gate: _Gate
    ) -> None:
        self._thread = thread
        self._gate = gate
        self._acceptor = acceptor
        self._max_bytes = max_bytes

    def service(self, handler_call_details: Any) -> Any:
        """Return the handler of a call, see ``grpc.GenericRpcHandler``."""
        if handler_call_details.method != CHAT_STREAM:
            return None
        return grpc.stream_stream_rpc_method_handler(self._chat, pb.ChatRequest.FromString)

    async def _chat(self, requests: AsyncIterator[Any], context: Any) -> None:
        async with self._gate.admit(context) as remote:
            await context.send_initial_metadata(())  # accepted
            stream = GrpcStream(self._thread, DOWN, UP, self._max_bytes, remote)
            # Ordered: the listener is set before the first item is delivered.
            self._thread.reactor.callFromThread(self._open, stream)

            async def hang_up() -> None:
                stream.leave()

            await stream.carry(context.read, context.write, hang_up)

    def _open(self, stream: GrpcStream) -> None:
        stream.listener = self._acceptor.stream_opened(stream)
