"""pocketsphinx in a process of its own: it holds the GIL while it decodes.

Arguments: JSON ``{"grammar", "model", "decoders", "threshold"}``. A request's data is s16le mono at
16 kHz; the answer is JSON ``{"text", "score"}``. Interim results precede it as text, when they
change and are likely enough.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from array import array
from collections import deque
from collections.abc import Iterable
from math import sqrt
from operator import mul
from pathlib import Path
from random import Random
from typing import Any

from xiaozhi.providers.kit.process.worker_child import (
    DATA,
    DONE,
    Channel,
    Service,
    WorkRefused,
    main,
)

#: Samples in 20 ms, the unit in which loudness is measured.
_FRAME = 320
#: Frames of speech before the gain is set, and frames kept before these.
_HEARD, _KEPT = 30, 15
#: After a pause of this length fewer frames suffice: a short answer has ended.
_FEW, _PAUSE = 8, 12
#: RMS of speech and of noise for which the models work best.
_LEVEL, _DITHER = 1000, 8
#: RMS below which sound is silence.
_AUDIBLE = 20.0

#: Bytes of an utterance between two interim results: 0.25 s.
_LOOK = 8000

#: Score from which the first decoding of an utterance is trusted.
_CONFIDENT = -8.0

_RULE = re.compile(r"<[^>]*>")
_WORD = re.compile(r"[^\s\[\](){}|=;*+<>\"]+")


def grammar_words(grammar: str) -> set[str]:
    """Return the words of a JSGF grammar."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", " ", grammar, flags=re.DOTALL)
    # Remove tags in braces and weights between slashes.
    text = re.sub(r"\{[^}]*\}|/[\d.]+/", " ", text)
    words: set[str] = set()
    for statement in text.split(";"):
        # Skip the header, name and imports, which have no right side.
        _, _, right = statement.partition("=")
        words.update(_WORD.findall(_RULE.sub(" ", right)))
    return words


def cut_dictionary(lines: Iterable[str], words: set[str]) -> dict[str, list[str]]:
    """Return the lines of a pronunciation dictionary for some words, by word."""
    found: dict[str, list[str]] = {}
    for line in lines:
        word = line.partition(" ")[0].partition("(")[0]
        if word in words:
            found.setdefault(word, []).append(line)
    return found


class Loudness:
    """Normalises the level of speech for any microphone.

    The gain is set by the first 0.6 s of speech, or by less if a pause follows, and kept. Earlier
    sound waits here; of leading silence only the end is kept.

    :ivar ready: the gain is set.
    """

    def __init__(self) -> None:
        self._waiting = bytearray()
        self._judged = 0
        self._quietest = 32768.0
        self._loud: list[float] = []
        self._audible: list[float] = []
        self._quiet = 0
        self._gain: float | None = None
        self._noise = _NOISE
        self.ready = False

    @property
    def silent(self) -> bool:
        """Whether there was no speech at all."""
        return not self._audible

    def feed(self, pcm: bytes) -> None:
        """Add sound."""
        waiting = self._waiting
        waiting += pcm
        if self._gain is not None or self.ready:
            return
        size = _FRAME * 2
        while len(waiting) - self._judged >= size and not self.ready:
            frame = array("h", bytes(waiting[self._judged : self._judged + size]))
            self._judged += size
            level = sqrt(sum(map(mul, frame, frame)) / _FRAME)
            self._quietest = min(self._quietest, max(level, 1.0))
            if level > _AUDIBLE:
                self._audible.append(level)
            # Speech is louder than its pauses and the room's noise.
            if level > max(_AUDIBLE, 3 * self._quietest):
                self._loud.append(level)
                self._quiet = 0
                self.ready = len(self._loud) >= _HEARD
                continue
            self._quiet += 1
            self.ready = len(self._loud) >= _FEW and self._quiet >= _PAUSE
            if not self._loud and self._judged > _KEPT * size:
                del waiting[:size]
                self._judged -= size

    def take(self) -> bytes:
        """Return all waiting sound at the right level, in whole samples. Call it when ready or
        ended.
        """
        if self._gain is None:
            loud = sorted(self._loud or self._audible)
            level = loud[len(loud) * 85 // 100] if loud else _LEVEL
            self._gain = min(40.0, _LEVEL / level)
        size = len(self._waiting) & ~1
        samples = array("h", bytes(self._waiting[:size]))
        del self._waiting[:size]
        gain = self._gain
        noise = self._noise
        length = len(noise)
        return array(
            "h",
            (
                max(-32768, min(32767, int(sample * gain) + noise[index % length]))
                for index, sample in enumerate(samples)
            ),
        ).tobytes()


_random = Random(1)
_NOISE = [_random.randint(-_DITHER, _DITHER) for _ in range(4001)]


class SphinxUtterance:
    """One request: its sound on the way to a decoder."""

    def __init__(self, request_id: int) -> None:
        self.request_id = request_id
        self.loudness = Loudness()
        self.ended = False
        self.told = ""
        self.looked = 0
        self.pair: Pair | None = None
        self.pcm = bytearray()

    def advance(self) -> None:
        """Pass the sound to the decoders."""
        assert self.pair is not None
        pcm = self.loudness.take()
        self.pcm += pcm
        self.pair.feed(pcm)


class Pair:
    """A decoder for the grammar and one for any sounds, side by side.

    The margin of the second one identifies speech outside the grammar.
    """

    def __init__(self, grammar: str, dictionary: str, model: Path, cmn: str) -> None:
        """:param cmn: ``live`` to decode sound as it arrives, ``batch`` for :meth:`whole`."""
        from pocketsphinx import Decoder

        common = {
            "cmn": cmn,
            "hmm": str(model / "en-us"),
            "dict": dictionary,
            "lm": None,
            "loglevel": "FATAL",
            # The best path through the lattice may leave the grammar.
            "bestpath": False,
        }
        self._words: Any = Decoder(**common)
        self._words.add_jsgf_string("grammar", grammar)
        self._words.activate_search("grammar")
        self._sounds: Any = Decoder(
            **common,
            allphone=str(model / "en-us-phone.lm.bin"),
            lw=2.0,
            beam=1e-20,
            pbeam=1e-20,
        )
        self._both = (self._words, self._sounds)
        # Each utterance begins in the same state, independent of the previous speaker.
        self._mean = self._words.get_cmn()

    def start(self) -> None:
        for decoder in self._both:
            decoder.set_cmn(self._mean)
            decoder.start_utt()

    def feed(self, pcm: bytes) -> None:
        # pocketsphinx refuses an empty buffer.
        if pcm:
            for decoder in self._both:
                decoder.process_raw(pcm)

    def stop(self) -> None:
        for decoder in self._both:
            decoder.end_utt()

    def whole(self, pcm: bytes) -> tuple[str, float]:
        """Decode a complete utterance: slower, but more accurate."""
        for decoder in self._both:
            decoder.start_utt()
            decoder.process_raw(pcm, full_utt=True)
            decoder.end_utt()
        return self.result()

    def result(self) -> tuple[str, float]:
        """Return the text and the score per frame; 0 is a perfect match."""
        words, sounds = (decoder.hyp() for decoder in self._both)
        frames = self._words.n_frames()
        if words is None or sounds is None or not frames or not words.score or not sounds.score:
            return "", -1000.0
        log = self._words.logmath.log
        return words.hypstr, (log(words.score) - log(sounds.score)) / frames


class Sphinx(Service):
    """Serves several utterances with few decoders.

    An utterance takes a pair of decoders when its speech begins and keeps it to its end; utterances
    without a pair wait with their sound. A confident result of decoding sound as it arrives is the
    answer at once; otherwise the utterance is decoded again as a whole.
    """

    def __init__(self, channel: Channel, settings: dict[str, Any]) -> None:
        super().__init__(channel)
        self._threshold = settings["threshold"]
        self._utterances: dict[int, SphinxUtterance] = {}
        self._queue: deque[SphinxUtterance] = deque()
        self._free: list[Pair] = []
        self._second: Pair | None = None
        self._broken = ""
        try:
            self._second, *self._free = make_pairs(
                settings["grammar"], Path(settings["model"]), settings["decoders"]
            )
        except (RuntimeError, ValueError, OSError) as error:
            self._broken = f"pocketsphinx cannot use the grammar: {error}"

    def opened(self, request_id: int, payload: bytes) -> None:
        if self._broken:
            raise WorkRefused("bad_grammar", self._broken)
        self._utterances[request_id] = SphinxUtterance(request_id)

    def data(self, request_id: int, payload: bytes) -> None:
        utterance = self._utterances.get(request_id)
        if utterance is None:
            return
        waited = utterance.loudness.ready
        utterance.loudness.feed(payload)
        if utterance.pair is not None:
            utterance.advance()
            self._tell(utterance)
        elif not waited and utterance.loudness.ready:
            self._queue.append(utterance)
            self._advance()

    def ended(self, request_id: int) -> None:
        utterance = self._utterances.get(request_id)
        if utterance is None:
            return
        utterance.ended = True
        if utterance.pair is not None:
            self._finish(utterance)
        elif utterance.loudness.silent:
            self._answer(utterance, "", 0.0)
        elif utterance not in self._queue:
            self._queue.append(utterance)
        self._advance()

    def cancelled(self, request_id: int) -> None:
        utterance = self._utterances.pop(request_id, None)
        if utterance is None:
            return
        if utterance in self._queue:
            self._queue.remove(utterance)
        if utterance.pair is not None:
            utterance.pair.stop()
            self._free.append(utterance.pair)
            self._advance()

    def _advance(self) -> None:
        while self._free and self._queue:
            utterance = self._queue.popleft()
            utterance.pair = self._free.pop()
            utterance.pair.start()
            utterance.advance()
            if utterance.ended:
                self._finish(utterance)

    def _finish(self, utterance: SphinxUtterance) -> None:
        pair = utterance.pair
        assert pair is not None
        pair.stop()
        self._free.append(pair)
        text, score = pair.result()
        if score < _CONFIDENT and self._second is not None and utterance.pcm:
            text, score = self._second.whole(bytes(utterance.pcm))
        self._answer(utterance, text if score >= self._threshold else "", score)

    def _tell(self, utterance: SphinxUtterance) -> None:
        """Send an interim result from time to time."""
        assert utterance.pair is not None
        if len(utterance.pcm) - utterance.looked < _LOOK:
            return
        utterance.looked = len(utterance.pcm)
        text, score = utterance.pair.result()
        # A grammar matches its words in any noise, so only a good match is sent.
        if score >= max(self._threshold, _CONFIDENT) and text != utterance.told:
            utterance.told = text
            self.channel.send(utterance.request_id, DATA, text.encode())

    def _answer(self, utterance: SphinxUtterance, text: str, score: float) -> None:
        del self._utterances[utterance.request_id]
        body = json.dumps({"text": text, "score": round(score, 2)}).encode()
        self.channel.send(utterance.request_id, DONE, body)


def make_pairs(grammar: str, model: Path, count: int) -> list[Pair]:
    """Make one pair for whole utterances, then ``count`` for sound as it arrives, with a dictionary
    of only the grammar's words.
    """
    with open(model / "cmudict-en-us.dict", encoding="utf-8") as lines:
        found = cut_dictionary(lines, grammar_words(grammar))
    with tempfile.NamedTemporaryFile("w", suffix=".dict", encoding="utf-8") as file:
        file.writelines(line for lines_ in found.values() for line in lines_)
        file.flush()
        kinds = ["batch", *["live"] * count]
        return [Pair(grammar, file.name, model, kind) for kind in kinds]


if __name__ == "__main__":
    main(lambda channel: Sphinx(channel, json.loads(sys.argv[1])))
