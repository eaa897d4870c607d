"""Descriptions of pictures by any vendor that speaks the OpenAI dialect."""

from __future__ import annotations

from base64 import b64encode
from typing import Annotated, Any, ClassVar, Self

import msgspec
from twisted.internet.defer import Deferred
from twisted.web.iweb import IAgent
from zope.interface import implementer

from xiaozhi.base.values import Picture
from xiaozhi.interfaces import IOfModel, IVisionModel, Offload, ProviderRuntime
from xiaozhi.providers.kit.http.client import VendorClient
from xiaozhi.providers.openai.completion import words_of
from xiaozhi.providers.openai.settings import VendorSettings

_ANSWER_LIMIT = 1 << 20


class OpenAIVisionSettings(VendorSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a vision model.

    :ivar instruction: a system message; empty: none is sent.
    :ivar detail: ``low``, ``high`` or ``auto``; empty: the vendor's default.
    """

    model: Annotated[str, msgspec.Meta(min_length=1)]
    instruction: str = "Answer in two or three short sentences, to be read aloud."
    detail: str = ""
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = 500


@implementer(IVisionModel, IOfModel)
class OpenAIVision:
    """``POST /chat/completions`` with the picture as a data URL."""

    Settings: ClassVar[type[msgspec.Struct]] = OpenAIVisionSettings

    def __init__(
        self,
        settings: OpenAIVisionSettings,
        reactor: Any,
        offload: Offload,
        agent: IAgent | None = None,
    ) -> None:
        self.model = settings.model
        self._settings = settings
        self._offload = offload
        self._client = VendorClient(settings, reactor, agent)

    @classmethod
    def make(cls, settings: OpenAIVisionSettings, runtime: ProviderRuntime) -> Self:
        """Make the model; it connects at the first picture."""
        return cls(settings, runtime.reactor, runtime.offload)

    def close(self) -> Deferred[None]:
        """Fail running descriptions and close connections."""
        return self._client.close()

    def describe(self, picture: Picture, question: str) -> Deferred[str]:
        """See :class:`~xiaozhi.interfaces.IVisionModel`."""
        return Deferred.fromCoroutine(self._describe(picture, question))

    async def _describe(self, picture: Picture, question: str) -> str:
        # Encoding megabytes as base64 and JSON takes more than a millisecond.
        body = await self._offload(vision_request, self._settings, picture, question)
        answer = await self._client.post("/chat/completions", body)
        return words_of(self._client, await answer.read(_ANSWER_LIMIT))


def vision_request(settings: OpenAIVisionSettings, picture: Picture, question: str) -> bytes:
    """Return the JSON to send."""
    image = {"url": f"data:{picture.media_type};base64,{b64encode(picture.data).decode()}"}
    if settings.detail:
        image["detail"] = settings.detail
    content = [{"type": "text", "text": question}, {"type": "image_url", "image_url": image}]
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    if settings.instruction:
        messages.insert(0, {"role": "system", "content": settings.instruction})
    request = settings.merged(
        {
            "model": settings.model,
            "messages": messages,
            "temperature": settings.temperature,
            "max_tokens": settings.max_tokens,
        }
    )
    return msgspec.json.encode(request)
