"""Counters shared by all links of one edge process."""

from __future__ import annotations

from xiaozhi.metrics.instruments import LATENESS, Histogram, Tally


class EdgeCounts:
    """Counters since the start, as plain attributes, so that a packet costs no call.

    :ivar frames_up: audio packets received from devices, and their bytes.
    :ivar frames_down: audio packets sent to devices in turns that are over, and their bytes.
    :ivar messages: texts by direction (``up``, ``down``) and type.
    :ivar malformed: messages that could not be parsed.
    :ivar accepted: upgrade requests answered with 101; the edge's ``refusals`` count the
        others.
    :ivar closed: connections that ended, by reason; never the text of a device's Close frame.
    :ivar dropped: messages dropped, by reason.
    :ivar lateness: seconds between the time at which a packet was due and its sending.
    :ivar underruns: times that the next packet of a turn arrived after the device must have
        played all previous ones.
    :ivar presence_errors: claims and releases that failed at the presence table.
    :ivar requests: HTTP requests, by page and status.
    """

    __slots__ = (
        "accepted",
        "bytes_down",
        "bytes_up",
        "closed",
        "dropped",
        "frames_down",
        "frames_up",
        "lateness",
        "malformed",
        "messages",
        "presence_errors",
        "requests",
        "underruns",
    )

    def __init__(self) -> None:
        self.frames_up = self.bytes_up = 0
        self.frames_down = self.bytes_down = 0
        self.malformed = self.underruns = self.presence_errors = 0
        self.messages = Tally()
        self.accepted = 0
        self.closed = Tally()
        self.dropped = Tally()
        self.requests = Tally()
        self.lateness = Histogram(LATENESS)

    def sent(self, frames: int, size: int) -> None:
        """Count the packets and bytes of a turn that is over."""
        self.frames_down += frames
        self.bytes_down += size
