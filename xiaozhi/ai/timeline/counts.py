"""Counters that all sessions of one AI process share."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from xiaozhi.ai.timeline.record import TurnRecord
from xiaozhi.metrics.instruments import LASTING, WAITING, Histograms, Tally

# Kind of provider that each stage of a turn waits for.
_PROVIDER_OF = {
    "recognise": "asr",
    "first_token": "llm",
    "first_sentence": "llm",
    "first_audio": "tts",
}


class AiCounts:
    """Counters since the start.

    :ivar frames_up: audio packets received, and ``frames_down``, sent.
    :ivar messages: other messages by direction (``up``, ``down``) and type.
    :ivar bad_packets: packets that are not Opus.
    :ivar opened: sessions, by ``new`` or ``resumed``.
    :ivar turns: by their origin (``spoken``, ``typed``, ``recited``) and result, see
        :meth:`turn_ended`.
    :ivar response: seconds from the end of an utterance, or another event that began a
        turn, to its first packet, by origin.
    :ivar played: the same to its first packet at the device, as the edge reports it.
    :ivar whole: seconds from there to the end of playback, by origin.
    :ivar characters: ``heard`` from people, ``said`` by models, ``spoken`` by synthesisers.
    :ivar tokens: of language models, by provider, ``in`` or ``out``, and source: ``told``
        by the vendor or ``estimated``.
    :ivar tool_seconds: by the labels of ``tools``.
    :ivar recent: the last turns.
    :ivar tools: calls by ``done`` or the error's code.
    :ivar errors: of providers, by kind, name and code.
    :ivar requests: HTTP requests by page and status.
    """

    def __init__(self, names: Mapping[str, str] | None = None) -> None:
        """:param names: the provider of each kind that counts where none is named."""
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
        self.played = Histograms(WAITING)
        self.whole = Histograms(LASTING)
        self.characters = Tally()
        self.tokens = Tally()
        self.tool_seconds = Histograms(WAITING)
        # Bound: the oldest is dropped.
        self.recent: deque[TurnRecord] = deque(maxlen=64)

    def stage(self, name: str, seconds: float, provider: str = "") -> None:
        """Count a stage of a turn.

        :param name: ``recognise``, ``first_token``, ``first_sentence``, ``first_audio``.
        :param provider: that did it; empty: the preferred one.
        """
        self.stages.observe(seconds, name, self._named(_PROVIDER_OF[name], provider))

    def tool(self, result: str, seconds: float) -> None:
        """Count a tool call.

        :param result: ``done`` or an error's code.
        """
        self.tools.add(result)
        self.tool_seconds.observe(seconds, result)

    def spent(self, provider: str, tokens_in: int, tokens_out: int, how: str) -> None:
        """Count the tokens of one model call.

        :param how: ``told`` or ``estimated``.
        """
        name = self._named("llm", provider)
        self.tokens.add(name, "in", how, count=tokens_in)
        self.tokens.add(name, "out", how, count=tokens_out)

    def turn_ended(self, record: TurnRecord) -> None:
        """Count a turn: ``answered``, ``empty`` (no words were heard), ``interrupted`` or
        ``failed``."""
        self.turns.add(record.begun, record.result)
        if record.result == "answered":
            self.whole.observe(record.seconds, record.begun)
        self.recent.append(record)

    def provider_failed(self, kind: str, code: str, provider: str = "") -> None:
        """Count a provider error that reached a turn.

        :param kind: ``asr``, ``llm``, ``tts`` or ``vlllm``.
        """
        self.errors.add(kind, self._named(kind, provider), code)

    def _named(self, kind: str, provider: str) -> str:
        return provider or self._names.get(kind, "?")
