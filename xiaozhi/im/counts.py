"""Counters shared by all links of one edge process."""

from __future__ import annotations

from xiaozhi.metrics.instruments import LATENESS, Histogram, Tally


class EdgeCounts:
    """Counts since the start, in plain attributes: a packet pays for no call.

    :ivar frames_up: packets of sound that were taken from devices, and their bytes.
    :ivar frames_down: packets of sound that were sent to devices in turns that are
        over, and their bytes.
    :ivar messages: texts by direction (``up``, ``down``) and type.
    :ivar malformed: messages that could not be parsed.
    :ivar accepted: upgrade requests answered with 101. Those that were not
        are the edge's ``refusals``.
    :ivar closed: connections that ended, by reason; what a device writes into its
        Close frame is none.
    :ivar dropped: messages dropped, by reason.
    :ivar lateness: seconds between a packet's time to leave and its leaving.
    :ivar underruns: how often the next packet of a turn came when the device must have
        played everything before it.
    :ivar presence_errors: claims and releases that the presence table did not take.
    :ivar requests: HTTP requests by page and status.
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
