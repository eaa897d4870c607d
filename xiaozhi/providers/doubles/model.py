"""Double of a language model: scripted answers and calls of tools."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import msgspec
from zope.interface import implementer

from xiaozhi.base.values import Delta, Role, TextDelta, ToolCall, ToolSpec, Utterance
from xiaozhi.interfaces import ILanguageModel, IProvider
from xiaozhi.providers.doubles.base import Double, DoubleSettings, Seconds


class ScriptedCall(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A tool to call.

    :ivar when: call it only if the person's last words contain this.
    :ivar arguments: a JSON object; a value ``{words}`` stands for those words.
    """

    name: str
    arguments: dict[str, Any] = {}
    when: str = ""


class ModelSettings(DoubleSettings, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Settings of :class:`ScriptedModel`.

    :ivar answers: answers in turn, then from the start again. ``{words}`` stands for the
        person's words.
    :ivar replies: answers by the person's exact words; preferred to ``answers``.
    :ivar recall: words that are answered with what the person said before them.
    :ivar calls: tools to call instead of an answer, if they are offered.
    :ivar token_delay: seconds between the words of an answer.
    """

    answers: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = ("All right.",)
    replies: dict[str, str] = msgspec.field(default_factory=dict)
    recall: str = ""
    calls: tuple[ScriptedCall, ...] = ()
    token_delay: Seconds = 0.0


@implementer(ILanguageModel, IProvider)
class ScriptedModel(Double):
    """Answers word by word; an answer to a tool's result is the result itself."""

    Settings: ClassVar[type[msgspec.Struct]] = ModelSettings
    _next = 0
    _calls = 0

    async def reply(
        self, dialogue: Sequence[Utterance], tools: Sequence[ToolSpec]
    ) -> AsyncGenerator[Delta, None]:
        """See :class:`ILanguageModel`."""
        last = dialogue[-1]
        crawl = await self._begin(last.text)
        if last.role is not Role.TOOL:
            calls = self._calls_for(last.text, tools)
            for call in calls:
                yield call
            if calls:
                return
        for number, word in enumerate(_words(self._answer(dialogue))):
            if number:
                await self._sleep(self._settings.token_delay + crawl)
            yield TextDelta(word)

    def _calls_for(self, said: str, tools: Sequence[ToolSpec]) -> list[ToolCall]:
        offered = {tool.name for tool in tools}
        calls = []
        for call in self._settings.calls:
            if call.name in offered and call.when in said:
                self._calls += 1
                filled = {
                    key: said if value == "{words}" else value
                    for key, value in call.arguments.items()
                }
                arguments = msgspec.json.encode(filled).decode()
                calls.append(ToolCall(f"call-{self._calls}", call.name, arguments))
        return calls

    def _answer(self, dialogue: Sequence[Utterance]) -> str:
        *earlier, last = dialogue
        if last.role is Role.TOOL:
            return last.text
        if last.text and last.text == self._settings.recall:
            said = [each.text for each in earlier if each.role is Role.USER]
            return said[-1] if said else "Nothing."
        replies: Mapping[str, str] = self._settings.replies
        if last.text in replies:
            return replies[last.text]
        answers: tuple[str, ...] = self._settings.answers
        answer = answers[self._next % len(answers)]
        self._next += 1
        return answer.replace("{words}", last.text)


def _words(text: str) -> list[str]:
    """Split a text into words, each with the space before it."""
    return [(" " if number else "") + word for number, word in enumerate(text.split(" ")) if word]
