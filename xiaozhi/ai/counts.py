"""What all sessions of one AI process count together, in plain numbers."""

from __future__ import annotations

from collections.abc import Mapping

from xiaozhi.metrics.figures import LASTING, WAITING, Histograms, Tally

# Which kind of provider each stage of a turn waits for.
_PROVIDER_OF = {
    "recognise": "asr",
    "first_token": "llm",
    "first_sentence": "llm",
    "first_audio": "tts",
}


class AiCounts:
    """Counted since the start.

    :ivar frames_up: packets of sound that came, and ``frames_down``, that were sent.
    :ivar messages: other messages by direction (``up``, ``down``) and type.
    :ivar bad_packets: packets that are no Opus.
    :ivar opened: sessions, by ``new`` or ``resumed``.
    :ivar turns: by how they began and ended: see :meth:`turn_ended`.
    :ivar response: seconds from the end of an utterance, or from what else began a turn,
        to its first packet, by how it began.
    :ivar whole: seconds from there to the end of playing, by the same.
    :ivar tools: calls by ``done`` or the error's code.
    :ivar errors: of providers, by kind, name and code.
    :ivar requests: HTTP requests by page and status.
    """

    def __init__(self, names: Mapping[str, str] | None = None) -> None:
        """:param names: the provider in use of each kind."""
        self._names = dict(names or {})
        self.frames_up = self.frames_down = self.bad_packets = 0
        self.messages = Tally()
        self.opened = Tally()
        self.turns = Tally()
        self.tools = Tally()
        self.errors = Tally()
        self.requests = Tally()
        self.stages = Histograms(WAITING)
        self.response = Histograms(WAITING)
        self.whole = Histograms(LASTING)

    def stage(self, name: str, seconds: float) -> None:
        """A stage of a turn is over.

        :param name: ``recognise``, ``first_token``, ``first_sentence``, ``first_audio``.
        """
        self.stages.observe(seconds, name, self._names.get(_PROVIDER_OF[name], "?"))

    def turn_ended(self, begun: str, result: str, seconds: float) -> None:
        """:param begun: ``spoken``, ``typed`` or ``recited``.
        :param result: ``answered``, ``empty`` (nothing was said after all),
            ``interrupted`` or ``failed``.
        """
        self.turns.add(begun, result)
        if result == "answered":
            self.whole.observe(seconds, begun)

    def provider_failed(self, kind: str, code: str) -> None:
        """:param kind: ``asr``, ``llm``, ``tts`` or ``vlllm``."""
        self.errors.add(kind, self._names.get(kind, "?"), code)
