"""JSON-RPC 2.0 with one peer, over any transport with message boundaries.

:class:`JsonRpcClient` numbers requests, matches responses in any order, limits time, number
and size, and answers the peer's own requests. A device's MCP and every MCP server use it. The
transport only has to deliver bytes and to call :meth:`JsonRpcClient.received`.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from inspect import isawaitable

import msgspec
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from xiaozhi.base.errors import XiaozhiError

#: A JSON value, which Python's type checkers cannot express exactly.
Json = object

#: Serves a method of ours: parameters in, result out. To refuse, raise :class:`JsonRpcError`.
Handler = Callable[[Json], "Awaitable[Json] | Json"]

# A response has one of these members; some peers also repeat the method.
_ANSWERS = frozenset({"result", "error"})


class ErrorCode(IntEnum):
    """The codes of the specification."""

    PARSE_ERROR = -32700
    INVALID_REQUEST = -32600
    METHOD_NOT_FOUND = -32601
    INVALID_PARAMS = -32602
    INTERNAL_ERROR = -32603
    #: The first implementation-defined code: too many concurrent requests.
    BUSY = -32000


class JsonRpcError(XiaozhiError):
    """A request failed.

    :ivar code: ``rpc_error`` (the peer's response), ``rpc_timeout``, ``rpc_closed``,
        ``rpc_busy``, ``rpc_too_large`` or ``rpc_unsent``.
    :ivar number: the JSON-RPC error code; None: the peer sent none, or did not respond.
    :ivar data: ``data`` of the peer's error object.
    """

    def __init__(
        self, code: str, message: str, number: int | None = None, data: Json = None
    ) -> None:
        super().__init__(code, message)
        self.number = number
        self.data = data


@dataclass(frozen=True, slots=True)
class JsonRpcLimits:
    """Bounds of one connection.

    :ivar pending: our requests without a response; one more fails with ``rpc_busy``.
    :ivar serving: running requests of the peer; one more is answered with ``BUSY``.
    :ivar message_bytes: maximum size of a message in either direction. A longer one of ours
        fails with ``rpc_too_large``; a longer one of the peer is dropped.
    :ivar batch: maximum messages in one array; an array with more is dropped.
    :ivar words: characters kept of the peer's error message.
    """

    pending: int = 64
    serving: int = 16
    message_bytes: int = 4 << 20
    batch: int = 64
    words: int = 1000


@dataclass(frozen=True, slots=True)
class JsonRpcPeer:
    """Handling of the peer's messages.

    :ivar methods: handlers of the peer's requests, by method. None: its requests are ignored,
        because microcontrollers expect no responses. Otherwise an unknown method is answered
        with ``METHOD_NOT_FOUND``, so that the peer does not wait for its timeout.
    :ivar notifications: handlers of the peer's notifications, by method; called with the
        parameters.
    :ivar cancel_method: notification that cancels a request of ours at the peer, with
        ``requestId`` and ``reason``; empty: send none.
    """

    methods: Mapping[str, Handler] | None = None
    notifications: Mapping[str, Callable[[Json], None]] = field(default_factory=dict)
    cancel_method: str = ""


@dataclass(slots=True)
class _Pending:
    number: int
    method: str
    answer: Deferred[Json]
    timer: IDelayedCall | None = None


class JsonRpcClient:
    """Our end of a JSON-RPC connection.

    Request ids are integers that count up from 1, because some peers do not answer others. A
    response may have the id as text. A response without a request is ignored: the request may
    have timed out or been cancelled.

    :param send: passes one message to the transport; if it raises, the request fails.
    :ivar dropped: number of the peer's messages that were unusable.
    """

    _log = Logger()

    def __init__(
        self,
        send: Callable[[bytes], None],
        clock: IReactorTime,
        limits: JsonRpcLimits | None = None,
        peer: JsonRpcPeer | None = None,
    ) -> None:
        self._send = send
        self._clock = clock
        self._limits = limits or JsonRpcLimits()
        self._peer = peer or JsonRpcPeer()
        self._last = 0
        # Bound: `limits.pending`; each ends at its timeout.
        self._pending: dict[str, _Pending] = {}
        # Bound: `limits.serving`.
        self._serving: dict[Deferred[None], None] = {}
        self._closed = ""
        self.dropped = 0

    @property
    def pending(self) -> int:
        """The number of our requests without a response."""
        return len(self._pending)

    # --- our messages -------------------------------------------------------------------

    def request(
        self, method: str, params: Mapping[str, Json] | None, timeout: float
    ) -> Deferred[Json]:
        """Send a request. Cancelling the Deferred cancels the request.

        :param params: None: none.
        :param timeout: seconds until it fails with ``rpc_timeout``.
        :return: the result; fails with :class:`JsonRpcError`.
        """
        if self._closed:
            return fail(JsonRpcError("rpc_closed", self._closed))
        if len(self._pending) >= self._limits.pending:
            words = f"{len(self._pending)} requests are already waiting for a response"
            return fail(JsonRpcError("rpc_busy", words))
        self._last += 1
        number = self._last
        message: dict[str, Json] = {"jsonrpc": "2.0", "id": number, "method": method}
        if params is not None:
            message["params"] = params
        pending = _Pending(number, method, Deferred(lambda _: self._cancelled(number)))
        self._pending[str(number)] = pending
        pending.timer = self._clock.callLater(timeout, self._late, number, timeout)
        try:
            self._write(message)
        except JsonRpcError as error:
            self._failed(number, error)
        except Exception as error:
            self._log.debug("json-rpc: {method} was not sent: {error}", method=method, error=error)
            self._failed(number, JsonRpcError("rpc_unsent", f"{method} could not be sent"))
        return pending.answer

    def notify(self, method: str, params: Mapping[str, Json] | None = None) -> None:
        """Send a notification.

        :raises JsonRpcError: ``rpc_closed`` or ``rpc_too_large``; the transport's own errors
            propagate.
        """
        if self._closed:
            raise JsonRpcError("rpc_closed", self._closed)
        message: dict[str, Json] = {"jsonrpc": "2.0", "method": method}
        if params is not None:
            message["params"] = params
        self._write(message)

    def close(self, reason: str = "the connection is closed") -> None:
        """Fail pending requests with ``rpc_closed`` and cancel served ones. Idempotent."""
        if self._closed:
            return
        self._closed = reason
        for number in [each.number for each in self._pending.values()]:
            self._failed(number, JsonRpcError("rpc_closed", reason))
        for serving in tuple(self._serving):
            serving.cancel()

    def _write(self, message: Mapping[str, Json]) -> None:
        data = json.dumps(message, ensure_ascii=False, allow_nan=False).encode()
        if len(data) > self._limits.message_bytes:
            raise JsonRpcError("rpc_too_large", f"the message has {len(data)} bytes")
        self._send(data)

    def _taken(self, key: str) -> _Pending | None:
        pending = self._pending.pop(key, None)
        if pending is not None and pending.timer is not None and pending.timer.active():
            pending.timer.cancel()
        return pending

    def _failed(self, number: int, error: JsonRpcError) -> None:
        if (pending := self._taken(str(number))) is not None:
            pending.answer.errback(error)

    def _late(self, number: int, seconds: float) -> None:
        pending = self._pending[str(number)]
        self._give_up(number, "timeout")
        words = f"no response to {pending.method} in {seconds:g} s"
        self._failed(number, JsonRpcError("rpc_timeout", words))

    def _cancelled(self, number: int) -> None:
        if self._taken(str(number)) is not None:
            self._give_up(number, "cancelled")

    def _give_up(self, number: int, reason: str) -> None:
        """Notify the peer that a request of ours is cancelled."""
        if not self._peer.cancel_method or self._closed:
            return
        try:
            self.notify(self._peer.cancel_method, {"requestId": number, "reason": reason})
        except Exception as error:
            self._log.debug("json-rpc: a cancellation was not sent: {error}", error=error)

    # --- the peer's messages ------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """Handle one message, or an array of them, from the transport. Never raises."""
        if self._closed:
            return
        if len(data) > self._limits.message_bytes:
            self._drop("too large")
            return
        try:
            message: Json = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            self._drop("not JSON")
            return
        if not isinstance(message, list):
            self._take(message)
        elif not message or len(message) > self._limits.batch:
            self._drop("an array without messages, or with too many")
        else:
            for each in message:
                self._take(each)

    def _drop(self, why: str) -> None:
        self.dropped += 1
        self._log.debug("json-rpc: dropped a message of the peer: {why}", why=why)

    def _take(self, message: Json) -> None:
        if not isinstance(message, dict):
            self._drop("not an object")
        elif isinstance(method := message.get("method"), str) and not _ANSWERS & message.keys():
            if "id" in message:
                self._asked(message["id"], method, message.get("params"))
            else:
                self._notified(method, message.get("params"))
        elif (pending := self._taken(_key(message.get("id")))) is not None:
            self._answered(pending, message)
        else:
            self._drop("answers no request")

    def _answered(self, pending: _Pending, message: Mapping[str, Json]) -> None:
        error = message.get("error")
        if error is None:
            pending.answer.callback(message.get("result"))
            return
        number, words, data = None, error, None
        if isinstance(error, dict):
            words, data, code = error.get("message"), error.get("data"), error.get("code")
            number = code if isinstance(code, int) and not isinstance(code, bool) else None
        text = str(words)[: self._limits.words]
        pending.answer.errback(JsonRpcError("rpc_error", text, number, data))

    def _notified(self, method: str, params: Json) -> None:
        handler = self._peer.notifications.get(method)
        if handler is None:
            return
        try:
            handler(params)
        except Exception:
            self._log.failure(
                "json-rpc: the handler of {method} raised an exception", method=method
            )

    def _asked(self, number: Json, method: str, params: Json) -> None:
        methods = self._peer.methods
        if methods is None:
            self._drop("a request, and we serve none")
        elif not isinstance(number, (str, int)) or isinstance(number, bool):
            self._refuse(None, ErrorCode.INVALID_REQUEST, "the id is neither text nor integer")
        elif (handler := methods.get(method)) is None:
            self._refuse(number, ErrorCode.METHOD_NOT_FOUND, "there is no such method")
        elif len(self._serving) >= self._limits.serving:
            self._refuse(number, ErrorCode.BUSY, "too many concurrent requests")
        else:
            serving = Deferred.fromCoroutine(self._serve(number, method, handler, params))
            self._serving[serving] = None
            serving.addBoth(lambda _: self._serving.pop(serving, None))

    async def _serve(self, number: str | int, method: str, handler: Handler, params: Json) -> None:
        try:
            result = handler(params)
            if isawaitable(result):
                result = await result
        except CancelledError:
            return
        except JsonRpcError as error:
            code = ErrorCode.INTERNAL_ERROR if error.number is None else error.number
            self._refuse(number, code, error.message)
            return
        except Exception:
            self._log.failure("json-rpc: the method {method} raised an exception", method=method)
            self._refuse(number, ErrorCode.INTERNAL_ERROR, "internal error")
            return
        self._reply({"jsonrpc": "2.0", "id": number, "result": result})

    def _refuse(self, number: Json, code: int, words: str) -> None:
        error = {"code": int(code), "message": words}
        self._reply({"jsonrpc": "2.0", "id": number, "error": error})

    def _reply(self, message: Mapping[str, Json]) -> None:
        if self._closed:
            return
        try:
            self._write(message)
        except Exception as error:
            self._log.debug("json-rpc: a response was not sent: {error}", error=error)


def _key(number: Json) -> str:
    """Return the table's key for the id of a response; empty: it cannot be an id of ours."""
    if isinstance(number, bool) or not isinstance(number, (str, int)):
        return ""
    try:
        return str(number)
    except ValueError:
        # An integer with more digits than Python converts.
        return ""
