"""Completeness of a dialogue's tool exchanges, and the cost of its entries in tokens."""

from __future__ import annotations

from collections.abc import Sequence

from xiaozhi.base.values import Role, ToolCall, Utterance
from xiaozhi.languages.scripts import tokens

# Tokens for the markup of an entry or a call, besides its text.
_FRAME = 4


def whole(entries: Sequence[Utterance]) -> list[Utterance]:
    """Return a dialogue without incomplete tool exchanges, which models reject.

    An exchange is an entry with calls, followed by one result for each call. It is incomplete
    if a process was killed between a call and its result, or if two processes wrote at the
    same time.
    """
    found: list[Utterance] = []
    at = 0
    while at < len(entries):
        entry = entries[at]
        at += 1
        if entry.calls:
            results = entries[at : at + len(entry.calls)]
            if _answer(results, entry.calls):
                found += [entry, *results]
                at += len(results)
            elif entry.text:
                found.append(Utterance(entry.role, entry.text))
        elif entry.role is not Role.TOOL:
            found.append(entry)
    return found


def _answer(results: Sequence[Utterance], calls: Sequence[ToolCall]) -> bool:
    answered = sorted(result.call_id for result in results if result.role is Role.TOOL)
    return answered == sorted(call.call_id for call in calls)


def cost(said: Utterance) -> int:
    """Return an estimate of an entry's tokens."""
    calls = (tokens(call.name) + tokens(call.arguments) + _FRAME for call in said.calls)
    return _FRAME + tokens(said.text) + sum(calls)
