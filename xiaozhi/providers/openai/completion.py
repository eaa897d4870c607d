"""One chat answer as it comes in: its words, its tool calls, and when it is over.

By the book ``finish_reason`` is null but in the last chunk, ``[DONE]`` follows, and each word
comes once. Vendors put a reason on every chunk, leave out either end, or repeat the whole
answer at its end.
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

# Seconds in which something may still come: after the end; after a first chunk that says
# that it is the last; after one of many that say so. A turn that waits for longer bridges that
# with a phrase (``session.turn.bridge``): the end of the last sentence is not known yet.
_CERTAIN, _DOUBTFUL, _LOOSE = 0.25, 2.0, 2.8
_NO_REASON = ("", "null", "none")
_FILTERED = ("content_filter", "sensitive", "safety", "recitation", "prohibited_content")
_FAILED = ("error", "network_error", "insufficient_system_resource", "abort")
_THINKING = ("thinking", "reasoning", "thought", "redacted_thinking")
# Shorter than this, words may really be said twice.
_REPEATED = 10
# Characters of an answer that are kept to know its repetition.
_KEPT = 1 << 18


class Completion:
    """The contents of one answer.

    :param new_id: makes an id for a call that has none.
    :param names: of the tools that may be called.
    :ivar reason: ``finish_reason``, lower case; empty until then.
    :ivar usage: tokens of the question and of the answer, if the vendor told them.
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
        # The text as it came, thoughts included.
        self._raw: list[str] = []
        self._raw_size = 0
        # A chunk with something in it came without a reason: reasons mean something. Alone,
        # that is: behind words it may be on the chunks that follow, too.
        self._unfinished = False
        self._alone = False
        # Something came after a reason: they mean nothing.
        self._loose = False
        self.reason = ""
        self.usage: tuple[int, int] | None = None

    @property
    def over(self) -> bool:
        """Whether the vendor said that the answer is complete."""
        return self._done or bool(self.reason)

    @property
    def certain(self) -> bool:
        """Whether that can be believed."""
        return self._done or (self._alone and self._unfinished and not self._loose)

    @property
    def patience(self) -> float | None:
        """Seconds in which the next piece must come, or the answer is over; None: it goes on."""
        if self.certain:
            return _CERTAIN
        if not self.reason:
            return None
        return _LOOSE if self._loose else _DOUBTFUL

    def survives(self, error: ProviderError) -> bool:
        """Whether an error while reading comes too late to matter."""
        if error.code == "timeout":
            return self.over
        return self.over and error.code == "connection_lost" and (self._done or not self._loose)

    def feed(self, value: Any) -> Iterator[Delta]:
        """One event, decoded.

        :raises ProviderError: it reports an error, or calls do not end.
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
        """The body ended, as it should or because nothing more is to come.

        :raises ProviderError: nothing came, or less than all.
        """
        if not self.over:
            if self._calls.incomplete:
                raise ProviderError("connection_lost", "the answer broke off", retryable=True)
            if not (self._raw or self._called):
                raise ProviderError("bad_answer", "the answer is empty", retryable=True)
        yield from self._rest()
        if self.reason in _FILTERED and not self._said:
            raise ProviderError("refused", "the vendor's filter held it back", retryable=False)

    def _take(self, chunk: dict[str, Any]) -> Iterator[Delta]:
        # In the last event, which has no choice, or in every one, as far as it has come.
        self.usage = _usage(chunk.get("usage")) or self.usage
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return
        reason = str(choice.get("finish_reason") or "").lower()
        reason = "" if reason in _NO_REASON else reason
        delta, message = choice.get("delta"), choice.get("message")
        if isinstance(delta, str) or (delta is None and message is None):
            # Of the completions without chat.
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
            raise ProviderError("vendor_error", f"the vendor ends with {reason}", retryable=True)
        if self.certain:
            yield from self._rest()

    def _judge(self, reason: str, something: bool) -> None:
        if something:
            self._loose = self._loose or (bool(self.reason) and bool(reason))
            if not reason:
                self._unfinished = True
                # Something after the end: it was none.
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
        """Whether a last delta says the whole answer once more."""
        if len(text) < _REPEATED or len(text) != self._raw_size or len(self._raw) < 2:
            return False
        return text == self._so_far()

    def _news(self, text: str) -> str:
        """Return the part of a whole answer that has not come before."""
        if not self._raw or not text:
            return text
        known = self._so_far()
        if self._raw_size > _KEPT:
            return ""
        if text.startswith(known):
            return text[len(known) :]
        if self._said or "".join(text.split()) == "".join(known.split()):
            return ""
        # All that came was thought; it is not in the message.
        self._thoughts = ThoughtFilter(calls=True)
        return text

    def _take_calls(self, message: dict[str, Any]) -> bool:
        calls = message.get("tool_calls")
        told = [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
        if not told and isinstance(old := message.get("function_call"), dict):
            told = [{"index": 0, "function": old}]
        for call in told:
            self._calls.feed(call)
        return bool(told)

    def _rest(self) -> Iterator[TextDelta | ToolCall]:
        text = self._thoughts.finish()
        if text:
            self._said = True
            yield TextDelta(text)
        yield from self._calls.finish()


def bad_answer(client: VendorClient, problem: BadBody) -> ProviderError:
    """:return: the error for a body that is no chat answer."""
    text = client.shorten(str(problem))
    if isinstance(problem, CutBody):
        return ProviderError("connection_lost", f"the answer broke off: {text}", retryable=True)
    return ProviderError("bad_answer", f"{client.place} sends {text}", retryable=True)


def words_of(client: VendorClient, data: bytes) -> str:
    """Read a whole answer.

    :return: its words without thoughts.
    :raises ProviderError: it has none, or reports an error.
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
        raise ProviderError("bad_answer", "no words in the answer", retryable=True)
    return words


def _usage(value: Any) -> tuple[int, int] | None:
    told = value if isinstance(value, dict) else {}
    tokens = (told.get("prompt_tokens"), told.get("completion_tokens"))
    return tokens if all(isinstance(n, int) and n >= 0 for n in tokens) else None  # type: ignore[return-value]


def _text(message: dict[str, Any]) -> str:
    """Content is a text, or parts of which some are thoughts; a refusal is an answer, too."""
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
