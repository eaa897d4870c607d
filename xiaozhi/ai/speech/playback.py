"""Playback map: finds the words that were heard when an answer was cut."""

from __future__ import annotations

from dataclasses import dataclass

from xiaozhi.languages.scripts import is_word_border, tokens

# Minimum ms of sound per token of text, to estimate the length of an incomplete sentence:
# nobody speaks faster than five words per second.
_PACE = 150


@dataclass(frozen=True, slots=True)
class Played:
    """The played part of an answer.

    :ivar whole: number of sentences that were played completely.
    :ivar part: played words of the next sentence.
    """

    whole: int = 0
    part: str = ""


@dataclass(slots=True)
class _Mark:
    """The place of a sentence in the sound, in ms.

    :ivar end: end of its sound; None: its sound is not complete.
    :ivar complete: whether all its sound was sent.
    """

    words: str
    answer: bool
    start: int
    end: int | None = None
    complete: bool = False


class PlaybackMap:
    """Maps the sound of a turn, in ms, to its words.

    :ivar sent_ms: milliseconds of sound sent in this turn.
    """

    def __init__(self) -> None:
        self.sent_ms = 0
        # Bound: the sentences of a turn, which `turn.whole` limits.
        self._marks: list[_Mark] = []

    def begins(self, words: str, *, answer: bool) -> None:
        """Begin a sentence.

        :param answer: whether it is part of the answer, not a phrase such as an apology.
        """
        if self._marks and self._marks[-1].end is None:
            # The previous sentence broke off.
            self._marks[-1].end = self.sent_ms
        self._marks.append(_Mark(words, answer, self.sent_ms))

    def sent(self, ms: int) -> None:
        """Add sound to the current sentence."""
        self.sent_ms += ms

    def ended(self) -> None:
        """End the current sentence."""
        self._marks[-1].end = self.sent_ms
        self._marks[-1].complete = True

    def heard(self, played_ms: float) -> Played:
        """Return the part of the answer that had been played by then; never more than that."""
        whole = 0
        for mark in self._marks:
            if not mark.answer:
                continue
            end = self.sent_ms if mark.end is None else mark.end
            if mark.complete and played_ms >= end:
                whole += 1
                continue
            played = min(played_ms, end) - mark.start
            sound = end - mark.start
            if not mark.complete:
                sound = max(sound, tokens(mark.words) * _PACE)
            return Played(whole, beginning(mark.words, played / max(1, sound)))
        return Played(whole)


def beginning(words: str, share: float) -> str:
    """Return the words within a share (0 to 1) of their sound, cut at the end of a word."""
    at = int(len(words) * min(1.0, max(0.0, share)))
    while not is_word_border(words, at):
        at -= 1
    return words[:at].rstrip()
