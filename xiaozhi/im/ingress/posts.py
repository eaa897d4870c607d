"""Requests with a body, at the edge: what is posted to devices."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from xiaozhi.web.posting import Posting, Reply, failed


class BoundedRequest(Request):
    """A request whose body is kept in memory where the site has room for it, and else
    thrown away as it comes, where Twisted's goes to a file without end. Who sends
    a long one is cut off.

    :ivar came: bytes of the body so far.
    """

    channel: Any
    content: Any
    came = 0
    _room = 0

    def gotLength(self, length: int | None) -> None:
        super().gotLength(0)
        self._room = self.channel.site.room_for(self.channel._path)

    def process(self) -> None:
        """Answer it; the preflight of a page that is allowed, here."""
        origin = self.getHeader(b"origin")
        page = None if origin is None else origin.decode("latin-1")
        cors = self.channel.site.origins.headers(page)
        for name, value in cors.items():
            self.setHeader(name.encode(), value.encode("latin-1"))
        if cors and self.method == b"OPTIONS":
            self.setResponseCode(204)
            self.finish()
        else:
            super().process()

    def handleContentChunk(self, data: bytes) -> None:
        self.came += len(data)
        if self.came <= self._room:
            self.content.write(data)
        elif self.came > self.channel.site.longest_body:
            self.channel.transport.abortConnection()


class DevicePosts(Resource):
    """Everything below ``/api/devices``."""

    isLeaf = True
    _log = Logger()

    def __init__(self, posting: Posting) -> None:
        super().__init__()
        self._posting = posting

    def render(self, request: BoundedRequest) -> int:
        """See ``IResource``."""
        work = Deferred.fromCoroutine(self._answer(request))
        gone = request.notifyFinish()
        gone.addErrback(lambda _: work.cancel())
        work.addCallback(_deliver, request).addErrback(self._broken, request)
        return NOT_DONE_YET

    async def _answer(self, request: BoundedRequest) -> Reply:
        posting = self._posting
        authorization = request.getHeader(b"authorization")
        if request.method != b"POST":
            request.setHeader(b"allow", b"POST")
            return failed(405, "method_not_allowed", "only POST is answered")
        if request.came > posting.max_bytes:
            return posting.refusal(_text(authorization)) or posting.too_large()
        return await posting.answer(request.path, _text(authorization), request.content.read())

    def _broken(self, failure: Failure, request: BoundedRequest) -> None:
        if request._disconnected:
            return
        self._log.failure("answering {path} failed", failure, path=request.path)
        _deliver(failed(500, "internal", "the server made a mistake"), request)


def _text(header: bytes | None) -> str | None:
    return None if header is None else header.decode("utf-8", "replace")


def _deliver(reply: Reply, request: Request) -> None:
    if request._disconnected or request.finished:
        return
    data = msgspec.json.encode(reply.body)
    request.setResponseCode(reply.status)
    request.setHeader(b"content-type", b"application/json")
    request.setHeader(b"cache-control", b"no-store")
    request.setHeader(b"content-length", b"%d" % len(data))
    if reply.status == 401:
        request.setHeader(b"www-authenticate", b"Bearer")
    request.write(data)
    request.finish()
