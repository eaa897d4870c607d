"""One request and its reply on a connection: bounded body, dispatch, delivery."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from inspect import isawaitable
from io import BytesIO
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import Request, parse_qs

from xiaozhi.base.errors import XiaozhiError
from xiaozhi.web.channel import WebChannel
from xiaozhi.web.replies import INTERNAL, HttpError, Reply, StreamReply, error_reply
from xiaozhi.web.request import WebRequest
from xiaozhi.web.routes import PathMatch, Route
from xiaozhi.web.streaming import ClientStalled, send_stream

_SCHEMES = ("http://", "https://")


class WebExchange(Request):
    """A request whose body is bounded while it arrives, and kept in memory.

    A request is checked when its head is complete. The body of a refused one is still read and
    discarded, up to a limit, because a client that is still sending would lose the reply to a
    connection reset.
    """

    channel: WebChannel
    asked: WebRequest | None = None
    _log = Logger()
    _route: Route | None = None
    _match: PathMatch | None = None
    _verdict: Reply | None = None
    _limit = 0
    _received = 0
    _held = 0

    def __init__(self, channel: WebChannel, *arguments: Any, **named: Any) -> None:
        self._site = channel.site
        self._body = BytesIO()
        super().__init__(channel, *arguments, **named)

    @property
    def page(self) -> str:
        """The name of the request's route in metrics; ``other``: no route."""
        if self._route is not None:
            return self._route.page
        routes = list(self._match.methods.values()) if self._match is not None else []
        return routes[0].page if routes else "other"

    def gotLength(self, length: int | None) -> None:
        """Check the request: its head is complete. See ``http.Request``."""
        self.content = self._body
        self.method, self.uri, self.clientproto = self.channel.head()
        self.notifyFinish().addBoth(self._forget_body)
        self.asked = request = self._read_head()
        self._match = self._site.routes.find(request.path)
        self._route = self._match.route(request.method) if self._match is not None else None
        self._limit = self._site.limits.max_body
        if self._route is not None:
            self._limit = self._route.options.get("max_body", self._limit)
        done = self.notifyFinish()
        try:
            self._site.visitors.admit(request, self.channel.counted_as, done)
            self._verdict = self._judge(request, length)
        except XiaozhiError as error:
            self._verdict = error_reply(error)
        finally:
            done.addErrback(lambda _: None)

    def handleContentChunk(self, data: bytes) -> None:
        """Add a piece of the body. See ``http.Request``."""
        self._received += len(data)
        if self._verdict is None:
            if self._received > self._limit:
                self._verdict = error_reply(self._too_large())
            elif not self._site.hold(len(data)):
                busy = "too many uploads at once, try again later"
                self._verdict = error_reply(HttpError(503, "busy", busy))
            else:
                self._held += len(data)
                self._body.write(data)
                return
            self._forget_body(None)
        if self._received > self._limit + self._site.limits.drained and not self.finished:
            self.channel.persistent = False
            if self._site.limits.cut:
                self.channel.abortConnection()
                return
            self.responseHeaders.setRawHeaders("Connection", ["close"])
            self._deliver(self._verdict)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Answer: the body is complete. Unlike Twisted's, this does not parse forms."""
        if self.finished or self.asked is None:
            return
        if self._verdict is not None or self._route is None or self._match is None:
            self._deliver(self._verdict or Reply(404))
            return
        request = replace(self.asked, body=self._body.getvalue())
        work = Deferred.fromCoroutine(self._respond(self._route, self._match, request))
        if not self.finished:
            # Cancel the work if the client disconnects.
            self.notifyFinish().addErrback(lambda _: work.cancel())
        work.addErrback(self._broken)

    async def _respond(self, route: Route, match: PathMatch, request: WebRequest) -> None:
        try:
            made = route.call(request, match.values)
            reply = await made if isawaitable(made) else made
        except XiaozhiError as error:
            reply = error_reply(error)
        except CancelledError:
            if self._disconnected:
                return
            raise
        if isinstance(reply, Reply):
            self._deliver(reply)
        elif self._begin(reply.status, reply.content_type, reply.length, reply.headers):
            try:
                await send_stream(self, reply, self._site.limits.idle_time, self._site.reactor)
            except ClientStalled as error:
                self._log.info("request {id}: {error}; disconnected", id=request.id, error=error)
                self.channel.abortConnection()
        else:
            await _closed(reply)

    def _read_head(self) -> WebRequest:
        text = self.uri.decode("latin-1")
        if text.lower().startswith(_SCHEMES):  # absolute form, as to a proxy
            text = "/" + text.split("://", 1)[1].partition("/")[2]
        path, _, query = text.partition("?")
        # Read by ``log`` and by Twisted.
        self.path = path.encode("latin-1")
        local = self.getHost()
        fields = parse_qs(query.encode("latin-1"), True)
        return WebRequest(
            self._site.new_id(),
            self.method.decode("latin-1"),
            path,
            {_text(name): [_text(v) for v in values] for name, values in fields.items()},
            {
                _text(name).lower(): [_text(v) for v in values]
                for name, values in self.requestHeaders.getAllRawHeaders()
            },
            str(getattr(self.client, "host", "")),
            str(getattr(local, "host", "")),
            int(getattr(local, "port", 0)),
        )

    def _judge(self, request: WebRequest, length: int | None) -> Reply | None:
        """Check a request.

        :return: a reply without a handler, if any.
        :raises XiaozhiError: the request is refused.
        """
        style = self._site.style
        if request.method == "OPTIONS" and (style.options or self._site.cors(request)):
            return Reply(204)
        if self._match is None:
            raise HttpError(404, "not_found", style.not_found)
        route = self._route
        if route is None:
            allowed = self._match.allowed + (["OPTIONS"] if style.options else [])
            allow = ", ".join(allowed)
            message = f"this path supports {allow}"
            raise HttpError(405, "method_not_allowed", message, {"Allow": allow})
        if "guard" in route.options:
            route.options["guard"](request)
        route.check_type(request)
        if length is not None and length > self._limit:
            raise self._too_large()
        return None

    def _too_large(self) -> HttpError:
        return HttpError(413, "too_large", f"the body is larger than {self._limit} bytes")

    def _broken(self, failure: Failure) -> None:
        """Answer 500 for an exception of ours, and log it with the request's id."""
        request = self.asked
        if self._disconnected or request is None:
            return
        self._log.failure(
            "request {id}: {method} {path} raised an exception",
            failure=failure,
            id=request.id,
            method=request.method,
            path=request.path,
        )
        if self.startedWriting:
            self.channel.abortConnection()  # the only sign that the reply is incomplete
            return
        headers = {"X-Request-Id": request.id}
        self._deliver(error_reply(HttpError(500, INTERNAL, "internal server error", headers)))

    def _deliver(self, reply: Reply) -> None:
        size = None if reply.status == 204 else len(reply.body)
        if self._begin(reply.status, reply.content_type, size, reply.headers):
            self.write(reply.body)
            self.finish()

    def _begin(
        self, status: int, content_type: str, length: int | None, more: Mapping[str, str]
    ) -> bool:
        """Set status and headers.

        :return: False: the client has disconnected.
        """
        if self._disconnected or self.finished:
            return False
        self.setResponseCode(status)
        headers = self.responseHeaders
        request = self.asked
        cors = self._site.cors(request) if request is not None else {}
        for name, value in {**cors, "Cache-Control": "no-store", **more}.items():
            headers.setRawHeaders(name, [value])
        if content_type:
            headers.setRawHeaders("Content-Type", [self._site.style.content_type(content_type)])
        if length is not None:
            headers.setRawHeaders("Content-Length", [str(length)])
        return True

    def _forget_body(self, _: object) -> None:
        self._site.release(self._held)
        self._held = 0
        if not self._body.closed:
            self._body.truncate(0)


def _text(data: bytes) -> str:
    return data.decode("latin-1")


async def _closed(reply: StreamReply) -> None:
    close = getattr(reply.chunks, "aclose", None)
    if close is not None:
        await close()
