"""Chat with any vendor that speaks the OpenAI dialect, streamed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from random import Random, SystemRandom
from typing import Annotated, Any, ClassVar, Self

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.web.iweb import IAgent
from zope.interface import implementer

from xiaozhi import served
from xiaozhi.errors import ProviderError
from xiaozhi.interfaces import ILanguageModel, IOfModel, ProviderRuntime
from xiaozhi.thoughts import ThoughtFilter
from xiaozhi.values import Delta, Role, TextDelta, ToolCall, ToolSpec, Utterance

from .openai_delta import CallAssembly
from .openai_http import Answer, VendorClient, VendorSettings, error_text
from .sse import EventStream

_ANSWER_LIMIT = 1 << 20
# What may still come once the answer is over ([DONE], usage): s to wait for it,
# so that the connection can be used again.
_AFTERMATH = 0.25
_USAGE = "stream_options"
# Errors inside a stream that another try will not mend.
_LASTING = ("invalid", "authentication", "permission", "not_found", "unsupported")


class ChatSettings(VendorSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """:ivar temperature: left to the vendor if not given; so is ``max_tokens``.

    :ivar usage: ask how many tokens an answer has cost (``stream_options``); a vendor that
        refuses that is not asked again. Otherwise it is estimated.
    :ivar thinks_first: answers begin with a thought that has no ``<think>``, only its end: the
        template of some models on some servers has put it into the question.
    """

    model: Annotated[str, msgspec.Meta(min_length=1)]
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    usage: bool = True
    thinks_first: bool = False


@implementer(ILanguageModel, IOfModel)
class OpenAIChat:
    """``POST /chat/completions`` with ``stream``.

    Thoughts (``reasoning_content``, ``<think>``) are dropped. Tool calls come
    whole, after the text.

    :param random: for the ids of calls that come without.
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
        self._usage = settings.usage
        self._client = VendorClient(settings, reactor, agent)

    @classmethod
    def make(cls, settings: ChatSettings, runtime: ProviderRuntime) -> Self:
        """Nothing is connected before the first reply."""
        return cls(settings, runtime.reactor, SystemRandom())

    def close(self) -> Deferred[None]:
        """Running replies fail, connections are closed."""
        return self._client.close()

    async def reply(
        self, dialogue: Sequence[Utterance], tools: Sequence[ToolSpec]
    ) -> AsyncGenerator[Delta, None]:
        """See :class:`~xiaozhi.interfaces.ILanguageModel`."""
        answer = await self._ask(dialogue, tools)
        thoughts = ThoughtFilter(begun=self._settings.thinks_first, calls=True)
        completion = _Completion(self._client, self._new_id, thoughts)
        try:
            async with aclosing(_events(answer)) as events:
                async for event in events:
                    for delta in completion.feed(event):
                        yield delta
                    if completion.over:
                        answer.hurry(_AFTERMATH)
        except ProviderError as error:
            # What comes after the end is of no importance.
            if not (completion.over and error.code in ("timeout", "connection_lost")):
                raise
        finally:
            answer.close()
        if completion.usage is not None:
            served.tokens(*completion.usage)
        for delta in completion.finish():
            yield delta
        if completion.reason == "length":
            self._log.warn("{model} stopped at max_tokens", model=self._settings.model)

    async def _ask(self, dialogue: Sequence[Utterance], tools: Sequence[ToolSpec]) -> Answer:
        def body() -> bytes:
            request = chat_request(self._settings, dialogue, tools, usage=self._usage)
            return msgspec.json.encode(request)

        try:
            return await self._client.post("/chat/completions", body())
        except ProviderError as error:
            refused = error.code == "bad_request" and _USAGE in error.message
            if not (self._usage and refused):
                raise
        self._usage = False
        self._log.info("{model} does not tell what an answer costs", model=self._settings.model)
        return await self._client.post("/chat/completions", body())

    def _new_id(self) -> str:
        return f"call_{self._random.getrandbits(64):016x}"


def chat_request(
    settings: ChatSettings,
    dialogue: Sequence[Utterance],
    tools: Sequence[ToolSpec],
    *,
    usage: bool,
) -> dict[str, Any]:
    """The JSON to send.

    :param usage: ask what it costs, which is possible in a stream only.
    """
    request = settings.merged(
        {
            "model": settings.model,
            "messages": [_message(entry) for entry in dialogue],
            "stream": True,
            "temperature": settings.temperature,
            "max_tokens": settings.max_tokens,
            "tools": [_tool(tool) for tool in tools] or None,
            _USAGE: {"include_usage": True} if usage else None,
        }
    )
    if not request.get("stream"):
        request.pop(_USAGE, None)
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


async def _events(answer: Answer) -> AsyncGenerator[str, None]:
    """The data of each event; an answer that is plain JSON is one event."""
    if answer.media_type == "application/json":
        yield (await answer.read(_ANSWER_LIMIT)).decode("utf-8", "replace")
        return
    stream = EventStream()
    try:
        async with aclosing(answer.chunks()) as chunks:
            async for chunk in chunks:
                for event in stream.feed(chunk):
                    yield event
    except ValueError as error:
        raise ProviderError("bad_answer", str(error), retryable=True) from error
    for event in stream.finish():
        yield event


class _Completion:
    """One answer as it comes in.

    :ivar over: the vendor said that the answer is complete.
    :ivar reason: ``finish_reason``, empty until then.
    :ivar usage: tokens of the question and of the answer, if the vendor told them.
    """

    def __init__(self, client: VendorClient, new_id: Any, thoughts: ThoughtFilter) -> None:
        self._client = client
        self._calls = CallAssembly(new_id)
        self._thoughts = thoughts
        self._said = False
        self.over = False
        self.reason = ""
        self.usage: tuple[int, int] | None = None

    def feed(self, event: str) -> Iterator[Delta]:
        """One event's data."""
        if event.strip() == "[DONE]":
            self.over = True
            return
        choice = self._choice(event)
        if choice is None:
            return
        delta = choice.get("delta") or choice.get("message")
        if isinstance(delta, dict):
            text = self._thoughts.feed(_text(delta.get("content")))
            if text:
                self._said = True
                yield TextDelta(text)
            calls = delta.get("tool_calls")
            for call in calls if isinstance(calls, list) else ():
                if isinstance(call, dict):
                    self._calls.feed(call)
        if choice.get("finish_reason"):
            self.reason = str(choice["finish_reason"])
            self.over = True
            yield from self._rest()

    def finish(self) -> Iterator[Delta]:
        """The stream ended.

        :raises ProviderError: it was not at its end.
        """
        if not self.over:
            raise ProviderError("connection_lost", "the answer broke off", retryable=True)
        yield from self._rest()
        if self.reason == "content_filter" and not self._said:
            raise ProviderError("refused", "the vendor's filter held it back", retryable=False)

    def _rest(self) -> Iterator[TextDelta | ToolCall]:
        text = self._thoughts.finish()
        if text:
            self._said = True
            yield TextDelta(text)
        yield from self._calls.finish()

    def _choice(self, event: str) -> dict[str, Any] | None:
        try:
            chunk = msgspec.json.decode(event)
        except msgspec.DecodeError as error:
            raise ProviderError(
                "bad_answer",
                f"the stream holds something that is not JSON: {error}",
                retryable=True,
            ) from error
        if not isinstance(chunk, dict):
            return None
        if chunk.get("error"):
            raise self._error(chunk["error"], event)
        # In the last event, which has no choice, or in every one, as far as it has come.
        self.usage = _usage(chunk.get("usage")) or self.usage
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        return choice if isinstance(choice, dict) else None

    def _error(self, error: Any, event: str) -> ProviderError:
        code = error.get("code") if isinstance(error, dict) else None
        if isinstance(code, int) and 400 <= code < 600:
            return self._client.refusal(code, event.encode())
        kind = f"{error.get('type')} {code}" if isinstance(error, dict) else ""
        lasting = any(word in kind for word in _LASTING)
        text = self._client.shorten(error_text(event.encode()))
        return ProviderError("vendor_error", f"the vendor reports: {text}", retryable=not lasting)


def _usage(value: Any) -> tuple[int, int] | None:
    told = value if isinstance(value, dict) else {}
    tokens = (told.get("prompt_tokens"), told.get("completion_tokens"))
    return tokens if all(isinstance(n, int) and n >= 0 for n in tokens) else None  # type: ignore[return-value]


def _text(content: Any) -> str:
    """Content is a text, or a list of parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else ()
    return "".join(
        p["text"] for p in parts if isinstance(p, dict) and isinstance(p.get("text"), str)
    )
