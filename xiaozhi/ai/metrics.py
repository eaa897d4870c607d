"""The AI service's figures, by the names they have in Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from xiaozhi.ai.timeline.counts import AiCounts
from xiaozhi.base.values import BridgeStatus, ProviderStatus
from xiaozhi.metrics.families import Family, counter, counters, gauge, gauges, histograms
from xiaozhi.metrics.sources import CrossingTimes, WriteQueue


class HistoryQueue(WriteQueue, Protocol):
    """The queue of dialogue entries."""

    @property
    def dropped(self) -> int:
        """Entries lost since the start."""


class AiMetrics:
    """See the module."""

    def __init__(
        self,
        counts: AiCounts,
        bridge: Callable[[], BridgeStatus],
        wires: CrossingTimes,
        threads: Callable[[], int],
        http_connections: Callable[[], int],
        history: HistoryQueue,
        refused: Callable[[], int],
        presence: Callable[[], str],
        providers: Callable[[], Sequence[ProviderStatus]] = tuple,
    ) -> None:
        """
        :param threads: calls that wait for a worker thread or run in one.
        :param refused: streams that showed no token, or a wrong one.
        :param providers: how those do that can fail.
        :param presence: why the presence table cannot be used; empty while it can.
        """
        self._counts = counts
        self._bridge = bridge
        self._wires = wires
        self._threads = threads
        self._http_connections = http_connections
        self._history = history
        self._refused = refused
        self._presence = presence
        self._providers = providers

    def collect(self) -> Iterator[Family]:
        """See :class:`~xiaozhi.metrics.families.Collector`."""
        yield from self._sessions()
        yield from self._turns()
        yield from self._vendors()
        yield from self._carried()
        yield from self._kept()
        yield gauge(
            "xiaozhi_ai_threads_unfinished",
            "Calls that wait for a worker thread or run in one.",
            self._threads(),
        )
        yield gauge(
            "xiaozhi_ai_http_connections",
            "Connections to the HTTP side.",
            self._http_connections(),
        )
        yield counters(
            "xiaozhi_ai_http_requests",
            "HTTP requests answered.",
            ["page", "status"],
            self._counts.requests,
        )

    def _sessions(self) -> Iterator[Family]:
        counts = self._counts
        yield counters(
            "xiaozhi_ai_sessions_opened",
            "Sessions that an edge opened: new, or resumed after a stream was lost.",
            ["how"],
            counts.opened,
        )
        yield counters(
            "xiaozhi_ai_messages",
            "Messages other than sound, from devices (up) and to them (down).",
            ["direction", "type"],
            counts.messages,
        )
        yield counters(
            "xiaozhi_ai_frames",
            "Packets of sound from devices (up) and to them (down).",
            ["direction"],
            [(["up"], counts.frames_up), (["down"], counts.frames_down)],
        )
        yield counter(
            "xiaozhi_ai_bad_packets",
            "Packets that are no Opus; counted when their session ends.",
            counts.bad_packets,
        )

    def _turns(self) -> Iterator[Family]:
        counts = self._counts
        yield counters("xiaozhi_ai_turns", "Turns that ended.", ["begun", "result"], counts.turns)
        yield histograms(
            "xiaozhi_ai_turn_stage_seconds",
            "How long a stage of a turn took.",
            ["stage", "provider"],
            counts.stages,
        )
        yield histograms(
            "xiaozhi_ai_turn_response_seconds",
            "From what began a turn to its first packet of sound.",
            ["begun"],
            counts.response,
        )
        yield histograms(
            "xiaozhi_ai_turn_played_seconds",
            "From what began a turn to its first packet at the device.",
            ["begun"],
            counts.played,
        )
        yield histograms(
            "xiaozhi_ai_turn_seconds",
            "From what began a turn to the end of playing, if it was answered.",
            ["begun"],
            counts.whole,
        )
        yield counters(
            "xiaozhi_ai_tool_calls", "Calls of tools: done, or why not.", ["result"], counts.tools
        )
        yield histograms(
            "xiaozhi_ai_tool_seconds", "How long they took.", ["result"], counts.tool_seconds
        )
        yield counters(
            "xiaozhi_ai_tokens",
            "Tokens that language models were given (in) and gave (out).",
            ["provider", "direction", "how"],
            counts.tokens,
        )
        yield counters(
            "xiaozhi_ai_characters",
            "Characters heard of persons, said by models, spoken.",
            ["what"],
            counts.characters,
        )
        yield counters(
            "xiaozhi_ai_provider_errors",
            "Errors of providers in turns.",
            ["kind", "provider", "code"],
            counts.errors,
        )

    def _vendors(self) -> Iterator[Family]:
        providers = self._providers()
        yield gauges(
            "xiaozhi_ai_provider_up",
            "1 while it may be asked; 0 while it is left alone because it failed.",
            ["kind", "provider"],
            (([each.kind, each.name], float(each.state != "open")) for each in providers),
        )
        yield counters(
            "xiaozhi_ai_provider_failures",
            "Attempts that failed, also where another provider then answered.",
            ["kind", "provider", "code"],
            (
                ([each.kind, each.name, code], count)
                for each in providers
                for code, count in each.failed.items()
            ),
        )

    def _kept(self) -> Iterator[Family]:
        history = self._history
        yield gauge(
            "xiaozhi_ai_history_up",
            "1 while the database takes what was said.",
            float(not history.trouble()),
        )
        yield gauge(
            "xiaozhi_ai_history_pending", "Dialogue entries not written yet.", history.pending
        )
        yield counter("xiaozhi_ai_history_dropped", "Dialogue entries lost.", history.dropped)
        yield gauge(
            "xiaozhi_ai_presence_up",
            "1 while it can be looked up where a device is.",
            float(not self._presence()),
        )

    def _carried(self) -> Iterator[Family]:
        status = self._bridge()
        yield gauge("xiaozhi_ai_sessions", "Sessions that are open.", status.sessions)
        yield gauge(
            "xiaozhi_ai_bridge_waiting_sessions",
            "Sessions whose stream broke and whose edge has not taken them up again.",
            status.waiting,
        )
        yield gauge(
            "xiaozhi_ai_draining",
            "1 while sessions are sent elsewhere because the process stops.",
            float(status.draining),
        )
        yield gauge("xiaozhi_ai_bridge_streams", "Streams from edges.", status.streams)
        yield counter(
            "xiaozhi_ai_bridge_refused",
            "Streams that showed no token, or a wrong one.",
            self._refused(),
        )
        yield gauge("xiaozhi_ai_bridge_outbox", "Items on their way to the network.", status.outbox)
        yield counters(
            "xiaozhi_ai_bridge_dropped",
            "Messages and packets that the bridge let go.",
            ["reason"],
            (([reason], count) for reason, count in status.dropped.items()),
        )
        yield histograms(
            "xiaozhi_ai_bridge_crossing_seconds",
            "Time between the reactor and gRPC, of the oldest item of each batch.",
            ["direction"],
            [(["up"], self._wires.inward), (["down"], self._wires.outward)],
        )
