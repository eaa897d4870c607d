"""The base of everything that answers at a path."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from xiaozhi.ai.http.answers import HttpAnswer, deliver, failure, refusal
from xiaozhi.base.errors import XiaozhiError

Responder = Callable[[Request], Awaitable[HttpAnswer]]


class Endpoint(Resource):
    """Answers ``GET``, ``HEAD``, ``POST`` and ``OPTIONS``; subclasses say how.

    :ivar body_limit: bytes of a request's body; more is refused with 413 while
        it comes in.
    """

    _log = Logger()

    isLeaf = True

    def __init__(self, body_limit: int) -> None:
        super().__init__()
        self.body_limit = body_limit
        self._responders = self.responders()

    def responders(self) -> dict[bytes, Responder]:
        """The methods there are."""
        raise NotImplementedError

    def admit(self, request: Request) -> HttpAnswer | None:
        """Judge a request by its headers; a refused one's body is thrown away
        as it comes. None: let it in."""
        return None

    def render(self, request: Request) -> int:
        """See ``IResource``."""
        method = request.method
        responder = self._responders.get(b"GET" if method == b"HEAD" else method)
        if responder is not None:
            self._start(request, responder)
        elif method == b"OPTIONS":
            deliver(request, HttpAnswer(204, b"", ""))
        else:
            allow = b", ".join([*sorted(self._responders), b"OPTIONS"]).decode()
            body = failure("method_not_allowed", f"here one may {allow}", 405)
            deliver(request, HttpAnswer(405, body.body, body.content_type, allow))
        return NOT_DONE_YET

    def _start(self, request: Request, responder: Responder) -> None:
        async def respond() -> None:
            try:
                answer = await responder(request)
            except CancelledError:
                return
            except XiaozhiError as error:
                answer = refusal(error)
            deliver(request, answer)

        work = Deferred.fromCoroutine(respond())
        # A client that has gone needs no answer: end the work for it.
        request.notifyFinish().addErrback(lambda _: work.cancel())
        work.addErrback(request.processingFailed)
