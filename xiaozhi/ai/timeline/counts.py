"""Counters that all sessions of one AI process share."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from xiaozhi.ai.timeline.record import TurnRecord
from xiaozhi.metrics.instruments import LASTING, WAITING, Histograms, Tally

# Kind of provider that does each stage of a turn.
_PROVIDER_OF = {
    "recognise": "asr",
    "first_token": "llm",
    "first_sentence": "llm",
    "first_audio": "tts",
}


class AiCounts:
    """Counters since the start of the process.

    :ivar frames_up: audio packets received, and ``frames_down``, sent.
    :ivar messages: other messages by direction (``up``, ``down``) and type.
    :ivar bad_packets: packets that could not be decoded as Opus.
    :ivar opened: sessions, by ``new`` or ``resumed``.
    :ivar turns: by their origin (``spoken``, ``typed``, ``recited``) and result, see
        :meth:`turn_ended`.
    :ivar response: seconds from the end of an utterance, or another event that began a
        turn, to its first packet sent, by origin.
    :ivar played: the same to its first packet at the device, as the edge reports it.
    :ivar whole: the same to the end of playback, of answered turns.
    :ivar characters: ``heard`` from people, ``said`` by models, ``spoken`` by synthesisers.
    :ivar tokens: tokens of language models, by provider, ``in`` or ``out``, and source:
        ``told`` (reported by the vendor) or ``estimated``.
    :ivar tool_seconds: durations of tool calls, by the labels of ``tools``.
    :ivar recent: records of the last turns.
    :ivar tools: tool calls, by ``done`` or the error's code.
    :ivar errors: provider errors, by kind, name and code.
    :ivar requests: HTTP requests, by page and status.
    """

    def __init__(self, names: Mapping[str, str] | None = None) -> None:
        """:param names: by kind, the provider to count if a caller names none."""
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
        :param provider: provider that did it; empty: the preferred one.
        """
        self.stages.observe(seconds, name, self._named(_PROVIDER_OF[name], provider))

    def tool(self, result: str, seconds: float) -> None:
        """Count a tool call.

        :param result: ``done`` or the error's code.
        """
        self.tools.add(result)
        self.tool_seconds.observe(seconds, result)

    def spent(self, provider: str, tokens_in: int, tokens_out: int, how: str) -> None:
        """Count the tokens of one model call.

        :param how: ``told`` (reported by the vendor) or ``estimated``.
        """
        name = self._named("llm", provider)
        self.tokens.add(name, "in", how, count=tokens_in)
        self.tokens.add(name, "out", how, count=tokens_out)

    def turn_ended(self, record: TurnRecord) -> None:
        """Count a turn by its result: ``answered``, ``empty`` (without words to answer),
        ``interrupted`` or ``failed``."""
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
