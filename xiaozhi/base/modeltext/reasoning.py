"""Removal of a model's reasoning from its answer."""

from __future__ import annotations

from xiaozhi.base.modeltext.answerfilter import AnswerFilter, WrittenCall


class ThoughtFilter:
    """Drops ``<think>…</think>`` and similar sections, and everything else that is not the
    answer, from text in arbitrary pieces: see
    :class:`~xiaozhi.base.modeltext.answerfilter.AnswerFilter`.

    An unclosed section reaches to the end; a closing mark alone is dropped.

    :param begun: the text begins within reasoning whose opening mark is missing.
    :param calls: keep tool calls in the text, for a caller that runs them.
    """

    def __init__(self, *, begun: bool = False, calls: bool = False) -> None:
        self._answer = AnswerFilter(begun=begun, squashed=not calls)
        self._calls = calls

    def feed(self, text: str) -> str:
        """Add text; return the part that is safe to speak."""
        return self._kept(self._answer.feed(text))

    def finish(self) -> str:
        """End the text: a possible start of a mark is plain text."""
        return self._kept(self._answer.finish())

    def _kept(self, parts: list[str | WrittenCall]) -> str:
        return "".join(
            part if isinstance(part, str) else part.raw
            for part in parts
            if isinstance(part, str) or self._calls or not part.marked
        )
