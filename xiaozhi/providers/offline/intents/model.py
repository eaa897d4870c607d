"""A language model without a neural network: it matches intents and looks up answers."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from random import Random
from string import Formatter
from typing import Any, ClassVar, Literal, Self

import msgspec
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from xiaozhi.base.values import Delta, TextDelta, ToolCall, ToolSpec, Utterance
from xiaozhi.interfaces import ILanguageModel, ProviderRuntime
from xiaozhi.providers.offline.intents.book import Argument, Book, Match, book
from xiaozhi.providers.offline.intents.course import Course, ToolAnswer, read_course
from xiaozhi.providers.offline.intents.phrases import Language, language_of
from xiaozhi.providers.offline.intents.spoken import SPOKEN
from xiaozhi.providers.offline.intents.toolkinds import OfferedTools, arguments_for

# A Chinese character, or a word with the space after it.
_PIECE = re.compile(r"[\u3000-\u9fff\uff00-\uffef]\s*|[^\s\u3000-\u9fff\uff00-\uffef]+\s*|\s+")


class IntentSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the offline language model.

    :ivar language: ``auto`` follows the person from sentence to sentence.
    :ivar name: the name by which the assistant introduces itself; empty: the default of the
        language.
    """

    language: Literal["auto", "en", "zh"] = "auto"
    name: str = ""


class _Unknown(Exception):
    """The device's status lacks a required field."""


@implementer(ILanguageModel)
class IntentModel:
    """Answers from phrase books, in English and Chinese, offline.

    An intent that needs a tool is executed if the tool is offered; otherwise the answer is that the
    device cannot do it.

    :param random: chooses among the variants of an answer.
    """

    Settings: ClassVar[type[msgspec.Struct]] = IntentSettings

    def __init__(self, settings: IntentSettings, random: Random) -> None:
        self._settings = settings
        self._random = random
        languages: tuple[Language, ...] = ("en", "zh")
        self._books = {language: book(language) for language in languages}

    @classmethod
    def make(cls, settings: IntentSettings, runtime: ProviderRuntime) -> Self:
        """Make the model.

        :raises ConfigError: a phrase book has an error.
        """
        return cls(settings, Random())

    def close(self) -> Deferred[None]:
        """Do nothing: there is nothing to release."""
        return succeed(None)

    async def reply(
        self, dialogue: Sequence[Utterance], tools: Sequence[ToolSpec]
    ) -> AsyncGenerator[Delta, None]:
        """See :class:`~xiaozhi.interfaces.ILanguageModel`."""
        course = read_course(dialogue)
        setting = self._settings.language
        language = language_of(course.utterance) if setting == "auto" else setting
        step = _Step(self._books[language], course, OfferedTools(tools), self)
        outcome = step.next()
        if isinstance(outcome, ToolCall):
            yield outcome
            return
        for piece in _PIECE.findall(outcome):
            yield TextDelta(piece)

    def choose(self, variants: Sequence[str]) -> str:
        """Choose one variant at random."""
        return self._random.choice(variants)

    def call(self, name: str, arguments: Mapping[str, Any]) -> ToolCall:
        """Make a call with a new id."""
        call_id = f"call_{self._random.getrandbits(64):016x}"
        return ToolCall(call_id, name, json.dumps(arguments, ensure_ascii=False))

    def name(self, language: Language) -> str:
        """Return the assistant's name."""
        return self._settings.name or ("小智" if language == "zh" else "Xiaozhi")


class _Step:
    """The next step of one dialogue: a tool to call or words to say."""

    def __init__(
        self, book: Book, course: Course, offered: OfferedTools, model: IntentModel
    ) -> None:
        self._book = book
        self._page = book.page
        self._course = course
        self._offered = offered
        self._model = model

    def next(self) -> ToolCall | str:
        found = self._book.match(self._course.utterance)
        if found is None:
            return self._unmatched()
        kind = found.action.tool
        if not kind:
            return self._answer(found, {})
        result = self._result(kind)
        if result is not None:
            return self._outcome(found, result)
        tool = self._offered.find(kind)
        if tool is None:
            if found.action.needed:
                return self._say(self._page.unavailable)
            return self._answer(found, {})
        if found.number is not None and found.number > 100:
            return self._say(self._page.out_of_range)
        return self._call(found, tool)

    def _result(self, kind: str) -> ToolAnswer | None:
        return self._course.result(lambda name: self._offered.is_of(name, kind))

    def _unmatched(self) -> str:
        if not self._course.answering:
            return self._say(self._page.fallback)
        # Another model called the tools and failed since: answer from their results.
        result = self._course.results[-1]
        if result.failed:
            return self._failure(result)
        return result.words or self._say(self._page.done)

    def _call(self, found: Match, tool: ToolSpec) -> ToolCall | str:
        status = None
        if found.action.status:
            status = self._result("status")
            if status is None:
                telling = self._offered.find("status")
                if telling is None:
                    return self._say(self._page.unavailable)
                return self._model.call(telling.name, {})
            if status.failed:
                return self._failure(status)
        try:
            arguments = arguments_for(tool, self._arguments(found, status))
            return self._model.call(tool.name, arguments)
        except _Unknown:
            return self._say(self._page.unknown_state)

    def _arguments(self, found: Match, status: ToolAnswer | None) -> dict[str, Any]:
        return {
            name: self._argument(argument, found, status)
            for name, argument in found.action.arguments.items()
        }

    def _argument(self, argument: Argument, found: Match, status: ToolAnswer | None) -> int | str:
        if argument.value is not None:
            return argument.value
        if argument.slot == "utterance":
            return self._course.utterance
        number = found.number or 0
        if argument.slot:
            return number
        current = status.field(argument.status) if status is not None else None
        if not isinstance(current, int | float) or isinstance(current, bool):
            raise _Unknown
        by = argument.by
        if isinstance(by, str):
            by = -number if by.startswith("-") else number
        return max(0, min(100, int(current) + by))

    def _outcome(self, found: Match, result: ToolAnswer) -> str:
        if result.failed:
            return self._failure(result)
        facts: dict[str, str] = {}
        for name, paths in found.action.facts.items():
            values = (result.field(path) for path in paths)
            value = next((v for v in values if v is not None and v != ""), None)
            if value is not None:
                facts[name] = self._in_words(name, value)
        if found.action.arguments:
            status = self._result("status") if found.action.status else None
            try:
                given = self._arguments(found, status)
            except _Unknown:
                return self._say(self._page.done)
            facts |= {name: self._in_words(name, value) for name, value in given.items()}
        return self._answer(found, facts)

    def _answer(self, found: Match, facts: dict[str, str]) -> str:
        intent = found.intent
        facts = facts | self._standing_facts()
        if intent.sentences:
            told = [s.format_map(facts) for s in intent.sentences if _fields(s) <= facts.keys()]
            joint = " " if self._book.language == "en" else ""
            return joint.join(told) or self._say(self._page.unknown_state)
        fitting = [answer for answer in intent.answers if _fields(answer) <= facts.keys()]
        if not fitting:
            return self._say(self._page.unknown_state)
        richest = max(len(_fields(answer)) for answer in fitting)
        fitting = [answer for answer in fitting if len(_fields(answer)) == richest]
        return self._model.choose(fitting).format_map(facts)

    def _standing_facts(self) -> dict[str, str]:
        able = [said for kind, said in self._page.able.items() if self._offered.find(kind)]
        able += self._page.always_able
        comma = ", " if self._book.language == "en" else "，"
        abilities = self._page.joint.join(filter(None, (comma.join(able[:-1]), able[-1])))
        last = self._course.last_answer or self._say(self._page.fallback)
        return {
            "abilities": abilities,
            "last": last,
            "name": self._model.name(self._book.language),
        }

    def _in_words(self, name: str, value: Any) -> str:
        text = str(value).lower() if isinstance(value, bool) else str(value)
        if name in SPOKEN:
            try:
                return SPOKEN[name](text, self._book.language)
            except ValueError:
                return text
        return self._page.words.get(name, {}).get(text, text)

    def _failure(self, result: ToolAnswer) -> str:
        if result.reason:
            return self._say(self._page.failed_because).format(reason=result.reason)
        return self._say(self._page.failed)

    def _say(self, variants: Sequence[str]) -> str:
        return self._model.choose(variants)


def _fields(template: str) -> set[str]:
    return set(_field_names(template))


def _field_names(template: str) -> Iterator[str]:
    return (name for _, name, _, _ in Formatter().parse(template) if name)
