"""The phrase books: phrases, actions and answers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec

from xiaozhi.base.errors import ConfigError
from xiaozhi.providers.offline.intents.phrases import (
    Language,
    Part,
    normalise,
    parse,
    pattern,
    read_number,
)
from xiaozhi.providers.offline.intents.toolkinds import TOOL_KINDS

_CLAUSE_END = re.compile(r"[,.!?;:，。！？；：、\n]+")

# The books have no longer phrase and no longer series of courtesies. These limits keep matching
# fast for any typed text.
_LENGTH_LIMIT = 300
_COURTESY_LIMIT = 4
_CLAUSE_LIMIT = 6


class Argument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The source of a tool's argument; see the head of ``actions.yaml``."""

    value: int | str | None = None
    slot: str = ""
    status: str = ""
    by: int | str = 0


class Action(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The action of an intent; see the head of ``actions.yaml``."""

    tool: str = ""
    needed: bool = True
    status: bool = False
    arguments: dict[str, Argument] = {}
    facts: dict[str, tuple[str, ...]] = {}


class Intent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The phrases of an intent and its answers.

    :ivar answers: variants. Of those whose facts are all known, one of the most detailed is chosen
        at random.
    :ivar sentences: instead of ``answers``: every one whose facts are known is spoken.
    """

    id: str
    phrases: tuple[str, ...]
    typed: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()


Lines = tuple[str, ...]


class Page(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"joint": "and"}):
    """The file of one language, as it is written."""

    leading: Lines
    trailing: Lines
    fallback: Lines
    unavailable: Lines
    failed: Lines
    failed_because: Lines
    out_of_range: Lines
    unknown_state: Lines
    done: Lines
    always_able: Lines
    able: dict[str, str]
    joint: str
    intents: tuple[Intent, ...]
    words: dict[str, dict[str, str]] = {}


@dataclass(frozen=True, slots=True)
class Match:
    """A recognised utterance.

    :ivar number: the slot ``number``, if the phrase has one.
    """

    intent: Intent
    action: Action
    number: int | None = None


class Book:
    """The phrases of one language, ready to match."""

    def __init__(self, language: Language, page: Page, actions: dict[str, Action]) -> None:
        self.language = language
        self.page = page
        nothing = Action()
        leading, trailing = self._any_of(page.leading), self._any_of(page.trailing)
        self._entries = [
            (re.compile(self._pattern(phrase)), intent, actions.get(intent.id, nothing))
            for intent in page.intents
            for phrase in (*intent.phrases, *intent.typed)
        ]
        self._leading = re.compile(leading)
        self._trailing = re.compile(f"{trailing}$")

    def match(self, text: str) -> Match | None:
        """Match a whole utterance; otherwise one of its clauses, preferably a request."""
        text = text[:_LENGTH_LIMIT]
        whole = self._match(normalise(text, self.language))
        if whole is not None:
            return whole
        parts = _CLAUSE_END.split(text)[:_CLAUSE_LIMIT]
        clauses = [normalise(clause, self.language) for clause in parts]
        found = [m for m in map(self._match, filter(None, clauses)) if m is not None]
        return next((m for m in found if m.action.tool), found[0] if found else None)

    def _match(self, text: str) -> Match | None:
        """Remove courtesies one by one until a phrase matches."""
        starts = [0]
        for _ in range(_COURTESY_LIMIT):
            lead = self._leading.match(text, starts[-1])
            if lead is None:
                break
            starts.append(lead.end())
        for _ in range(_COURTESY_LIMIT):
            for start in starts:
                if (found := self._exact(text[start:])) is not None:
                    return found
            tail = self._trailing.search(text)
            if tail is None:
                return None
            text = text[: tail.start()]
        return None

    def _exact(self, text: str) -> Match | None:
        for expression, intent, action in self._entries:
            found = expression.fullmatch(text)
            if found is None:
                continue
            if "number" not in expression.groupindex:
                return Match(intent, action)
            number = read_number(found["number"], self.language)
            if number is not None:
                return Match(intent, action, number)
        return None

    def _pattern(self, phrase: str) -> str:
        return pattern(parse(phrase), self.language)

    def _any_of(self, phrases: Lines) -> str:
        # Longest first: 请帮我 before 请.
        expressions = sorted(map(self._pattern, phrases), key=len, reverse=True)
        return f"(?:{'|'.join(expressions)})"


@cache
def book(language: Language) -> Book:
    """Return the book of a language, which is read once.

    :raises ConfigError: the book has an error.
    """
    actions = _read("actions.yaml", dict[str, Action])
    for name, action in actions.items():
        if action.tool and action.tool not in TOOL_KINDS:
            raise ConfigError(f"actions.yaml: {name}: there is no kind of tool {action.tool}")
    page = _read(f"{language}.yaml", Page)
    return Book(language, page, actions)


def spoken_phrases(language: Language) -> list[tuple[str, list[tuple[Part, ...]]]]:
    """Return each intent's id with its phrases, without those that are only typed."""
    page = book(language).page
    return [
        (intent.id, [parse(phrase) for phrase in intent.phrases])
        for intent in page.intents
        if intent.phrases
    ]


def _read(name: str, shape: Any) -> Any:
    data = files(__package__).joinpath(name).read_bytes()
    try:
        return msgspec.yaml.decode(data, type=shape)
    except msgspec.DecodeError as error:
        raise ConfigError(f"{name}: {error}") from error
