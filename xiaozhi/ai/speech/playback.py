"""Playback map: the words that the device had played when an answer was cut."""

from __future__ import annotations

from dataclasses import dataclass

from xiaozhi.languages.scripts import is_word_border, tokens

# ms of sound that a token of text takes at least, where a sentence's end has not come:
# nobody speaks faster than five words a second.
_PACE = 150


@dataclass(frozen=True, slots=True)
class Played:
    """
    :ivar whole: sentences that were played to their end.
    :ivar part: what was heard of the next one.
    """

    whole: int = 0
    part: str = ""


@dataclass(slots=True)
class _Mark:
    """:ivar end: where its sound ends; None: it goes on.
    :ivar complete: all of it was sent; otherwise it broke off.
    """

    words: str
    answer: bool
    start: int
    end: int | None = None
    complete: bool = False


class PlaybackMap:
    """Maps the sound of a turn, in ms, to its words.

    :ivar sent_ms: sound sent in this turn.
    """

    def __init__(self) -> None:
        self.sent_ms = 0
        # Bound: the sentences of a turn, which `turn.whole` ends.
        self._marks: list[_Mark] = []

    def begins(self, words: str, *, answer: bool) -> None:
        """Begin a sentence.

        :param answer: it is part of the model's answer, not a phrase of the server.
        """
        if self._marks and self._marks[-1].end is None:
            # It broke off; what comes now is something else.
            self._marks[-1].end = self.sent_ms
        self._marks.append(_Mark(words, answer, self.sent_ms))

    def sent(self, ms: int) -> None:
        """Add sound of the sentence."""
        self.sent_ms += ms

    def ended(self) -> None:
        """End the sentence."""
        self._marks[-1].end = self.sent_ms
        self._marks[-1].complete = True

    def heard(self, played_ms: float) -> Played:
        """Return the part of the answer's sentences played until then; never more."""
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
    """Return the words in a share of their sound, cut at the end of a word."""
    at = int(len(words) * min(1.0, max(0.0, share)))
    while not is_word_border(words, at):
        at -= 1
    return words[:at].rstrip()
