"""Metrics of the AI service for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class AiSources:
    """Sources of the values that are read at each scrape.

    :ivar crossings: waiting times between the reactor and gRPC.
    :ivar threads: number of calls that wait for a worker thread or run in one.
    :ivar http_connections: number of connections to the HTTP port.
    :ivar refused: number of streams refused for a missing or wrong token.
    :ivar presence: why the presence table is unusable; empty: it is usable.
    :ivar providers: states of the live providers.
    """

    bridge: Callable[[], BridgeStatus]
    crossings: CrossingTimes
    history: HistoryQueue
    threads: Callable[[], int]
    http_connections: Callable[[], int]
    refused: Callable[[], int]
    presence: Callable[[], str]
    providers: Callable[[], Sequence[ProviderStatus]] = tuple


class AiMetrics:
    """Collects the metrics of one AI process."""

    def __init__(self, counts: AiCounts, sources: AiSources) -> None:
        self._counts = counts
        self._sources = sources

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
            self._sources.threads(),
        )
        yield gauge(
            "xiaozhi_ai_http_connections",
            "Connections to the HTTP side.",
            self._sources.http_connections(),
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
            "Sessions that an edge opened: new, or resumed after a lost stream.",
            ["how"],
            counts.opened,
        )
        yield counters(
            "xiaozhi_ai_messages",
            "Messages other than audio, from devices (up) and to them (down).",
            ["direction", "type"],
            counts.messages,
        )
        yield counters(
            "xiaozhi_ai_frames",
            "Audio packets from devices (up) and to them (down).",
            ["direction"],
            [(["up"], counts.frames_up), (["down"], counts.frames_down)],
        )
        yield counter(
            "xiaozhi_ai_bad_packets",
            "Packets that are not Opus; counted when their session ends.",
            counts.bad_packets,
        )

    def _turns(self) -> Iterator[Family]:
        counts = self._counts
        yield counters("xiaozhi_ai_turns", "Turns that ended.", ["begun", "result"], counts.turns)
        yield histograms(
            "xiaozhi_ai_turn_stage_seconds",
            "Duration of a stage of a turn.",
            ["stage", "provider"],
            counts.stages,
        )
        yield histograms(
            "xiaozhi_ai_turn_response_seconds",
            "Time from the event that began a turn to its first audio packet.",
            ["begun"],
            counts.response,
        )
        yield histograms(
            "xiaozhi_ai_turn_played_seconds",
            "Time from the event that began a turn to its first packet at the device.",
            ["begun"],
            counts.played,
        )
        yield histograms(
            "xiaozhi_ai_turn_seconds",
            "Time from the event that began a turn to the end of playback, of answered turns.",
            ["begun"],
            counts.whole,
        )
        yield counters(
            "xiaozhi_ai_tool_calls",
            "Tool calls: done, or the code of their error.",
            ["result"],
            counts.tools,
        )
        yield histograms(
            "xiaozhi_ai_tool_seconds", "Duration of tool calls.", ["result"], counts.tool_seconds
        )
        yield counters(
            "xiaozhi_ai_tokens",
            "Tokens that language models read (in) and wrote (out).",
            ["provider", "direction", "how"],
            counts.tokens,
        )
        yield counters(
            "xiaozhi_ai_characters",
            "Characters heard from people, said by models, spoken by synthesisers.",
            ["what"],
            counts.characters,
        )
        yield counters(
            "xiaozhi_ai_provider_errors",
            "Provider errors that reached a turn.",
            ["kind", "provider", "code"],
            counts.errors,
        )

    def _vendors(self) -> Iterator[Family]:
        providers = self._sources.providers()
        yield gauges(
            "xiaozhi_ai_provider_up",
            "1 while a provider is in use; 0 while its circuit is open after failures.",
            ["kind", "provider"],
            (
                ([each.kind, each.name], float(each.state != "open"))
                for each in providers
                if each.state != "unused"
            ),
        )
        yield counters(
            "xiaozhi_ai_provider_failures",
            "Attempts that failed, including those that another provider then answered.",
            ["kind", "provider", "code"],
            (
                ([each.kind, each.name, code], count)
                for each in providers
                for code, count in each.failed.items()
            ),
        )

    def _kept(self) -> Iterator[Family]:
        history = self._sources.history
        yield gauge(
            "xiaozhi_ai_history_up",
            "1 while the database accepts dialogue entries.",
            float(not history.trouble()),
        )
        yield gauge(
            "xiaozhi_ai_history_pending", "Dialogue entries not written yet.", history.pending
        )
        yield counter("xiaozhi_ai_history_dropped", "Dialogue entries lost.", history.dropped)
        yield gauge(
            "xiaozhi_ai_presence_up",
            "1 while the presence table can be read.",
            float(not self._sources.presence()),
        )

    def _carried(self) -> Iterator[Family]:
        status = self._sources.bridge()
        yield gauge("xiaozhi_ai_sessions", "Open sessions.", status.sessions)
        yield gauge(
            "xiaozhi_ai_bridge_waiting_sessions",
            "Sessions whose stream broke and whose edge has not resumed them.",
            status.waiting,
        )
        yield gauge(
            "xiaozhi_ai_draining",
            "1 while the process stops and its sessions move to other processes.",
            float(status.draining),
        )
        yield gauge("xiaozhi_ai_bridge_streams", "Streams from edges.", status.streams)
        yield counter(
            "xiaozhi_ai_bridge_refused",
            "Streams without a token, or with a wrong one.",
            self._sources.refused(),
        )
        yield gauge("xiaozhi_ai_bridge_outbox", "Items on their way to the network.", status.outbox)
        yield counters(
            "xiaozhi_ai_bridge_dropped",
            "Messages and packets that the bridge dropped.",
            ["reason"],
            (([reason], count) for reason, count in status.dropped.items()),
        )
        yield histograms(
            "xiaozhi_ai_bridge_crossing_seconds",
            "Time between the reactor and gRPC, of the oldest item of each batch.",
            ["direction"],
            [(["up"], self._sources.crossings.inward), (["down"], self._sources.crossings.outward)],
        )
