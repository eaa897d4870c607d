"""What is posted to devices, at the AI service."""

from __future__ import annotations

from twisted.web.server import Request

from xiaozhi.ai.http.answers import HttpAnswer, json_answer
from xiaozhi.ai.http.endpoint import Endpoint, Responder
from xiaozhi.ai.http.headers import header
from xiaozhi.web.posting import Posting, Reply


class PostEndpoint(Endpoint):
    """Everything below ``/api/devices``. The token counts before the body."""

    def __init__(self, posting: Posting) -> None:
        super().__init__(body_limit=posting.max_bytes)
        self._posting = posting

    def responders(self) -> dict[bytes, Responder]:
        """See :class:`Endpoint`."""
        return {b"POST": self._post}

    def admit(self, request: Request) -> HttpAnswer | None:
        """See :class:`Endpoint`."""
        if request.method != b"POST":
            return None
        refused = self._posting.refusal(header(request, "Authorization"))
        return None if refused is None else _answer(refused)

    async def _post(self, request: Request) -> HttpAnswer:
        assert request.content is not None
        token = header(request, "Authorization")
        return _answer(await self._posting.answer(request.path, token, request.content.read()))


def _answer(reply: Reply) -> HttpAnswer:
    return json_answer(reply.body, reply.status)
