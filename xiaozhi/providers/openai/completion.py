"""One chat answer as it arrives: its text, its tool calls, and its end.

By the specification ``finish_reason`` is null except in the last chunk, ``[DONE]`` follows, and
each piece of text is sent once. Vendors set a reason in every chunk, omit either end mark, or
repeat the whole answer at its end.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

from xiaozhi.base.errors import ProviderError
from xiaozhi.base.modeltext.reasoning import ThoughtFilter
from xiaozhi.base.values import Delta, TextDelta, ToolCall
from xiaozhi.providers.kit.http.client import VendorClient
from xiaozhi.providers.openai.body import DONE, BadBody, ChatBody, CutBody
from xiaozhi.providers.openai.delta import CallAssembly

# Seconds to wait for more: after the certain end; after the first chunk with a reason; after one of
# many chunks with a reason. The last sentence is not complete until then, so longer waits would
# cause a bridging phrase (``session.turn.bridge``).
_CERTAIN, _DOUBTFUL, _LOOSE = 0.25, 2.0, 2.8
_NO_REASON = ("", "null", "none")
_FILTERED = ("content_filter", "sensitive", "safety", "recitation", "prohibited_content")
_FAILED = ("error", "network_error", "insufficient_system_resource", "abort")
_THINKING = ("thinking", "reasoning", "thought", "redacted_thinking")
# A shorter text may be a genuine repetition.
_REPEATED = 10
# Characters of an answer that are kept to detect its repetition.
_KEPT = 1 << 18


class Completion:
    """The contents of one answer.

    :param new_id: makes an id for a call without one.
    :param names: of the tools that may be called.
    :ivar reason: ``finish_reason``, lower case; empty until then.
    :ivar usage: tokens of the prompt and of the answer, if the vendor reports them.
    """

    def __init__(
        self,
        client: VendorClient,
        new_id: Callable[[], str],
        thoughts: ThoughtFilter,
        names: Collection[str] = (),
    ) -> None:
        self._client = client
        self._calls = CallAssembly(new_id, names)
        self._thoughts = thoughts
        self._done = False
        self._said = False
        self._called = False
        # The text as received, with reasoning.
        self._raw: list[str] = []
        self._raw_size = 0
        # _unfinished: a chunk with content had no reason, so reasons are meaningful. _alone: the
        # reason came in a chunk without content; with content, later chunks may repeat it.
        self._unfinished = False
        self._alone = False
        # Content followed a reason, so reasons are meaningless.
        self._loose = False
        self.reason = ""
        self.usage: tuple[int, int] | None = None

    @property
    def over(self) -> bool:
        """Whether the vendor declared the answer complete."""
        return self._done or bool(self.reason)

    @property
    def certain(self) -> bool:
        """Whether that declaration is reliable."""
        return self._done or (self._alone and self._unfinished and not self._loose)

    @property
    def patience(self) -> float | None:
        """Seconds to wait for the next piece until the answer is over; None: it continues."""
        if self.certain:
            return _CERTAIN
        if not self.reason:
            return None
        return _LOOSE if self._loose else _DOUBTFUL

    def survives(self, error: ProviderError) -> bool:
        """Return whether an error while reading comes too late to matter."""
        if error.code == "timeout":
            return self.over
        return self.over and error.code == "connection_lost" and (self._done or not self._loose)

    def feed(self, value: Any) -> Iterator[Delta]:
        """Process one decoded event.

        :raises ProviderError: it reports an error, or the tool calls are too long.
        """
        if value is DONE:
            self._done = True
            return
        if (error := self._client.reported(value)) is not None:
            raise error
        for chunk in value if isinstance(value, list) else (value,):
            if isinstance(chunk, dict):
                yield from self._take(chunk)

    def finish(self) -> Iterator[Delta]:
        """Process the end of the body, or of the wait for more.

        :raises ProviderError: the answer is empty or incomplete.
        """
        if not self.over:
            if self._calls.incomplete:
                raise ProviderError("connection_lost", "the answer broke off", retryable=True)
            if not (self._raw or self._called):
                raise ProviderError("bad_answer", "the answer is empty", retryable=True)
        yield from self._rest()
        if self.reason in _FILTERED and not self._said:
            raise ProviderError(
                "refused", "the vendor's filter withheld the answer", retryable=False
            )

    def _take(self, chunk: dict[str, Any]) -> Iterator[Delta]:
        # In the last event, which has no choice, or in every event, up to that point.
        self.usage = _usage(chunk.get("usage")) or self.usage
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return
        reason = str(choice.get("finish_reason") or "").lower()
        reason = "" if reason in _NO_REASON else reason
        delta, message = choice.get("delta"), choice.get("message")
        if isinstance(delta, str) or (delta is None and message is None):
            # The format of plain completions.
            delta = {"content": delta or choice.get("text")}
        pieces, calls = "", False
        if isinstance(delta, dict):
            pieces, calls = _text(delta), self._take_calls(delta)
            if reason and self._repeats(pieces):
                pieces = ""
        if isinstance(message, dict):
            if not pieces:
                pieces = self._news(_text(message))
            calls = calls or (not self._called and self._take_calls(message))
        self._called = self._called or calls
        self._judge(reason, bool(pieces.strip()) or calls)
        if pieces:
            yield from self._say(pieces)
        if reason in _FAILED:
            raise ProviderError(
                "vendor_error", f"the vendor ended the answer with {reason}", retryable=True
            )
        if self.certain:
            yield from self._rest()

    def _judge(self, reason: str, something: bool) -> None:
        if something:
            self._loose = self._loose or (bool(self.reason) and bool(reason))
            if not reason:
                self._unfinished = True
                # Content after the end: it was not the end.
                self.reason = ""
        self.reason = reason or self.reason
        self._alone = bool(self.reason) and not something

    def _say(self, text: str) -> Iterator[TextDelta]:
        if self._raw_size <= _KEPT:
            self._raw.append(text)
            self._raw_size += len(text)
        if said := self._thoughts.feed(text):
            self._said = True
            yield TextDelta(said)

    def _so_far(self) -> str:
        self._raw = ["".join(self._raw)]
        return self._raw[0]

    def _repeats(self, text: str) -> bool:
        """Return whether a last delta repeats the whole answer."""
        if len(text) < _REPEATED or len(text) != self._raw_size or len(self._raw) < 2:
            return False
        return text == self._so_far()

    def _news(self, text: str) -> str:
        """Return the part of a whole answer that has not been received before."""
        if not self._raw or not text:
            return text
        known = self._so_far()
        if self._raw_size > _KEPT:
            return ""
        if text.startswith(known):
            return text[len(known) :]
        if self._said or "".join(text.split()) == "".join(known.split()):
            return ""
        # Everything received was reasoning, which the message does not contain.
        self._thoughts = ThoughtFilter(calls=True)
        return text

    def _take_calls(self, message: dict[str, Any]) -> bool:
        calls = message.get("tool_calls")
        entries = (
            [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
        )
        if not entries and isinstance(old := message.get("function_call"), dict):
            entries = [{"index": 0, "function": old}]
        for call in entries:
            self._calls.feed(call)
        return bool(entries)

    def _rest(self) -> Iterator[TextDelta | ToolCall]:
        text = self._thoughts.finish()
        if text:
            self._said = True
            yield TextDelta(text)
        yield from self._calls.finish()


def bad_answer(client: VendorClient, problem: BadBody) -> ProviderError:
    """Make the error for a body that is not a chat answer."""
    text = client.shorten(str(problem))
    if isinstance(problem, CutBody):
        return ProviderError("connection_lost", f"the answer broke off: {text}", retryable=True)
    return ProviderError("bad_answer", f"{client.place} sent {text}", retryable=True)


def words_of(client: VendorClient, data: bytes) -> str:
    """Read a whole answer.

    :return: its text without reasoning.
    :raises ProviderError: it has no text, or reports an error.
    """
    body = ChatBody(max(len(data), 1))
    completion = Completion(client, str, ThoughtFilter())
    deltas: list[Delta] = []
    try:
        for event in (*body.feed(data), *body.finish()):
            deltas += completion.feed(event)
    except BadBody as problem:
        raise bad_answer(client, problem) from problem
    deltas += completion.finish()
    words = "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)).strip()
    if not words:
        raise ProviderError("bad_answer", "the answer has no words", retryable=True)
    return words


def _usage(value: Any) -> tuple[int, int] | None:
    counts = value if isinstance(value, dict) else {}
    tokens = (counts.get("prompt_tokens"), counts.get("completion_tokens"))
    return tokens if all(isinstance(n, int) and n >= 0 for n in tokens) else None  # type: ignore[return-value]


def _text(message: dict[str, Any]) -> str:
    """Return the content: a text, or parts without the reasoning; a refusal is an answer too."""
    content = message.get("content")
    if not content and isinstance(message.get("refusal"), str):
        content = message["refusal"]
    parts = content if isinstance(content, list) else (content,)
    return "".join(map(_part, parts))


def _part(part: Any) -> str:
    if isinstance(part, dict) and part.get("type") not in _THINKING:
        part = part.get("text")
        if isinstance(part, dict):
            part = part.get("value")
    return part if isinstance(part, str) else ""
