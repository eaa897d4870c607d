"""Receive side of a session: deduplication, ordering, flow control."""

from __future__ import annotations

from xiaozhi.bridge.items import receipt


class Incoming:
    """Counts received messages and the acknowledgements and credit that are due.

    :param credit: audio packets that the other side may send ahead of those received.
    :ivar received: the sequence of the last message received.
    :ivar owes: an acknowledgement or a grant is due.
    :ivar paused: no more credit is granted.
    """

    __slots__ = ("_audio", "_credit", "_every", "_owed", "owes", "paused", "received")

    def __init__(self, credit: int) -> None:
        self.received = 0
        self.owes = False
        self.paused = False
        self._credit = credit
        self._every = max(1, credit // 8)
        self._audio = 0  # packets in all
        self._owed = 0  # packets since the last grant

    def begin(self, received: int = 0) -> None:
        """Restart the count: the other side restarted its own.

        :param received: last sequence known to be received.
        """
        self.received = received
        self._audio = self._owed = 0
        self.owes = False

    def audio(self) -> bool:
        """Count a received packet.

        :return: whether an acknowledgement or a grant should go out soon.
        """
        self._audio += 1
        self._owed += 1
        self.owes = True
        return self._owed >= self._every

    def skipped(self, sequence: int) -> None:
        """Skip everything up to ``sequence``. It was audio and counts as audio, because its
        sender cannot know how much of it arrived.
        """
        if sequence > self.received:
            self._audio += sequence - self.received
            self.received = sequence

    def receipt(self) -> bytes:
        """Return acknowledgement and credit, to be appended to an item."""
        self._owed = 0
        self.owes = False
        return receipt(self.received, 0 if self.paused else self._audio + self._credit)
