"""Removal of a model's reasoning from its answer."""

from __future__ import annotations

from xiaozhi.base.modeltext.answerfilter import AnswerFilter, WrittenCall


class ThoughtFilter:
    """Drops ``<think>…</think>`` and its like, and everything else of a model's text that is
    not its answer, however the text is cut into pieces: see
    :class:`~xiaozhi.base.modeltext.answerfilter.AnswerText`.

    One that is never closed reaches to the end; a closing mark alone is dropped.

    :param begun: it begins with a thought whose first mark is not in the text.
    :param calls: tool calls in the text stay, for somebody who runs them.
    """

    def __init__(self, *, begun: bool = False, calls: bool = False) -> None:
        self._answer = AnswerFilter(begun=begun, squashed=not calls)
        self._calls = calls

    def feed(self, text: str) -> str:
        """:return: what may be said already."""
        return self._kept(self._answer.feed(text))

    def finish(self) -> str:
        """The text ended: what looked like the start of a mark was none."""
        return self._kept(self._answer.finish())

    def _kept(self, parts: list[str | WrittenCall]) -> str:
        return "".join(
            part if isinstance(part, str) else part.raw
            for part in parts
            if isinstance(part, str) or self._calls or not part.marked
        )
