"""Turn a model's text into sentences as they are spoken and shown."""

from __future__ import annotations

from collections.abc import Iterator

from xiaozhi.ai.speech.blocks import BlockFilter
from xiaozhi.ai.speech.markup import plain
from xiaozhi.ai.speech.sentences import SentenceSplitter

# About 0.2 ms of work.
_PIECE = 200


def pieces(text: str) -> Iterator[str]:
    """Yield a text in pieces of bounded work: some models return all of it at once."""
    for at in range(0, len(text), _PIECE):
        yield text[at : at + _PIECE]


class SpokenText:
    """Filters and splits a streamed text; its output does not depend on the pieces.

    Emoji remain for the face that the device shows: see
    :func:`~xiaozhi.ai.speech.emotion.take_emotion`.
    """

    def __init__(self) -> None:
        self._blocks = BlockFilter()
        self._splitter = SentenceSplitter()

    def feed(self, text: str) -> list[str]:
        """Add text.

        :return: the sentences that are complete now.
        """
        return self._plain(self._splitter.feed(self._blocks.feed(text)))

    def finish(self) -> list[str]:
        """End the text.

        :return: the remaining sentences.
        """
        rest = self._splitter.feed(self._blocks.finish())
        return self._plain(rest + self._splitter.flush())

    def _plain(self, sentences: list[str]) -> list[str]:
        return [words for sentence in sentences if (words := plain(sentence))]
