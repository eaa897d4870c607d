"""Metrics of the edge for Prometheus.

Shared counters are read directly; the links' own counts are summed at each scrape, in one
pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from xiaozhi.base.values import BridgeStatus, StreamStatus
from xiaozhi.im.ingress.gateway import Gateway
from xiaozhi.im.ingress.port import EdgePortFactory
from xiaozhi.interfaces import IBridge
from xiaozhi.metrics.families import (
    Family,
    counter,
    counters,
    gauge,
    gauges,
    histogram,
    histograms,
)
from xiaozhi.metrics.sources import CrossingTimes, WriteQueue
from xiaozhi.web.site import WebSite


class JournalQueue(WriteQueue, Protocol):
    """The queue of session log records, in memory and on disk."""

    @property
    def lag(self) -> float:
        """Age of the oldest record in memory, in seconds."""

    @property
    def spooled(self) -> int:
        """Records on disk, not written yet."""

    @property
    def spooled_octets(self) -> int:
        """Their size on disk, in bytes."""

    @property
    def drops(self) -> Mapping[str, int]:
        """Records lost since the start, by reason."""


@dataclass(frozen=True, slots=True)
class Front:
    """The edge's port and the pages behind it."""

    port: EdgePortFactory
    site: WebSite


class EdgeMetrics:
    """Collects the metrics of one edge process."""

    def __init__(
        self,
        gateway: Gateway,
        front: Front,
        bridge: IBridge,
        journal: JournalQueue,
        crossings: CrossingTimes,
        presence: Callable[[], str],
    ) -> None:
        """:param presence: why the presence table is unusable; empty: it is usable."""
        self._gateway = gateway
        self._front = front
        self._bridge = bridge
        self._journal = journal
        self._crossings = crossings
        self._presence = presence
        self._counts = gateway.context.counts

    def collect(self) -> Iterator[Family]:
        """See :class:`~xiaozhi.metrics.families.Collector`."""
        yield from self._connections()
        speaking = [link.down for link in self._gateway.links() if link.down.busy]
        yield from self._traffic([down.uncounted for down in speaking])
        yield from self._speech(len(speaking), sum(down.waiting for down in speaking))
        status = self._bridge.status()
        yield from self._bridge_whole(status)
        yield from _targets(status)
        yield from _streams(status)
        yield from self._store()

    def _connections(self) -> Iterator[Family]:
        counts = self._counts
        yield gauge(
            "xiaozhi_im_connections", "Devices that are connected.", self._gateway.connections
        )
        yield gauge(
            "xiaozhi_im_connections_waiting",
            "Connections that have not sent a request yet.",
            self._front.port.waiting,
        )
        yield gauge(
            "xiaozhi_im_http_connections",
            "Connections to the HTTP pages.",
            self._front.site.connections,
        )
        yield gauge(
            "xiaozhi_im_draining",
            "1 while new connections are refused.",
            float(self._gateway.draining),
        )
        yield counters(
            "xiaozhi_im_handshakes",
            "Requests for a WebSocket: accepted, or why not.",
            ["result"],
            [
                (["accepted"], counts.accepted),
                *(([why], count) for why, count in self._gateway.entrance.refusals.counts.items()),
            ],
        )
        yield counters(
            "xiaozhi_im_closed", "Device connections that ended.", ["reason"], counts.closed
        )
        yield counters(
            "xiaozhi_im_http_requests",
            "HTTP requests answered.",
            ["page", "status"],
            counts.requests,
        )

    def _traffic(self, under_way: list[tuple[int, int]]) -> Iterator[Family]:
        """:param under_way: packets and bytes of the current turns."""
        counts = self._counts
        frames_down = counts.frames_down + sum(frames for frames, _ in under_way)
        bytes_down = counts.bytes_down + sum(size for _, size in under_way)
        yield counters(
            "xiaozhi_im_messages",
            "Texts from devices (up) and to them (down).",
            ["direction", "type"],
            counts.messages,
        )
        yield counters(
            "xiaozhi_im_frames",
            "Audio packets from devices (up) and to them (down).",
            ["direction"],
            [(["up"], counts.frames_up), (["down"], frames_down)],
        )
        yield counters(
            "xiaozhi_im_frame_bytes",
            "Bytes of those packets, with their framing.",
            ["direction"],
            [(["up"], counts.bytes_up), (["down"], bytes_down)],
        )
        yield counter(
            "xiaozhi_im_malformed", "Messages that could not be parsed.", counts.malformed
        )
        yield counters(
            "xiaozhi_im_dropped",
            "Messages and packets that the edge dropped.",
            ["reason"],
            counts.dropped,
        )

    def _speech(self, speaking: int, waiting: int) -> Iterator[Family]:
        counts = self._counts
        yield gauge("xiaozhi_im_speaking", "Devices in a turn.", speaking)
        yield gauge("xiaozhi_im_pacer_frames", "Packets that wait in pacers.", waiting)
        yield histogram(
            "xiaozhi_im_pacer_lateness_seconds",
            "Lateness of packets that had waited in a pacer.",
            counts.lateness,
        )
        yield counter(
            "xiaozhi_im_pacer_underruns",
            "Times the AI's next packet arrived after the device had played all previous ones.",
            counts.underruns,
        )

    def _bridge_whole(self, status: BridgeStatus) -> Iterator[Family]:
        yield gauge(
            "xiaozhi_im_bridge_up",
            "1 while there is a stream to the AI service.",
            float(status.state == "connected"),
        )
        yield gauge("xiaozhi_im_bridge_sessions", "Sessions on the bridge.", status.sessions)
        yield gauge(
            "xiaozhi_im_bridge_waiting_sessions", "Sessions without a stream.", status.waiting
        )
        yield counters(
            "xiaozhi_im_bridge_dropped",
            "Messages and packets that the bridge dropped.",
            ["reason"],
            (([reason], count) for reason, count in status.dropped.items()),
        )
        yield histograms(
            "xiaozhi_im_bridge_crossing_seconds",
            "Time between the reactor and gRPC, of the oldest item of each batch.",
            ["direction"],
            [(["up"], self._crossings.outward), (["down"], self._crossings.inward)],
        )

    def _store(self) -> Iterator[Family]:
        journal = self._journal
        yield gauge(
            "xiaozhi_im_store_up",
            "1 while the database accepts records.",
            float(not journal.trouble()),
        )
        yield gauge(
            "xiaozhi_im_store_pending", "Records in memory, not written yet.", journal.pending
        )
        yield gauge(
            "xiaozhi_im_store_lag_seconds",
            "Age of the oldest record that is not written yet.",
            journal.lag,
        )
        yield gauge(
            "xiaozhi_im_store_spooled", "Records on disk, not written yet.", journal.spooled
        )
        yield gauge(
            "xiaozhi_im_store_spooled_bytes", "Bytes of records on disk.", journal.spooled_octets
        )
        yield counters(
            "xiaozhi_im_store_dropped",
            "Records lost.",
            ["reason"],
            (([reason], count) for reason, count in journal.drops.items()),
        )
        yield gauge(
            "xiaozhi_im_presence_up",
            "1 while the presence table is usable.",
            float(not self._presence()),
        )
        yield counter(
            "xiaozhi_im_presence_errors",
            "Failed requests to the presence table.",
            self._counts.presence_errors,
        )


def _targets(status: BridgeStatus) -> Iterator[Family]:
    targets = status.targets
    yield gauges(
        "xiaozhi_im_bridge_target_streams",
        "Streams that are up to an AI process.",
        ["target"],
        [([t.address], sum(stream.up for stream in t.streams)) for t in targets],
    )
    yield gauges(
        "xiaozhi_im_bridge_target_draining",
        "1 while the AI process refuses new sessions because it stops.",
        ["target"],
        [([t.address], float(t.draining)) for t in targets],
    )
    yield gauges(
        "xiaozhi_im_bridge_target_sessions",
        "Sessions at the AI process.",
        ["target"],
        [([t.address], sum(stream.sessions for stream in t.streams)) for t in targets],
    )


def _streams(status: BridgeStatus) -> Iterator[Family]:
    streams: list[tuple[list[str], StreamStatus]] = [
        ([target.address, str(number)], stream)
        for target in status.targets
        for number, stream in enumerate(target.streams)
    ]
    labels = ["target", "stream"]
    yield gauges(
        "xiaozhi_im_bridge_stream_up",
        "1 while the stream is up.",
        labels,
        [(at, float(stream.up)) for at, stream in streams],
    )
    yield gauges(
        "xiaozhi_im_bridge_stream_sessions",
        "Sessions on the stream.",
        labels,
        [(at, stream.sessions) for at, stream in streams],
    )
    yield gauges(
        "xiaozhi_im_bridge_stream_round_trip_seconds",
        "Round-trip time of the last heartbeat.",
        labels,
        [(at, stream.round_trip) for at, stream in streams if stream.round_trip is not None],
    )
    yield gauges(
        "xiaozhi_im_bridge_stream_outbox",
        "Items on their way to the network.",
        labels,
        [(at, stream.outbox) for at, stream in streams],
    )
    yield counters(
        "xiaozhi_im_bridge_stream_reconnects",
        "Times the stream reconnected.",
        labels,
        [(at, stream.reconnects) for at, stream in streams],
    )
