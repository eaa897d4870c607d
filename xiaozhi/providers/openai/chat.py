"""Chat with any vendor that speaks the OpenAI dialect, streamed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from random import Random, SystemRandom
from typing import Annotated, Any, ClassVar, Self

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.web.iweb import IAgent
from zope.interface import implementer

from xiaozhi.base import usage
from xiaozhi.base.errors import ProviderError
from xiaozhi.base.modeltext.reasoning import ThoughtFilter
from xiaozhi.base.values import Delta, Role, ToolSpec, Utterance
from xiaozhi.interfaces import IAdaptive, ILanguageModel, IOfModel, ProviderRuntime
from xiaozhi.providers.kit.http.answer import VendorAnswer
from xiaozhi.providers.kit.http.client import VendorClient
from xiaozhi.providers.openai.body import BadBody, ChatBody
from xiaozhi.providers.openai.completion import Completion, bad_answer
from xiaozhi.providers.openai.offer import USAGE, Offer
from xiaozhi.providers.openai.settings import VendorSettings

# Attempts of one request, each without an option that the vendor has rejected.
_TRIES = 4


class ChatSettings(VendorSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a chat model.

    :ivar temperature: absent: the vendor's default; so is ``max_tokens``.
    :ivar usage: request the token usage (``stream_options``), unless the vendor has rejected that.
        Otherwise usage is estimated.
    :ivar thinks_first: answers begin with reasoning that has only a closing tag: some servers put
        the opening ``<think>`` into the prompt template.
    """

    model: Annotated[str, msgspec.Meta(min_length=1)]
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    usage: bool = True
    thinks_first: bool = False


@implementer(ILanguageModel, IOfModel, IAdaptive)
class OpenAIChat:
    """``POST /chat/completions`` with ``stream``.

    Reasoning (``reasoning_content``, ``<think>``) is dropped. Tool calls are complete, after the
    text. A vendor that rejects tools gets requests without them.

    :param random: for the ids of calls without one.
    :param agent: for tests.
    """

    Settings: ClassVar[type[msgspec.Struct]] = ChatSettings
    _log = Logger()

    def __init__(
        self, settings: ChatSettings, reactor: Any, random: Random, agent: IAgent | None = None
    ) -> None:
        self.model = settings.model
        self._settings = settings
        self._random = random
        self._offer = Offer(usage=settings.usage)
        self._client = VendorClient(settings, reactor, agent)

    @classmethod
    def make(cls, settings: ChatSettings, runtime: ProviderRuntime) -> Self:
        """Make the model; it connects at the first reply."""
        return cls(settings, runtime.reactor, SystemRandom())

    @property
    def refused(self) -> tuple[str, ...]:
        """See :class:`~xiaozhi.interfaces.IAdaptive`."""
        return self._offer.refused

    def close(self) -> Deferred[None]:
        """Fail running replies and close connections."""
        return self._client.close()

    async def reply(
        self, dialogue: Sequence[Utterance], tools: Sequence[ToolSpec]
    ) -> AsyncGenerator[Delta, None]:
        """See :class:`~xiaozhi.interfaces.ILanguageModel`."""
        offer = self._offer
        for tries_left in reversed(range(_TRIES)):
            begun = False
            offered = offer.of(tools)
            try:
                async with aclosing(self._reply(dialogue, offered, offer)) as deltas:
                    async for delta in deltas:
                        if not begun:
                            begun = True
                            self._adopt(offer)
                        yield delta
                self._adopt(offer)
                return
            except ProviderError as error:
                less = offer.lessened(error, offered)
                if begun or less is None or not tries_left:
                    raise
                offer = less

    async def _reply(
        self, dialogue: Sequence[Utterance], tools: Sequence[ToolSpec], offer: Offer
    ) -> AsyncGenerator[Delta, None]:
        request = chat_request(self._settings, [*offer.said(dialogue)], tools, usage=offer.usage)
        answer = await self._client.post("/chat/completions", msgspec.json.encode(request))
        thoughts = ThoughtFilter(begun=self._settings.thinks_first, calls=True)
        names = {tool.name for tool in tools}
        completion = Completion(self._client, self._new_id, thoughts, names)
        try:
            async with aclosing(_events(answer)) as events:
                async for event in events:
                    before = completion.patience
                    for delta in completion.feed(event):
                        yield delta
                    # While the end is uncertain, each further event restarts the wait.
                    if completion.patience != before or not completion.certain:
                        answer.hurry(completion.patience)
        except BadBody as problem:
            error = bad_answer(self._client, problem)
            if not (completion.certain or completion.survives(error)):
                raise error from problem
        except ProviderError as error:
            # Errors after the end do not matter.
            if not completion.survives(error):
                raise
        finally:
            answer.close()
        if completion.usage is not None:
            usage.tokens(*completion.usage)
        for delta in completion.finish():
            yield delta
        if completion.reason == "length":
            self._log.warn("{model} stopped at max_tokens", model=self._settings.model)

    def _adopt(self, offer: Offer) -> None:
        """Remember what the vendor rejected, after it has answered without."""
        known = self._offer
        # Another conversation may have found another rejection meanwhile.
        self._offer = offer = known.and_without(offer)
        if offer.refused != known.refused:
            self._log.warn(
                "{model} rejects {refused}: omitted until a restart",
                model=self._settings.model,
                refused=", ".join(offer.refused),
            )
        if offer.usage != known.usage:
            self._log.info(
                "{model} does not report token usage: it is estimated", model=self._settings.model
            )

    def _new_id(self) -> str:
        return f"call_{self._random.getrandbits(64):016x}"


def chat_request(
    settings: ChatSettings,
    dialogue: Sequence[Utterance],
    tools: Sequence[ToolSpec],
    *,
    usage: bool,
) -> dict[str, Any]:
    """Return the JSON to send.

    :param usage: request the token usage, which is possible only in a stream.
    """
    request = settings.merged(
        {
            "model": settings.model,
            "messages": [_message(entry) for entry in dialogue],
            "stream": True,
            "temperature": settings.temperature,
            "max_tokens": settings.max_tokens,
            "tools": [_tool(tool) for tool in tools] or None,
            USAGE: {"include_usage": True} if usage else None,
        }
    )
    if not request.get("stream"):
        request.pop(USAGE, None)
    return request


def _message(entry: Utterance) -> dict[str, Any]:
    message: dict[str, Any] = {"role": entry.role.value, "content": entry.text}
    if entry.calls:
        message["tool_calls"] = [
            {
                "id": call.call_id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in entry.calls
        ]
    if entry.role is Role.TOOL:
        message["tool_call_id"] = entry.call_id
    return message


def _tool(tool: ToolSpec) -> dict[str, Any]:
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": dict(tool.parameters),
    }
    return {"type": "function", "function": function}


async def _events(answer: VendorAnswer) -> AsyncGenerator[Any, None]:
    """Decode an answer; an invalid body raises :class:`BadBody`."""
    body = ChatBody()
    async with aclosing(answer.chunks()) as chunks:
        async for chunk in chunks:
            for event in body.feed(chunk):
                yield event
    for event in body.finish():
        yield event
